"""Every score of every row, streamed in stripes of rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.similarity.blocks import Grid, Side
from batchembed.similarity.products import Buffers, Floats
from batchembed.similarity.settings import Meter, Progress
from batchembed.similarity.vectors import Surveyed

# These scores come from BLAS, so the shape of its work must not depend on any setting: tiles
# start at row 0, are padded to full size, and dimensions are added up by the 128. That also
# keeps the error of float32 below 1e-6, which longer sums pass.
TILE = 2048
STRIPE = 512
DIMENSIONS_AT_ONCE = 128
LEAST_STRIPE = 16
_STRIPE_BYTES = 64 << 20
_AHEAD = 1

Scores = NDArray[np.floating[Any]]


class DenseScores:
    """Makes the record batches of dense scores; `right` None means the left itself.

    Rows without a vector have null `scores`, and a null in everybody else's. While a stripe is
    written, threads make the next ones: memory holds one more than there are threads, and that
    which is written.
    """

    def __init__(
        self,
        left: Surveyed,
        right: Surveyed | None,
        *,
        cosine: bool,
        grid: Grid,
        progress: Progress | None,
    ) -> None:
        others = left if right is None else right
        self.height = stripe_height(others[0].rows)
        mine = Grid(tile=self.height, budget=grid.budget // 8)
        self.left = _side(left, cosine=cosine, grid=mine)
        self.right = _side(others, cosine=cosine, grid=Grid(tile=TILE, budget=grid.budget))
        self.threads = grid.threads
        self.diagonal = right is None and cosine
        self.meter = Meter(progress, left[0].rows * others[0].rows)
        self._absent = np.flatnonzero(self.right.squares == 0)
        self._buffers, self._parts = Buffers(np.float32), Buffers(np.float32)

    def batches(self, schema: pa.Schema, first: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield the rows in corpus order, from batch `first` on; the schema gives scores' bits.

        A batch must be written before the next is asked for: its memory is used again.
        """
        kind = schema.field("scores").type
        names = self.left.vectors.ids
        if first:
            self.meter.add(
                min(first * self.height, int(self.left.rows.size)) * int(self.right.rows.size)
            )
        for number, scores in self._stripes(np.dtype(kind.value_type.to_pandas_dtype()), first):
            count = self.left.length(number)
            ids = names.slice(number * self.height, count)
            yield pa.record_batch([ids, self._lists(number, scores[:count], kind)], schema=schema)
            self.meter.add(count * int(self.right.rows.size))

    def _stripes(self, value: np.dtype[Any], first: int) -> Iterator[tuple[int, Scores]]:
        """Yield (stripe, its scores) in order, while threads make those that follow."""
        shape = self.height, int(self.right.rows.size)
        count = max(1, min(self.left.tiles - first, self.threads + _AHEAD + 1))
        rooms = [np.zeros(shape, value) for _ in range(count)]
        with ThreadPoolExecutor(self.threads) as pool:
            waiting = deque(
                pool.submit(self._fill, number, rooms[number % count])
                for number in range(first, first + count - 1)
            )
            try:
                for number in range(first, self.left.tiles):
                    if (ahead := number + count - 1) < self.left.tiles:
                        room = rooms[ahead % count]
                        waiting.append(pool.submit(self._fill, ahead, room))
                    yield number, waiting.popleft().result()
            finally:
                for unneeded in waiting:
                    unneeded.cancel()

    def _fill(self, number: int, scores: Scores) -> Scores:
        rows = _padded(self.left[number].operand, self.height)
        for j in range(self.right.tiles):
            width = self.right.length(j)
            block = self._product(rows, _padded(self.right[j].operand, TILE))[:, :width]
            target = scores[:, j * TILE : j * TILE + width]
            if self.left.unit:
                np.clip(block, -1.0, 1.0, out=target, casting="same_kind")
            else:
                np.copyto(target, block, casting="same_kind")
        if self.diagonal:
            own = np.arange(self.left.length(number))
            scores[own, number * self.height + own] = 1.0
        return scores

    def _product(self, rows: Floats, columns: Floats) -> Floats:
        """Return rows times columns transposed, the dimensions added up piece by piece."""
        scores = self._buffers.shaped(len(rows), len(columns))
        part = self._parts.shaped(len(rows), len(columns))
        for start in range(0, rows.shape[1], DIMENSIONS_AT_ONCE):
            piece = slice(start, start + DIMENSIONS_AT_ONCE)
            np.matmul(rows[:, piece], columns[:, piece].T, out=part if start else scores)
            if start:
                np.add(scores, part, out=scores)
        return scores

    def _lists(self, number: int, scores: Scores, kind: pa.DataType) -> pa.Array:
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


def stripe_height(columns: int) -> int:
    """Return how many rows are made at once: 512, or fewer where that takes over 64 MB."""
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
