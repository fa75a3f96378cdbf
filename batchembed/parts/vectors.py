"""A run as one side of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import DamagedError, UsageError
from batchembed.exchange import Vectors
from batchembed.parts.manifest import KEY, MANIFEST, Manifest, read_manifest
from batchembed.store import Store


class RunVectors:
    """A run as one side of a comparison: its ids and vectors, read by row range.

    `manifest` is that of files which are not published yet; None: the one in `root`. `name` is
    what the run is called in messages and files; by default, its folder. `column` is the one of
    vectors: it must be named where a run has several.
    """

    def __init__(
        self,
        root: Path,
        manifest: Manifest | None = None,
        *,
        name: str = "",
        column: str | None = None,
    ) -> None:
        store = Store(root)
        manifest = manifest or read_manifest(store)
        if manifest is None:
            raise UsageError(
                f"`{root}` is not a complete run: it has no {MANIFEST}",
                hint="finish it with `batchembed run`, or give the folder of a finished run",
            )
        self.manifest = manifest
        self.vector = _chosen(manifest.columns, column, root)
        self.name = name or root.name
        self.rows = sum(part.rows for part in manifest.parts)
        self.dimensions = manifest.dimensions
        self.role = str(manifest.identity["role"])
        self._batches: list[tuple[int, pa.RecordBatch]] = []
        start = 0
        for part in manifest.parts:
            for batch in _batches(store.path(part.name), part.bytes):
                self._batches.append((start, batch))
                start += len(batch)
        self._starts = np.array([start for start, _ in self._batches], np.int64)

    @cached_property
    def ids(self) -> pa.Array:
        """One id a row: the id column of the corpus, else the row number."""
        return self.column(self.manifest.corpus["id"])

    def column(self, name: str | None) -> pa.Array:
        """Return a column of the whole run; the row numbers for None."""
        if name is None:
            return pa.array(np.arange(self.rows, dtype=np.int64))
        columns = [batch.column(batch.schema.get_field_index(name)) for _, batch in self._batches]
        return pa.chunked_array(columns).combine_chunks() if columns else pa.nulls(0)

    @property
    def names(self) -> list[str]:
        """The columns that the corpus gave, but vectors and key."""
        schema = self._batches[0][1].schema if self._batches else pa.schema([])
        return [n for n in schema.names if n != KEY and n not in self.manifest.columns]

    def row(self, row: int) -> dict[str, Any]:
        """Return the columns of one row, but its vector and key."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        first, batch = self._batches[number]
        names = [n for n in batch.schema.names if n != KEY and n not in self.manifest.columns]
        told: dict[str, Any] = batch.select(names).slice(row - first, 1).to_pylist()[0]
        return told

    def take(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return whole rows, vector and key included; `rows` are numbers in ascending order."""
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        pieces = [
            batch.take(pa.array(rows[numbers == number] - first))
            for number in np.unique(numbers)
            for first, batch in [self._batches[number]]
        ]
        return pa.Table.from_batches(pieces)

    def read(self, start: int, stop: int) -> tuple[Vectors, NDArray[np.bool_]]:
        """Return the vectors of the rows in [start, stop), (n, d), and which rows have one."""
        vectors = np.zeros((stop - start, self.dimensions), np.float32)
        has = np.zeros(stop - start, np.bool_)
        number = max(0, int(np.searchsorted(self._starts, start, side="right")) - 1)
        while number < len(self._batches) and self._batches[number][0] < stop:
            first, batch = self._batches[number]
            low, high = max(start, first), min(stop, first + len(batch))
            column = batch.column(batch.schema.get_field_index(self.vector)).slice(
                low - first, high - low
            )
            values = column.values.to_numpy(zero_copy_only=False).reshape(-1, self.dimensions)
            offset = low - first
            vectors[low - start : high - start] = values[offset : offset + high - low]
            has[low - start : high - start] = column.is_valid().to_numpy(zero_copy_only=False)
            number += 1
        return vectors, has

    def part_of(self, joined: Vectors) -> Vectors:
        """Return what of all vectors of a text, one after the other, this column has."""
        start = self.manifest.columns.index(self.vector) * self.dimensions
        return joined[start : start + self.dimensions]

    def close(self) -> None:
        """Let go of the files."""
        self._batches.clear()


def _chosen(columns: tuple[str, ...], column: str | None, root: Path) -> str:
    """Return the column of vectors to read; UsageError where none or a wrong one is named."""
    if column is None and len(columns) == 1:
        return columns[0]
    if column in columns:
        return column
    there = ", ".join(f"`{name}`" for name in columns)
    why = f"has no vectors in a column `{column}`" if column else "has several columns of vectors"
    raise UsageError(f"`{root}` {why}", hint=f"name one as `column`: {there}")


def _batches(path: Path, size: int) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a part; raises DamagedError for one that is not what was written."""
    if not path.is_file():
        raise _unreadable(path, "is missing")
    if (found := path.stat().st_size) != size:
        raise _unreadable(path, f"has {found} bytes, not {size}")
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, f"cannot be read: {error}") from error


def _unreadable(path: Path, why: str) -> DamagedError:
    return DamagedError(
        f"`{path}` {why}", hint="delete it and run its job again: what is missing is made anew"
    )
