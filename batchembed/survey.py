"""One pass over the corpus before anything is sent: the key of every row, and what cannot be sent.

The keys stay in a scratch file, 17 bytes a row, so that later passes need not hash again. The texts
of a small corpus stay in memory until they are sent, so that it need not be read again.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchembed.controls import NOWHERE, Pattern, Places, Spans, check, controlled, find
from batchembed.corpus import Corpus, Rows
from batchembed.errors import CorpusError
from batchembed.exchange import Control, Keys, Limits, Request, Role
from batchembed.ledger import Missing
from batchembed.packing import Batch, Packer
from batchembed.prompts import Prompt, words
from batchembed.spec import KEY_BYTES, Keyer, unsendable, unsendable_prompt

ROWS_AT_ONCE = 8192
TEXTS_IN_MEMORY = 64 << 20
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


class Survey:
    """What the pass found. Use `take`; `close` is the removal of its scratch folder.

    A corpus whose texts take at most `room` bytes stays in memory for one more pass.
    """

    def __init__(self, folder: Path, *, room: int = TEXTS_IN_MEMORY) -> None:
        self._keys = folder / "keys"
        self._reasons = folder / "reasons"
        self._keyer: Keyer | None = None
        self._kept: deque[Rows] | None = deque()
        self._room = room
        self.total = 0
        self.unsendable: dict[str, int] = {}

    def take(
        self, corpus: Corpus, keyer: Keyer, reading: Reading, heard: Callable[[int], None]
    ) -> None:
        """Read the whole corpus once. `heard` is told how many rows were read since it last was.

        Raises CorpusError for a row whose controls its text cannot have.
        """
        self._keyer = keyer
        with self._keys.open("wb") as keys_file, self._reasons.open("wb") as reasons_file:
            for rows in corpus.texts():
                sent = reading.sent(rows)
                _check_controls(corpus, rows, sent, overlaps=reading.overlaps)
                keys, reasons = keyed(rows, keyer, reading.role, sent)
                keys_file.write(keys.tobytes())
                reasons_file.write(reasons.tobytes())
                self._count(rows, reasons)
                self._keep(rows)
                heard(len(rows.texts))

    @property
    def lost(self) -> int:
        """How many rows have no text that could be sent."""
        return sum(self.unsendable.values())

    def keys(self) -> Iterator[Keys]:
        """Yield the keys of all rows in corpus order, shape (n, 16); zeros where none."""
        for start in range(0, self.total, ROWS_AT_ONCE):
            yield self.read(start, min(start + ROWS_AT_ONCE, self.total))[0]

    def read(self, start: int, stop: int) -> tuple[Keys, NDArray[np.uint8]]:
        """Return (keys, numbers in REASONS) of the rows in [start, stop)."""
        count = stop - start
        keys = np.fromfile(self._keys, np.uint8, count * KEY_BYTES, offset=start * KEY_BYTES)
        reasons = np.fromfile(self._reasons, np.uint8, count, offset=start)
        return keys.reshape(-1, KEY_BYTES), reasons

    def rows(self, corpus: Corpus) -> Iterator[Rows]:
        """Yield all rows once more: from memory, where they are forgotten then, or by reading.

        Raises CorpusError when a file is not as it was.
        """
        if self._kept is None:
            yield from corpus.texts()
            return
        corpus.unchanged()
        while self._kept:
            yield self._kept.popleft()
        self._kept = None

    def again(self, rows: Rows, reading: Reading, sent: Sent) -> Keys:
        """Return the keys, (n, 16), of some of `rows`.

        Raises CorpusError unless rows that were read again are what they were: a vector of another
        text must never come under a key, and a file may be written anew while it is read.
        """
        assert self._keyer is not None
        keys = self.read(rows.first, rows.first + len(rows.texts))[0]
        if self._kept is not None:
            return keys
        if not np.array_equal(keys, keyed(rows, self._keyer, reading.role, sent)[0]):
            raise CorpusError(
                f"rows `{rows.first}` to `{rows.first + len(rows.texts) - 1}` of the corpus are "
                "not what they were when the run began",
                hint="let nothing write to it while it is read, then run the same command again",
            )
        return keys

    def _keep(self, rows: Rows) -> None:
        """Keep rows in memory while there is room for all, and they are nothing but texts."""
        if self._kept is None:
            return
        self._room -= sum(map(sys.getsizeof, rows.texts))
        more = (rows.controls, rows.spans, rows.prompts)
        if self._room < 0 or any(part is not None for part in more):
            self._kept = None
        else:
            self._kept.append(rows)

    def _count(self, rows: Rows, reasons: NDArray[np.uint8]) -> None:
        self.total += len(rows.texts)
        for number in np.unique(reasons[reasons > 0]).tolist():
            name = REASONS[number]
            self.unsendable[name] = self.unsendable.get(name, 0) + int((reasons == number).sum())


class CorpusFeed:
    """The second pass: requests of the rows that a ledger misses, in corpus order."""

    def __init__(
        self, corpus: Corpus, survey: Survey, missing: Missing, reading: Reading, packer: Packer
    ) -> None:
        self._corpus = corpus
        self._survey = survey
        self._missing = missing
        self._reading = reading
        self._packer = packer

    def upcoming(self) -> Iterator[list[Request]]:
        """Yield a list of requests for every batch of the corpus, empty where nothing is missed.

        Whoever iterates can so stop after any batch, also where millions of rows are paid for.
        """
        for rows in self._survey.rows(self._corpus):
            stop = rows.first + len(rows.texts)
            wanted = np.flatnonzero(self._missing.mask(rows.first, stop))
            yield list(self._packer.add(self._batch(rows, wanted))) if len(wanted) else []
        yield list(self._packer.flush())

    def fit(self, limits: Limits) -> None:
        """Make requests within `limits`; before any is made."""
        self._packer.limits = limits

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Make further requests hold no more texts, and no more bytes, than this."""
        self._packer.tighten(texts, size)

    def _batch(self, rows: Rows, wanted: NDArray[np.int64]) -> Batch:
        sent = self._reading.sent(rows)
        keys, controls = self._survey.again(rows, self._reading, sent), sent.controls
        whole = len(wanted) == len(rows.texts)
        positions = range(len(rows.texts)) if whole else wanted.tolist()
        texts = [rows.texts[at] for at in positions]
        prompts = None
        if sent.prompts is not None:
            prompts = [p for p in map(sent.prompts.__getitem__, positions) if isinstance(p, tuple)]
            texts = [words(prompt) for prompt in prompts]
        return Batch(
            keys=keys if whole else keys[wanted],
            rows=rows.first + wanted,
            texts=[text for text in texts if text is not None],
            roles=self._reading.role
            if rows.roles is None
            else [rows.roles[at] for at in positions],
            controls=None if controls is None else [controls[at] for at in positions],
            prompts=prompts,
        )


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


def _check_controls(corpus: Corpus, rows: Rows, sent: Sent, *, overlaps: bool) -> None:
    for at, own in enumerate(sent.controls or ()):
        if not overlaps and any(control.overlap for control in own):
            raise CorpusError(
                f"{corpus.where(rows.first + at)}: the provider knows no `token_overlap`",
                hint="leave it out of the controls, or use provider `aleph-alpha`",
            )
        if own and (why := check(own, rows.texts[at] or "")):
            raise CorpusError(
                f"{corpus.where(rows.first + at)}: {why}",
                hint="controls count characters from 0 and stay inside the text",
            )
