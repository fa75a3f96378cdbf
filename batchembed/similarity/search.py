"""The nearest positions of every position of a side, from blocks of tiles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from batchembed.similarity import crew, kernels
from batchembed.similarity.blocks import Grid, Side, Tile, bound_of, one_way_order, symmetric_order
from batchembed.similarity.pools import EMPTY, Keys, Pool
from batchembed.similarity.products import Block, Buffers, FloatBlock
from batchembed.similarity.settings import Meter, Progress

_ENTRIES = 1 << 22
_TINY = 2.0**-126


class Search:
    """Finds the `k` nearest on the right for every position on the left.

    `right` None means the left itself, no position being its own neighbour.
    """

    def __init__(
        self, left: Side, right: Side | None, k: int, *, grid: Grid, progress: Progress | None
    ) -> None:
        self.left, self.right = left, left if right is None else right
        self.symmetric = right is None
        others = self.right.rows.size - self.symmetric
        self.k, self.grid = min(k, others), grid
        self.meter = Meter(progress, self._total())
        self._product = left.product
        self._buffers = Buffers(np.float32)
        self._pools: dict[int, Pool] = {}

    def run(self) -> Keys:
        """Return sort keys of each left position's nearest, shape (positions, k)."""
        best = np.full((self.left.rows.size, max(0, self.k)), EMPTY, np.uint64)
        if self.k < 1 or not self.left.rows.size:
            return best
        for panel, pairs in self._order():
            self._pools |= {number: self._pool(number) for number in panel}
            crew.each(self._read, pairs, self.grid.threads, self._product.begin)
            self._settle(panel, best)
        return best

    def _total(self) -> int:
        rows, columns = int(self.left.rows.size), int(self.right.rows.size)
        if not self.symmetric:
            return rows * columns
        own = sum(self.left.length(number) ** 2 for number in range(self.left.tiles))
        return (rows * rows + own) // 2

    def _order(self) -> Iterator[tuple[range, Iterator[tuple[int, int]]]]:
        if self.symmetric:
            return iter([(range(self.left.tiles), symmetric_order(self.left))])
        return one_way_order(self.left, self.right)

    def _pool(self, number: int) -> Pool:
        start = number * self.left.tile
        bound = bound_of(self.left, self.right)
        band = (
            2 * bound * self.left.lengths(number) * (1.0 if self.left.unit else self.right.longest)
        )
        return Pool(
            self.k,
            (band + _TINY).astype(np.float32),
            relative=self._product.relative,
            ceiling=1.0 if self.left.unit else np.inf,
            score=lambda rows, columns: kernels.exact_between(
                self.left, self.right, rows + start, columns
            ),
        )

    def _read(self, pair: tuple[int, int]) -> None:
        i, j = pair
        a, b = self.left[i], self.right[j]
        own = self.symmetric and i == j
        for start, block in self._product.stripes(a.operand, b.operand, self.grid.stripe):
            first = own or (j == 0 and not self.symmetric)
            seen = self._first_look(i, start, block) if first else block
            self._gather(pair, (a, b), start, seen)
        self.meter.add(len(a) * len(b))

    def _first_look(self, i: int, start: int, block: Block) -> Block:
        """Raise the floors of a tile by the first scores that are seen, none with itself."""
        scores = block.floats()
        if self.symmetric:
            across = np.arange(len(scores))
            scores[across, start + across] = -np.inf
        self._pools[i].seed(start, scores)
        self._buffers.shaped(*scores.shape)
        return FloatBlock(scores, self._buffers)

    def _gather(
        self, numbers: tuple[int, int], tiles: tuple[Tile, Tile], start: int, block: Block
    ) -> None:
        """Hand the scores above a row's floor to its pool, and both ways where that holds."""
        (i, j), (a, b) = numbers, tiles
        both = self.symmetric and i != j
        floor = self._pools[i].floor[start : min(start + self.grid.stripe, len(a))]
        column_floor = self._pools[j].floor if both else None
        flat, values = block.above(floor, column_floor)
        rows, columns = np.divmod(flat, len(b))
        mine = values > floor[rows]
        self._pools[i].add(start + rows[mine], b.start + columns[mine], values[mine])
        if both:
            theirs = np.flatnonzero(values > self._pools[j].floor[columns])
            theirs = theirs[np.argsort(columns[theirs].astype(np.uint16), kind="stable")]
            self._pools[j].add(columns[theirs], a.start + start + rows[theirs], values[theirs])

    def _settle(self, panel: range, best: Keys) -> None:
        """Score what the pools of a panel hold exactly, as many at once as memory allows."""
        at_once = max(1, min(self.left.panel, _ENTRIES // (self.left.tile * self.k)))
        for first in range(panel.start, panel.stop, at_once):
            numbers = range(first, min(first + at_once, panel.stop))
            entries = [self._pools[number].entries() for number in numbers]
            rows = [
                found[0] + n * self.left.tile for n, found in zip(numbers, entries, strict=True)
            ]
            scores = kernels.exact_between(
                self.left,
                self.right,
                np.concatenate(rows),
                np.concatenate([found[1] for found in entries]),
                threads=self.grid.threads,
            )
            parts = np.split(scores, np.cumsum([len(found) for found in rows])[:-1])
            for number, part in zip(numbers, parts, strict=True):
                start = number * self.left.tile
                best[start : start + self.left.length(number)] = self._pools.pop(number).best(part)
