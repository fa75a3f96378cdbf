"""Fixed-size rows sorted into buckets, spilled to scratch files, so that a join fits in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]
"""A structured array: one entry a row."""

BUCKETS = 256
IN_MEMORY = 1 << 18


class Buckets:
    """Collects rows of one dtype under bucket numbers below 256, and gives them back by bucket.

    Rows keep the order in which they were added within their bucket. Up to `in_memory` rows
    stay in memory; beyond that everything is appended to one scratch file per bucket, in a
    private folder under `scratch` (None: the system's temporary folder) that `close` removes.
    """

    def __init__(
        self, dtype: Any, *, scratch: Path | None = None, in_memory: int = IN_MEMORY
    ) -> None:
        self.dtype = np.dtype(dtype)
        self._scratch = scratch
        self._in_memory = in_memory
        self._waiting: list[tuple[Rows, NDArray[np.uint8]]] = []
        self._waiting_rows = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[int, Path] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, rows: Rows, bucket: NDArray[np.uint8]) -> None:
        """Add `rows`, shape (n,), each to the bucket of the same position."""
        self._waiting.append((rows, bucket))
        self._waiting_rows += len(rows)
        if self._waiting_rows > self._in_memory:
            self._spill()

    def __iter__(self) -> Iterator[Rows]:
        """Yield the rows of each bucket that has any, by bucket number.

        Rows that were never spilled come as one array, of all buckets and in no order of them.
        """
        if self._folder is None:
            if self._waiting:
                yield np.concatenate([rows for rows, _ in self._waiting])
            return
        self._spill()
        for _, file in sorted(self._files.items()):
            yield np.fromfile(file, dtype=self.dtype)

    def numbered(self) -> Iterator[tuple[int, Rows]]:
        """Yield (bucket number, its rows) for each bucket that has any, by bucket number."""
        if self._folder is None:
            yield from self._sorted_out()
            return
        self._spill()
        for number, file in sorted(self._files.items()):
            yield number, np.fromfile(file, dtype=self.dtype)

    def close(self) -> None:
        """Forget everything and remove the scratch files."""
        self._waiting.clear()
        self._waiting_rows = 0
        self._files.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _spill(self) -> None:
        for number, rows in self._sorted_out():
            with self._file(number).open("ab") as file:
                file.write(rows.tobytes())

    def _sorted_out(self) -> Iterator[tuple[int, Rows]]:
        """Yield the rows in memory by bucket, and forget them."""
        if not self._waiting:
            return
        rows = np.concatenate([rows for rows, _ in self._waiting])
        bucket = np.concatenate([numbers for _, numbers in self._waiting])
        self._waiting.clear()
        self._waiting_rows = 0
        order = np.argsort(bucket, kind="stable")
        rows = rows[order]
        ends = np.cumsum(np.bincount(bucket, minlength=BUCKETS))
        for number in np.unique(bucket).tolist():
            start = ends[number - 1] if number else 0
            yield number, rows[start : ends[number]]

    def _file(self, number: int) -> Path:
        """Return the file of a bucket; none is kept open, since a join would hold 512 of them."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="join-", dir=self._scratch)
        return self._files.setdefault(number, Path(self._folder.name) / f"{number:03d}")
