"""All pairs of rows whose score is at least a given one, each once, in row order."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from batchembed.similarity import crew, heap, kernels
from batchembed.similarity.blocks import Grid, Side, Tile, bound_of
from batchembed.similarity.kept import Kept
from batchembed.similarity.products import Floats, Positions, floor_of
from batchembed.similarity.settings import Meter, Progress

_TINY = 2.0**-126
_STRETCH_TILES = 8
_DROPPED = 1 << 14

Pairs = tuple[Positions, Positions, Floats]


class PairSearch:
    """Finds the pairs of two sides, or of one side with itself (`right` None).

    A stretch of left rows is compared with all tiles of the right before the next, so pairs
    come in row order. Where a stretch finds more than `grid.hits` it is cut short, and what
    is cut off is compared again later: memory stays bounded whatever passes. Each stretch that
    is done is logged in `kept`, and found there again.
    """

    def __init__(
        self,
        left: Side,
        right: Side | None,
        min_score: float,
        *,
        grid: Grid,
        progress: Progress | None,
        kept: Kept | None = None,
        known: KnownPairs | None = None,
    ) -> None:
        self.left, self.right = left, left if right is None else right
        self.symmetric = right is None
        self.grid, self.kept = grid, kept
        self.known = known or KnownPairs(iter(()), 0, 0)
        bounds = 0, self.known.left, int(left.rows.size)
        self.meter = Meter(progress, sum(self._compared(*part) for part in pairwise(bounds)))
        self.score = np.float32(min_score)
        self._product = left.product
        lengths = 1.0 if left.unit else left.longest * self.right.longest
        bound = bound_of(left, self.right) * lengths + _TINY
        floor = floor_of(np.asarray(float(self.score) - bound), self._product.relative)
        self.floor = np.nextafter(np.float32(floor), np.float32(-np.inf))

    def run(self) -> Iterator[Pairs]:
        """Yield (left rows, right rows, scores), ascending by left row, then right row."""
        start, size = 0, _STRETCH_TILES * self.left.tile
        for frame in self.kept.log_frames() if self.kept else ():
            begun, stop = frame["at"].tolist()
            if begun == start:
                yield from self._done(
                    (start, stop), (frame["rows"], frame["columns"], frame["scores"])
                )
                start = stop
        self.known.drop(start)
        while start < self.left.rows.size:
            stretch = self._stretch(start, size)
            found = _in_order([stretch.together(), self.known.take(stretch.stop)])
            if self.kept is not None:
                names = ("rows", "columns", "scores")
                at = np.array([start, stretch.stop])
                self.kept.append({"at": at} | dict(zip(names, found, strict=True)))
                heap.give_back()
            yield from self._done((start, stretch.stop), found)
            size = min(_STRETCH_TILES * self.left.tile, 2 * (stretch.stop - start))
            start = stretch.stop

    def _done(self, bounds: tuple[int, int], found: Pairs) -> Iterator[Pairs]:
        self.meter.add(self._compared(*bounds))
        if found[0].size:
            yield self.left.rows[found[0]], self.right.rows[found[1]], found[2]

    def _stretch(self, start: int, size: int) -> _Stretch:
        """Return what was found for the left positions from `start` on, `size` at most."""
        rows = int(self.left.rows.size)
        stop = min(start + size, self.known.left if start < self.known.left else rows)
        stretch = _Stretch(start, self.known.reach(start, stop, self.grid.hits), self.grid.hits)
        first = start if self.symmetric else 0
        tiles = range(max(first, self._fresh(start)) // self.right.tile, self.right.tiles)
        crew.each(
            lambda j: self._column(stretch, j),
            iter(tiles),
            self.grid.threads,
            self._product.begin,
        )
        return stretch

    def _fresh(self, start: int) -> int:
        """Return from which right position on all is to be compared with left rows at `start`."""
        return self.known.right if start < self.known.left else 0

    def _compared(self, start: int, stop: int) -> int:
        if not self.symmetric or start < self.known.left:
            return (stop - start) * (int(self.right.rows.size) - self._fresh(start))
        rows = int(self.left.rows.size)
        return (2 * rows - 1 - start - stop) * (stop - start) // 2

    def _column(self, stretch: _Stretch, j: int) -> None:
        """Compare the rows of a stretch with one tile of the right."""
        tile, fresh = self.left.tile, self._fresh(stretch.start)
        for i in range(stretch.start // tile, -(-stretch.stop // tile)):
            stop = stretch.stop  # another thread may have cut the stretch short
            if i * tile >= stop or (self.symmetric and i > j):
                return
            for rows, columns, scores in self._block(stretch.start, stop, (i, j)):
                new = slice(None) if j * tile >= fresh else columns >= fresh
                stretch.add((rows[new], columns[new], scores[new]))

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

    def together(self) -> Pairs:
        """Return the pairs, in no order."""
        return _together(self.found)


class KnownPairs:
    """Pairs, in order, of the first `left` positions with the first `right`, known before."""

    def __init__(self, pairs: Iterator[Pairs], left: int, right: int) -> None:
        self.left, self.right = left, right
        self._pairs, self._held = pairs, _none()

    def reach(self, start: int, stop: int, most: int) -> int:
        """Return a position up to `stop`, past `start`, with about `most` pairs before it."""
        while self._held[0].size <= most and not self._has(stop):
            more = next(self._pairs, None)
            if more is None:
                return stop
            self._held = _together([self._held, more])
        return stop if self._has(stop) else max(start + 1, int(self._held[0][-1]))

    def take(self, stop: int) -> Pairs:
        """Return, and forget, the pairs of left positions before `stop`."""
        self.reach(stop - 1, stop, sys.maxsize)
        cut = int(np.searchsorted(self._held[0], stop))
        taken, self._held = _split(self._held, cut)
        return taken

    def drop(self, stop: int) -> None:
        """Forget the pairs of left positions before `stop`."""
        for position in range(0, stop, _DROPPED):
            self.take(min(position + _DROPPED, stop))

    def _has(self, stop: int) -> bool:
        return bool(self._held[0].size and self._held[0][-1] >= stop)


def _split(pairs: Pairs, at: int) -> tuple[Pairs, Pairs]:
    rows, columns, scores = pairs
    return (rows[:at], columns[:at], scores[:at]), (rows[at:], columns[at:], scores[at:])


def _in_order(found: list[Pairs]) -> Pairs:
    rows, columns, scores = _together(found)
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
