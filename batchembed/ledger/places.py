"""Where vectors are kept, where the rows of a corpus have theirs, and reading them from there."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchembed.exchange import RowNumbers

SOURCE_BITS = 40  # a file below 1 TB, and some 8 million files
NOWHERE = -1
SAME = -2  # SAME - n: the vector is that of row n, which has the same text
OFFSET = (1 << SOURCE_BITS) - 1
FAR = 2  # read at most so many times the bytes that are wanted
FEW = 8  # vectors a read, below which one read of the whole stretch is cheaper
MOST_OPEN = 64
NOTED = 256


@dataclass(slots=True)
class Source:
    """A file that vectors are read from, and the bytes that one takes.

    Where vectors are cut into several columns, `width` is that of one column, and `splits`, shape
    (batches, columns), the offset at which each column of each batch begins. A place is then the
    offset in the first column.
    """

    path: Path
    width: int
    splits: NDArray[np.int64] | None = None


class Places:
    """Where each row of a corpus has its vector: 8 bytes a row in a scratch file.

    A join writes what is known before anything is sent, and answers are noted as they come, many
    rows at a time. Another thread may read meanwhile, and wait for `news`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._noted: list[tuple[RowNumbers, int, int]] = []
        self._rows_noted = 0
        self.news = threading.Event()

    def fill(self, numbers: Iterable[NDArray[np.int64]]) -> None:
        """Write the place of every row in order: NOWHERE or `SAME - n` where there is none yet."""
        with self._file.open("wb") as file:
            for some in numbers:
                file.write(some.tobytes())

    def note(self, rows: RowNumbers, place: int, width: int) -> None:
        """Note that the vectors of `rows`, each of so many bytes, are at `place` and after it."""
        with self._lock:
            self._noted.append((rows, place, width))
            self._rows_noted += len(rows)
            if self._rows_noted >= NOTED:
                self._write()
                self.news.set()

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the places of the rows in [start, stop), NOWHERE where there is none."""
        with self._lock:
            self._write()
            found = np.fromfile(self._file, np.int64, stop - start, offset=start * 8)
            same = np.flatnonzero(found <= SAME)
            if len(same):
                found[same] = np.memmap(self._file, np.int64, "r")[SAME - found[same]]
        return found

    def _write(self) -> None:
        """Write down what was noted, rows that follow each other in one go."""
        if not self._noted:
            return
        rows = np.concatenate([rows for rows, _, _ in self._noted])
        places = np.concatenate(
            [place + width * np.arange(len(rows)) for rows, place, width in self._noted]
        )
        self._noted.clear()
        self._rows_noted = 0
        order = np.argsort(rows)
        rows, places = rows[order], places[order]
        bounds = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        with self._file.open("r+b") as file:
            for first, end in itertools.pairwise(bounds):
                file.seek(8 * int(rows[first]))
                file.write(places[first:end].tobytes())


class Reader:
    """Reads vectors at places with as few reads as their order allows."""

    def __init__(self, sources: list[Source], dimensions: int) -> None:
        self._files: dict[int, int] = {}
        self._sources = sources
        self._dimensions = dimensions
        self._widths = np.array([source.width for source in sources], np.int64)

    def read(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at `places`, shape (n, d); none of them may be NOWHERE.

        Raises OSError when a file has become shorter since it was read first.
        """
        out = np.empty((len(places), self._dimensions), np.float32)
        if not len(places):
            return out
        numbers = places >> SOURCE_BITS
        follows = np.diff(places) == self._widths[numbers[:-1]]
        bounds = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(places)]
        if len(bounds) > len(places) // FEW and self._is_near(places, numbers):
            return self._picked(places & OFFSET, int(numbers[0]))
        for start, stop in itertools.pairwise(bounds):
            place = int(places[start])
            self._fill(out[start:stop], place >> SOURCE_BITS, place & OFFSET)
        return out

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            with suppress(OSError):
                os.close(file)
        self._files.clear()

    def _is_near(self, places: NDArray[np.int64], numbers: NDArray[np.int64]) -> bool:
        """Return whether all vectors are scattered in one short stretch of one file.

        So they are after requests of one or few texts: each has a frame of its own.
        """
        width = self._dimensions * 4
        first, last = int(places.min()), int(places.max())
        return (
            first >> SOURCE_BITS == last >> SOURCE_BITS
            and self._widths[numbers[0]] == width
            and last - first + width <= FAR * len(places) * width
        )

    def _picked(self, offsets: NDArray[np.int64], number: int) -> NDArray[np.float32]:
        """Return the vectors at `offsets` of one file out of the whole stretch they lie in."""
        width, first = self._dimensions * 4, int(offsets.min())
        stretch = np.empty(int(offsets.max()) - first + width, np.uint8)
        _read_into(self._file(number), stretch, first)
        view = memoryview(stretch.data)
        picked = bytearray().join([view[at : at + width] for at in (offsets - first).tolist()])
        return np.frombuffer(picked, np.float32).reshape(-1, self._dimensions)

    def _fill(self, block: NDArray[np.float32], number: int, offset: int) -> None:
        source = self._sources[number]
        if source.splits is not None:
            self._join(block, number, offset)
        elif source.width == self._dimensions * 4:
            _read_into(self._file(number), block.reshape(-1).view(np.uint8), offset)
        else:
            half = np.empty(block.shape, np.float16)
            _read_into(self._file(number), half.reshape(-1).view(np.uint8), offset)
            block[:] = half

    def _join(self, block: NDArray[np.float32], number: int, offset: int) -> None:
        """Fill a block of rows of one batch from the columns that its vectors were cut into."""
        source = self._sources[number]
        assert source.splits is not None
        batch = source.splits[np.searchsorted(source.splits[:, 0], offset, side="right") - 1]
        size = self._dimensions // len(batch)
        stored = np.float32 if source.width == size * 4 else np.float16
        part = np.empty((len(block), size), stored)
        for column, start in enumerate(batch.tolist()):
            at = start + offset - int(batch[0])
            _read_into(self._file(number), part.reshape(-1).view(np.uint8), at)
            block[:, column * size : (column + 1) * size] = part

    def _file(self, number: int) -> int:
        if number not in self._files:
            if len(self._files) >= MOST_OPEN:
                self.close()
            path = self._sources[number].path
            self._files[number] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self._files[number]


def _read_into(file: int, block: NDArray[np.uint8], offset: int) -> None:
    view = memoryview(block.data)
    while view:
        got = os.preadv(file, [view], offset)
        if got == 0:
            raise OSError("a file with vectors is shorter than it was when it was read")
        view = view[got:]
        offset += got
