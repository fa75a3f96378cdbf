"""Everything that changes a vector and nothing else: its fingerprint, and the keys of texts."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import orjson

from batchembed.described import Described
from batchembed.exchange import Control, Keys, Role
from batchembed.prompts import Image, ImageControl, Piece, Prompt, Text, Tokens, kinds, words

KEY_BYTES = 16
_OVERLAPS = {None: b"", "partial": b"p", "complete": b"c"}
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Spec:
    """What a vector depends on, besides its text, role and controls.

    A field at its default is left out of the fingerprint, so that a new field does not
    invalidate what was paid for before it existed.
    """

    provider: str
    name: str
    base_url: str | None = None
    dimensions: int | None = None
    normalize: bool = True
    on_long_text: str = "reject"
    endpoint: str = "auto"
    instruction: str | None = None
    layers: tuple[int, ...] = ()
    pooling: tuple[str, ...] = ()
    contextual_control_threshold: float | None = None
    control_log_additive: bool = True
    prefixes: tuple[tuple[str, str], ...] = ()
    instructions: tuple[tuple[str, str], ...] = ()
    prompts: tuple[tuple[str, str], ...] = ()
    http: Described | None = None

    @property
    def outputs(self) -> int:
        """How many vectors are made of one text: one for each layer and pooling, else one."""
        return max(1, len(self.layers) * len(self.pooling))

    def told(self) -> dict[str, Any]:
        """Return the fields that are not at their default, as plain JSON values."""
        given = asdict(self)
        if self.http is not None:
            given["http"] = self.http.told()
        return {f.name: given[f.name] for f in fields(self) if given[f.name] != f.default}

    def fingerprint(self) -> str:
        """Return 32 hex digits that are equal exactly when the specs are equal."""
        canonical = orjson.dumps(self.told(), option=orjson.OPT_SORT_KEYS)
        seed = b"batchembed spec %d\n" % FORMAT + canonical
        return hashlib.blake2b(seed, digest_size=KEY_BYTES).hexdigest()

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Return one line per field in which `other` (as `told`) differs, old value first."""
        mine = orjson.loads(orjson.dumps(self.told()))
        defaults = {f.name: f.default for f in fields(self)}
        return [
            f"{name}: {_word(other.get(name, defaults.get(name)))} -> "
            f"{_word(mine.get(name, defaults.get(name)))}"
            for name in sorted(mine.keys() | other.keys())
            if mine.get(name) != other.get(name)
        ]


class Keyer:
    """Computes keys: the content hash of spec, role, text and controls.

    The role, the controls and the text are hashed in a form in which no two different
    inputs look alike: the bytes 0xFE and 0xFF never occur in UTF-8, so they end a text. What is
    more than one text is hashed piece by piece, each behind 0xFE and a letter of its kind.
    """

    def __init__(self, spec: Spec) -> None:
        seed = b"batchembed key %d\n" % FORMAT + spec.fingerprint().encode()
        self._seeded = {
            role: hashlib.blake2b(seed + role.encode() + b"\n", digest_size=KEY_BYTES)
            for role in ("symmetric", "document", "query")
        }

    def key(self, text: str, role: Role, controls: Sequence[Control] = ()) -> bytes:
        """Return the 16 bytes of one text's key. Raises UnicodeEncodeError on lone surrogates."""
        state = self._seeded[role].copy()
        state.update(text.encode())
        for control in controls:
            state.update(_control(control))
        return state.digest()

    def prompt_key(self, prompt: Prompt, role: Role) -> bytes:
        """Return the 16 bytes of a prompt's key; that of a text alone is the text's own.

        Raises UnicodeEncodeError on lone surrogates.
        """
        if len(prompt) == 1 and isinstance(prompt[0], Text):
            return self.key(prompt[0].text, role, prompt[0].controls)
        state = self._seeded[role].copy()
        for piece in prompt:
            state.update(_piece(piece))
        return state.digest()

    def keys(
        self,
        texts: Sequence[str],
        role: Role | Sequence[Role],
        controls: Sequence[Sequence[Control]] | None = None,
    ) -> Keys:
        """Return the keys of many texts, shape (n, 16), uint8."""
        if controls is None and isinstance(role, str):
            joined = b"".join(self._plain(texts, role))
        else:
            roles: Sequence[Role] = [role] * len(texts) if isinstance(role, str) else role
            spans: Sequence[Sequence[Control]] = controls or [()] * len(texts)
            joined = b"".join(map(self.key, texts, roles, spans))
        return np.frombuffer(joined, dtype=np.uint8).reshape(-1, KEY_BYTES)

    def _plain(self, texts: Sequence[str], role: Role) -> list[bytes]:
        copy = self._seeded[role].copy
        digests = []
        for text in texts:
            state = copy()
            state.update(text.encode())
            digests.append(state.digest())
        return digests


def _piece(piece: Piece) -> bytes:
    """Return what tells a piece of a prompt from all others."""
    match piece:
        case Text():
            return b"\xfet" + piece.text.encode() + b"".join(map(_control, piece.controls))
        case Image():
            digest = hashlib.blake2b(piece.data, digest_size=KEY_BYTES).digest()
            crop = struct.pack("<?qqq", piece.crop is not None, *(piece.crop or (0, 0, 0)))
            return b"\xfei" + digest + crop + b"".join(map(_image_control, piece.controls))
        case Tokens():
            ids = struct.pack(f"<q{len(piece.ids)}q", len(piece.ids), *piece.ids)
            spans = (struct.pack("<qd", c.index, c.factor) for c in piece.controls)
            return b"\xfek" + ids + b"".join(b"\xff" + span for span in spans)


def _control(control: Control) -> bytes:
    span = struct.pack("<qqd", control.start, control.length, control.factor)
    return b"\xff" + span + _OVERLAPS[control.overlap]


def _image_control(control: ImageControl) -> bytes:
    rect = (control.left, control.top, control.width, control.height)
    return b"\xff" + struct.pack("<5d", *rect, control.factor) + _OVERLAPS[control.overlap]


def unsendable_prompt(prompt: Prompt) -> str | None:
    """Return why no provider could embed `prompt`, or None when one may be asked."""
    if not prompt:
        return "empty_prompt"
    why = unsendable(words(prompt))
    return None if why in ("empty_text", "blank_text") and kinds([prompt]) != {"text"} else why


def unsendable(text: str | None) -> str | None:
    """Return why no provider could embed `text`, or None when one may be asked."""
    if text is None:
        return "null_text"
    if not text:
        return "empty_text"
    if text.isspace():
        return "blank_text"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "lone_surrogate"
    return None


def _word(value: object) -> str:
    return "not set" if value is None else f"`{value}`"
