"""How rows become what is sent: roles, controls and prompts; their keys, or why they have none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from batchembed.controls import NOWHERE, Pattern, Places, Spans, controlled, find
from batchembed.corpus import Rows
from batchembed.exchange import Control, Keys, Role
from batchembed.prompts import Prompt
from batchembed.spec import KEY_BYTES, Keyer, unsendable, unsendable_prompt

REASONS = (
    *("", "null_text", "empty_text", "blank_text", "lone_surrogate"),
    *("null_image", "missing_image", "unreadable_image", "empty_prompt"),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What of some rows would be sent besides their texts, each None where no row has any.

    `prompts` takes the place of texts and controls; in it, a row without one has the reason.
    """

    controls: list[tuple[Control, ...]] | None = None
    prompts: list[Prompt | str] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """How rows become texts to send: the role of rows without one, and control patterns.

    `image` and `tokens` are the columns of such; `overlaps`: controls may say `token_overlap`.
    """

    role: Role
    patterns: Sequence[Pattern] = ()
    image: str | None = None
    tokens: str | None = None
    overlaps: bool = True

    def sent(self, rows: Rows) -> Sent:
        """Return what would be sent of rows: controls from their column and by pattern, prompts."""
        if rows.prompts is not None:
            return Sent(prompts=self._prompts(rows, rows.prompts()))
        if not self.patterns:
            return Sent(rows.controls)
        given = rows.controls or [()] * len(rows.texts)
        places = self._places(rows)
        return Sent(
            [
                (*some, *(find(self.patterns, text, spans) if text else ()))
                for some, text, spans in zip(given, rows.texts, places, strict=True)
            ]
        )

    def _prompts(self, rows: Rows, found: list[Prompt | str]) -> list[Prompt | str]:
        if not self.patterns:
            return found
        return [
            prompt
            if isinstance(prompt, str)
            else controlled(prompt, self.patterns, Places(spans, self.image, self.tokens))
            for prompt, spans in zip(found, self._places(rows), strict=True)
        ]

    def _places(self, rows: Rows) -> Iterable[Mapping[str, Spans]]:
        """Return, for each row, where in its text the columns stand that patterns name."""
        named = {p.column for p in self.patterns if p.column} - {self.image, self.tokens}
        if not named or rows.spans is None:
            return repeat(NOWHERE, len(rows.texts))
        found = {name: rows.spans(name) for name in named}
        return ({name: spans[at] for name, spans in found.items()} for at in range(len(rows.texts)))


def keyed(rows: Rows, keyer: Keyer, role: Role, sent: Sent) -> tuple[Keys, NDArray[np.uint8]]:
    """Return the rows' keys, (n, 16), zeros where the text cannot be sent, and why, (n,)."""
    if sent.prompts is not None:
        return _keyed_prompts(sent.prompts, rows.roles or repeat(role), keyer)
    texts, controls = rows.texts, sent.controls
    odd = [at for at, text in enumerate(texts) if not text or text.isspace()]
    if not odd:
        try:
            keys = keyer.keys([t for t in texts if t], rows.roles or role, controls)
        except UnicodeEncodeError:
            pass
        else:
            return keys, np.zeros(len(texts), np.uint8)
    keys = np.zeros((len(texts), KEY_BYTES), np.uint8)
    reasons = np.zeros(len(texts), np.uint8)
    for at, text in enumerate(texts):
        if why := unsendable(text):
            reasons[at] = REASONS.index(why)
            continue
        assert text is not None
        own_role = rows.roles[at] if rows.roles else role
        own = controls[at] if controls else ()
        keys[at] = np.frombuffer(keyer.key(text, own_role, own), np.uint8)
    return keys, reasons


def _keyed_prompts(
    prompts: Sequence[Prompt | str], roles: Iterable[Role], keyer: Keyer
) -> tuple[Keys, NDArray[np.uint8]]:
    keys = np.zeros((len(prompts), KEY_BYTES), np.uint8)
    reasons = np.zeros(len(prompts), np.uint8)
    for at, (prompt, role) in enumerate(zip(prompts, roles, strict=False)):
        why = prompt if isinstance(prompt, str) else unsendable_prompt(prompt)
        if why or isinstance(prompt, str):
            reasons[at] = REASONS.index(why or "")
        else:
            keys[at] = np.frombuffer(keyer.prompt_key(prompt, role), np.uint8)
    return keys, reasons
