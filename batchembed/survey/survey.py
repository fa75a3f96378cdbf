"""The first pass: the key of every row in a scratch file, 17 bytes a row, and what has none.

So later passes need not hash again. The texts of a small corpus stay in memory until they are
sent, so that it need not be read again.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from batchembed.controls import check
from batchembed.corpus import Corpus, Rows
from batchembed.errors import CorpusError
from batchembed.exchange import Keys
from batchembed.spec import KEY_BYTES, Keyer
from batchembed.survey.rows import REASONS, Reading, Sent, keyed

ROWS_AT_ONCE = 8192
TEXTS_IN_MEMORY = 64 << 20


class Read(Protocol):
    """What a survey needs of a corpus."""

    def texts(self) -> Iterator[Rows]:
        """Yield all rows, some at a time."""

    def where(self, row: int) -> str:
        """Return in words where a row is."""


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
        self, corpus: Read, keyer: Keyer, reading: Reading, heard: Callable[[int], None]
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
                self._keep(rows, reading)
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

    def _keep(self, rows: Rows, reading: Reading) -> None:
        """Keep rows in memory while there is room for all, and they are nothing but texts."""
        if self._kept is None:
            return
        self._room -= sum(map(sys.getsizeof, rows.texts))
        more = rows.controls is not None or rows.prompts is not None
        if self._room < 0 or more or any(pattern.column for pattern in reading.patterns):
            self._kept = None
        else:  # its spans hold all columns of the rows
            self._kept.append(replace(rows, spans=None))

    def _count(self, rows: Rows, reasons: NDArray[np.uint8]) -> None:
        self.total += len(rows.texts)
        for number in np.unique(reasons[reasons > 0]).tolist():
            name = REASONS[number]
            self.unsendable[name] = self.unsendable.get(name, 0) + int((reasons == number).sum())


def _check_controls(corpus: Read, rows: Rows, sent: Sent, *, overlaps: bool) -> None:
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
