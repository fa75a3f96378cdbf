"""All pairs of rows whose score is at least a given one, each once, in row order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from batchembed.similarity import crew, kernels
from batchembed.similarity.blocks import Grid, Side, Tile, bound_of
from batchembed.similarity.products import Floats, Positions, floor_of
from batchembed.similarity.settings import Meter, Progress

_TINY = 2.0**-126
_STRETCH_TILES = 8

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
        self._product = left.product
        lengths = 1.0 if left.unit else left.longest * self.right.longest
        bound = bound_of(left, self.right) * lengths + _TINY
        floor = floor_of(np.asarray(float(self.score) - bound), self._product.relative)
        self.floor = np.nextafter(np.float32(floor), np.float32(-np.inf))

    def run(self) -> Iterator[Pairs]:
        """Yield (left rows, right rows, scores), ascending by left row, then right row."""
        start, size, rows = 0, _STRETCH_TILES * self.left.tile, self.left.rows.size
        while start < rows:
            stretch = _Stretch(start, min(start + size, rows), self.grid.hits)
            tiles = iter(range(self._first_tile(start), self.right.tiles))
            crew.each(
                lambda j, stretch=stretch: self._column(stretch, j),  # type: ignore[misc]
                tiles,
                self.grid.threads,
                self._product.begin,
            )
            found = stretch.pairs()
            if found[0].size:
                yield self.left.rows[found[0]], self.right.rows[found[1]], found[2]
            self.meter.add(self._compared(start, stretch.stop))
            size = min(_STRETCH_TILES * self.left.tile, 2 * (stretch.stop - start))
            start = stretch.stop

    def _first_tile(self, start: int) -> int:
        return start // self.right.tile if self.symmetric else 0

    def _compared(self, start: int, stop: int) -> int:
        if not self.symmetric:
            return (stop - start) * int(self.right.rows.size)
        rows = int(self.left.rows.size)
        return (2 * rows - 1 - start - stop) * (stop - start) // 2

    def _column(self, stretch: _Stretch, j: int) -> None:
        """Compare the rows of a stretch with one tile of the right."""
        tile = self.left.tile
        for i in range(stretch.start // tile, -(-stretch.stop // tile)):
            stop = stretch.stop  # another thread may have cut the stretch short
            if i * tile >= stop or (self.symmetric and i > j):
                return
            for pairs in self._block(stretch.start, stop, (i, j)):
                stretch.add(pairs)

    def _block(self, start: int, stop: int, numbers: tuple[int, int]) -> Iterator[Pairs]:
        """Yield the pairs of left positions [start, stop) in one tile with one right tile."""
        i, j = numbers
        a, b = self.left[i], self.right[j]
        low, high = max(start - a.start, 0), min(stop - a.start, len(a))
        part = a.part(low, high)
        for first, block in self._product.stripes(part.operand, b.operand, self.grid.stripe):
            height = min(self.grid.stripe, len(part) - first)
            flat, values = block.above(np.full(height, self.floor), None)
            rows, columns = np.divmod(flat[values > self.floor], len(b))
            rows += low + first
            if self.symmetric and i == j:
                upper = columns > rows
                rows, columns = rows[upper], columns[upper]
            yield self._exact((a, b), rows, columns)

    def _exact(self, tiles: tuple[Tile, Tile], rows: Positions, columns: Positions) -> Pairs:
        """Score what passed exactly; keep what reaches the score as it will be written."""
        a, b = tiles
        scores = kernels.exact(a, b, rows, columns, cosine=self.left.unit)
        enough = scores >= self.score
        return rows[enough] + a.start, columns[enough] + b.start, scores[enough]


@dataclass(slots=True)
class _Stretch:
    """Left positions [start, stop) and the pairs found for them; `stop` falls past `most` pairs."""

    start: int
    stop: int
    most: int
    found: list[Pairs] = field(default_factory=list)
    held: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, pairs: Pairs) -> None:
        """Take in some pairs, from any thread."""
        with self._lock:
            self._add(_before(self.stop, pairs))
            while self.held > self.most and self.stop - self.start > 1:
                self._cut()

    def _add(self, pairs: Pairs) -> None:
        self.found.append(pairs)
        self.held += pairs[0].size

    def _cut(self) -> None:
        """Move `stop` to where at most half of the pairs lie before it, and keep those."""
        pairs = _together(self.found)
        before = np.cumsum(np.bincount(pairs[0] - self.start, minlength=self.stop - self.start))
        rows = int(np.searchsorted(before, pairs[0].size // 2, side="right"))
        self.stop = min(self.start + max(1, rows), self.stop - 1)
        self.found, self.held = [], 0
        self._add(_before(self.stop, pairs))

    def pairs(self) -> Pairs:
        """Return the pairs, by left row, then right row."""
        rows, columns, scores = _together(self.found)
        order = np.argsort(rows << 32 | columns)
        return rows[order], columns[order], scores[order]


def _before(stop: int, pairs: Pairs) -> Pairs:
    inside = pairs[0] < stop
    return pairs[0][inside], pairs[1][inside], pairs[2][inside]


def _together(found: list[Pairs]) -> Pairs:
    rows, columns, scores = zip(_none(), *found, strict=True)
    return np.concatenate(rows), np.concatenate(columns), np.concatenate(scores)


def _none() -> Pairs:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
