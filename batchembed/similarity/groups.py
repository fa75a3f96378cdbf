"""Rows that are as good as one another: groups of near duplicates, and the closest pairs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.similarity.pairs import Pairs
from batchembed.similarity.products import Positions

_ROWS_IN_BATCH = 1 << 16


@dataclass(frozen=True, slots=True)
class Group:
    """Near duplicates: their rows, ascending. The first is the one to keep."""

    rows: tuple[int, ...]

    @property
    def keep(self) -> int:
        """Return the row to keep: the first in the corpus."""
        return self.rows[0]


def connected(pairs: Iterable[Pairs], rows: int) -> Positions:
    """Return for each row the first row that it is connected with, through any number of pairs."""
    first = np.arange(rows)
    for left, right, _ in pairs:
        _join(first, left, right)
    return _flat(first)


def _join(first: Positions, left: Positions, right: Positions) -> None:
    """Let each pair's rows have the same first row, and whatever those were connected with."""
    while left.size:
        a, b = _root(first, left), _root(first, right)
        apart = a != b
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        # Of several who claim the same row the least wins; the others meet it the next time.
        np.minimum.at(first, np.maximum(a, b), np.minimum(a, b))


def _root(first: Positions, rows: Positions) -> Positions:
    found = first[rows]
    while (again := first[found]).tobytes() != found.tobytes():
        found = again
    return found


def _flat(first: Positions) -> Positions:
    return _root(first, np.arange(first.size))


def groups_of(first: Positions) -> Iterator[Group]:
    """Yield the groups of two rows or more, by their first rows."""
    order, starts = _in_groups(first)
    for part in np.split(order, starts[1:]) if order.size else ():
        yield Group(tuple(part.tolist()))


def _in_groups(first: Positions) -> tuple[Positions, NDArray[np.int64]]:
    """Return the rows that have company, group by group, and where each group starts."""
    sizes = np.bincount(first, minlength=first.size)
    rows = np.flatnonzero(sizes[first] > 1)
    order = rows[np.argsort(first[rows], kind="stable")]
    return order, np.flatnonzero(np.diff(first[order], prepend=-1))


def groups_schema(ids: pa.DataType, about: dict[bytes, bytes]) -> pa.Schema:
    """Return `group`, `id`, `keep`, `rows`: one row for each row that has near duplicates."""
    return pa.schema(
        [("group", pa.int64()), ("id", ids), ("keep", pa.bool_()), ("rows", pa.int64())],
        metadata=about,
    )


def groups_batches(schema: pa.Schema, first: Positions, ids: pa.Array) -> Iterator[pa.RecordBatch]:
    """Yield the groups, the row to keep before its duplicates, a fixed number of rows a batch."""
    order, starts = _in_groups(first)
    sizes = np.diff(np.append(starts, order.size))
    numbers = np.repeat(np.arange(starts.size), sizes)
    for start in range(0, order.size, _ROWS_IN_BATCH):
        part = slice(start, start + _ROWS_IN_BATCH)
        rows = order[part]
        yield pa.record_batch(
            [
                pa.array(numbers[part]),
                ids.take(pa.array(rows)),
                pa.array(first[rows] == rows),
                pa.array(sizes[numbers[part]]),
            ],
            schema=schema,
        )
