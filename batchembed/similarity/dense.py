"""Every score of every row, streamed in stripes of rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.similarity.blocks import Grid, Side
from batchembed.similarity.products import Floats
from batchembed.similarity.settings import Meter, Progress
from batchembed.similarity.vectors import Surveyed

# These scores come from BLAS, so the shape of its work must not depend on any setting: tiles
# start at row 0, are padded to full size, and dimensions are added up by the 128. That also
# keeps the error of float32 below 1e-6, which longer sums pass.
TILE = 2048
STRIPE = 512
DIMENSIONS_AT_ONCE = 128
LEAST_STRIPE = 16
_STRIPE_BYTES = 128 << 20


class DenseScores:
    """Makes the record batches of dense scores; `right` None means the left itself.

    Rows without a vector have null `scores`, and a null in everybody else's.
    """

    def __init__(
        self,
        left: Surveyed,
        right: Surveyed | None,
        *,
        cosine: bool,
        budget: int,
        progress: Progress | None,
    ) -> None:
        others = left if right is None else right
        self.height = stripe_height(others[0].rows)
        self.left = _side(left, cosine=cosine, grid=Grid(tile=self.height, budget=budget // 8))
        self.right = _side(others, cosine=cosine, grid=Grid(tile=TILE, budget=budget))
        self.diagonal = right is None and cosine
        self.meter = Meter(progress, left[0].rows * others[0].rows)
        self._absent = np.flatnonzero(self.right.squares == 0)

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Yield the rows in corpus order; the schema says whether scores are 16 or 32 bits."""
        kind = schema.field("scores").type
        value = np.dtype(kind.value_type.to_pandas_dtype())
        names = self.left.vectors.ids
        scores = np.zeros((self.height, self.right.rows.size), np.float32)
        for number in range(self.left.tiles):
            count = self.left.length(number)
            self._fill(number, scores)
            ids = names.slice(number * self.height, count)
            lists = self._lists(number, scores[:count].astype(value, copy=False), kind)
            yield pa.record_batch([ids, lists], schema=schema)
            self.meter.add(count * int(self.right.rows.size))

    def _fill(self, number: int, scores: Floats) -> None:
        rows = _padded(self.left[number].operand, self.height)
        for j in range(self.right.tiles):
            columns = slice(j * TILE, j * TILE + self.right.length(j))
            block = product(rows, _padded(self.right[j].operand, TILE))
            scores[:, columns] = block[:, : self.right.length(j)]
        if self.left.unit:
            np.clip(scores, -1.0, 1.0, out=scores)
        if self.diagonal:
            own = np.arange(self.left.length(number))
            scores[own, number * self.height + own] = 1.0

    def _lists(self, number: int, scores: NDArray[np.floating], kind: pa.DataType) -> pa.Array:
        """Return a FixedSizeList array over the scores, without copying them."""
        count, width = scores.shape
        bits = None
        if self._absent.size:
            there = np.ones((count, width), np.bool_)
            there[:, self._absent] = False
            bits = pa.py_buffer(np.packbits(there, bitorder="little"))
        values = pa.Array.from_buffers(
            kind.value_type, scores.size, [bits, pa.py_buffer(np.ascontiguousarray(scores))]
        )
        start = number * self.height
        valid = self.left.squares[start : start + count] > 0
        mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
        return pa.Array.from_buffers(kind, count, [mask], children=[values])


def product(rows: Floats, columns: Floats) -> Floats:
    """Return rows times columns transposed, the dimensions added up piece by piece."""
    scores = np.zeros((len(rows), len(columns)), np.float32)
    for start in range(0, rows.shape[1], DIMENSIONS_AT_ONCE):
        part = slice(start, start + DIMENSIONS_AT_ONCE)
        scores += rows[:, part] @ columns[:, part].T
    return scores


def stripe_height(columns: int) -> int:
    """Return how many rows are made at once: 512, or fewer where that takes over 128 MB."""
    height = STRIPE
    while height > LEAST_STRIPE and height * columns * 4 > _STRIPE_BYTES:
        height //= 2
    return height


def _padded(block: Floats, height: int) -> Floats:
    if len(block) == height:
        return block
    full = np.zeros((height, block.shape[1]), np.float32)
    full[: len(block)] = block
    return full


def _side(of: Surveyed, *, cosine: bool, grid: Grid) -> Side:
    """Return a side of all rows, in which those without a vector have length 0."""
    vectors, found = of
    squares = np.zeros(vectors.rows)
    squares[found.kept] = found.squares
    return Side(vectors, np.arange(vectors.rows), squares, unit=cosine, grid=grid)
