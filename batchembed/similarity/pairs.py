"""All pairs of rows whose score is at least a given one, each once, in row order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from batchembed.similarity import kernels
from batchembed.similarity.blocks import Grid, Side, Tile
from batchembed.similarity.kernels import Floats, Positions
from batchembed.similarity.settings import Meter, Progress

_TINY = 2.0**-126
_STRIPE_TILES = 4

Pairs = tuple[Positions, Positions, Floats]


class PairSearch:
    """Finds the pairs of two sides, or of one side with itself (`right` None).

    A stretch of left rows is compared with all tiles of the right before the next, so pairs
    come in row order. Where a stretch finds more than `grid.hits` it is cut short, and what
    is cut off is compared again later: memory stays bounded whatever passes.
    """

    def __init__(
        self,
        left: Side,
        right: Side | None,
        min_score: float,
        *,
        grid: Grid,
        progress: Progress | None,
    ) -> None:
        self.left, self.right = left, left if right is None else right
        self.symmetric = right is None
        self.grid = grid
        self.meter = Meter(progress, self._compared(0, int(left.rows.size)))
        self.score = np.float32(min_score)
        lengths = 1.0 if left.unit else left.longest * self.right.longest
        bound = kernels.slack(left.vectors.dimensions) * lengths + _TINY
        self.floor = np.nextafter(np.float32(min_score - bound), np.float32(-np.inf))
        self._buffers = kernels.Buffers(grid.stripe * grid.tile)

    def run(self) -> Iterator[Pairs]:
        """Yield (left rows, right rows, scores), ascending by left row, then right row."""
        start, size, rows = 0, _STRIPE_TILES * self.left.tile, self.left.rows.size
        while start < rows:
            stop, found = self._stretch(start, min(start + size, rows))
            if found[0].size:
                yield self.left.rows[found[0]], self.right.rows[found[1]], found[2]
            self.meter.add(self._compared(start, stop))
            size = min(_STRIPE_TILES * self.left.tile, 2 * (stop - start))
            start = stop

    def _compared(self, start: int, stop: int) -> int:
        if not self.symmetric:
            return (stop - start) * int(self.right.rows.size)
        rows = int(self.left.rows.size)
        return (2 * rows - 1 - start - stop) * (stop - start) // 2

    def _stretch(self, start: int, stop: int) -> tuple[int, Pairs]:
        """Return where the stretch ended in the end, and its pairs in order."""
        found, held = [_none()], 0
        for j in range(start // self.right.tile if self.symmetric else 0, self.right.tiles):
            for pairs in self._block(start, stop, j):
                found.append(_before(stop, pairs))
                held += found[-1][0].size
                if held > self.grid.hits and stop - start > 1:
                    stop, found = _cut(start, stop, found)
                    held = found[0][0].size
        rows, columns, scores = _together(found)
        order = np.argsort(rows << 32 | columns)
        return stop, (rows[order], columns[order], scores[order])

    def _block(self, start: int, stop: int, j: int) -> Iterator[Pairs]:
        """Yield the pairs of left positions [start, stop) with one right tile, in stripes."""
        tile = self.left.tile
        b = self.right[j]
        for i in range(start // tile, -(-stop // tile)):
            if self.symmetric and i > j:
                return
            a = self.left[i]
            low, high = max(start - a.start, 0), min(stop - a.start, len(a))
            for first, scores in kernels.stripes(
                a.part(low, high), b, self.grid.stripe, self._buffers.scores
            ):
                rows, columns = self._hits(scores)
                rows += low + first
                if self.symmetric and i == j:
                    upper = columns > rows
                    rows, columns = rows[upper], columns[upper]
                yield self._exact((a, b), rows, columns)

    def _hits(self, scores: Floats) -> tuple[Positions, Positions]:
        passed: NDArray[np.bool_] = self._buffers.passed[: scores.size].reshape(scores.shape)
        np.greater(scores, self.floor, out=passed)
        return np.divmod(np.flatnonzero(passed), scores.shape[1])

    def _exact(self, tiles: tuple[Tile, Tile], rows: Positions, columns: Positions) -> Pairs:
        """Score what passed exactly; keep what reaches the score as it will be written."""
        a, b = tiles
        scores = kernels.exact(a, b, rows, columns, cosine=self.left.unit)
        enough = scores >= self.score
        return rows[enough] + a.start, columns[enough] + b.start, scores[enough]


def _cut(start: int, stop: int, found: list[Pairs]) -> tuple[int, list[Pairs]]:
    """Return an earlier stop before which lie at most half of the pairs, and those."""
    pairs = _together(found)
    before = np.cumsum(np.bincount(pairs[0] - start, minlength=stop - start))
    rows = int(np.searchsorted(before, pairs[0].size // 2, side="right"))
    stop = min(start + max(1, rows), stop - 1)
    return stop, [_before(stop, pairs)]


def _before(stop: int, pairs: Pairs) -> Pairs:
    inside = pairs[0] < stop
    return pairs[0][inside], pairs[1][inside], pairs[2][inside]


def _together(found: list[Pairs]) -> Pairs:
    rows, columns, scores = zip(*found, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(scores)


def _none() -> Pairs:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
