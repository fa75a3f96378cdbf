"""The nearest positions of every position of a side, from blocks of tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from batchembed.similarity import crew, heap, kernels
from batchembed.similarity.blocks import (
    Grid,
    Side,
    Tile,
    bound_of,
    one_way_order,
    symmetric_order,
)
from batchembed.similarity.kept import Arrays, Kept
from batchembed.similarity.pools import EMPTY, Keys, Pool, kth_scores, merged
from batchembed.similarity.products import Block, Buffers, FloatBlock
from batchembed.similarity.settings import Meter, Progress

_ENTRIES = 1 << 22
_TINY = 2.0**-126

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Known:
    """The best of the first positions of the left among the first `right` of the right.

    `best` are their sort keys, shape (positions, k). No block of these two is made again.
    """

    best: Keys
    right: int


class Search:
    """Finds the `k` nearest on the right for every position on the left.

    `right` None means the left itself, no position being its own neighbour. What is done is
    kept in `kept` from time to time, and found there again.
    """

    def __init__(
        self,
        left: Side,
        right: Side | None,
        k: int,
        *,
        grid: Grid,
        progress: Progress | None,
        kept: Kept | None = None,
        known: Known | None = None,
    ) -> None:
        self.left, self.right = left, left if right is None else right
        self.symmetric = right is None
        others = self.right.rows.size - self.symmetric
        self.k, self.grid = min(k, others), grid
        self.kept, self.known = kept, known
        self.old = (
            (self._whole(left, len(known.best)), self._whole(self.right, known.right))
            if (known)
            else (0, 0)
        )
        self.meter = Meter(progress, self._total())
        self._product = left.product
        self._buffers = Buffers(np.float32)
        self._pools: dict[int, Pool] = {}

    def run(self) -> Keys:
        """Return sort keys of each left position's nearest, shape (positions, k)."""
        best = np.full((self.left.rows.size, max(0, self.k)), EMPTY, np.uint64)
        if self.k < 1 or not self.left.rows.size:
            return best
        first, done = self._restore(best)
        for number, (panel, pairs) in enumerate(self._order()):
            if number < first or (number == first and done):
                self._skip(pairs, done if number == first else None)
            if number < first:
                continue
            if not self._pools:
                self._pools = {tile: self._pool(tile) for tile in panel}
            self._go_through(best, (number, done if number == first else 0), pairs)
            self._settle(panel, best)
        return best

    @staticmethod
    def _whole(side: Side, rows: int) -> int:
        """Return how many tiles lie wholly within the first `rows` positions."""
        return side.tiles if rows >= side.rows.size else rows // side.tile

    def _total(self) -> int:
        rows, columns = int(self.left.rows.size), int(self.right.rows.size)
        known = [
            min(tiles * side.tile, int(side.rows.size))
            for tiles, side in zip(self.old, (self.left, self.right), strict=True)
        ]
        if not self.symmetric:
            return rows * columns - known[0] * known[1]
        own = sum(self.left.length(n) ** 2 for n in range(self.old[0], self.left.tiles))
        return (rows * rows - known[0] ** 2 + own) // 2

    def _order(self) -> Iterator[tuple[range, Iterator[Pair]]]:
        """Yield each panel of left tiles with the pairs of tiles that it needs."""
        panels = (
            iter([(range(self.left.tiles), symmetric_order(self.left))])
            if self.symmetric
            else one_way_order(self.left, self.right)
        )
        for panel, pairs in panels:
            yield panel, (one for one in pairs if not self._is_known(one))

    def _is_known(self, pair: Pair) -> bool:
        return pair[0] < self.old[0] and pair[1] < self.old[1]

    def _skip(self, pairs: Iterator[Pair], count: int | None) -> None:
        """Pass over the first `count` pairs of tiles, or all, as they are done."""
        for number, (i, j) in enumerate(pairs, 1):
            self.meter.add(self.left.length(i) * self.right.length(j))
            if number == count:
                return

    def _go_through(self, best: Keys, at: tuple[int, int], pairs: Iterator[Pair]) -> None:
        """Read all pairs of a panel, keeping what is done whenever that is due."""
        number, done = at
        while True:
            part = _Part(pairs, self.kept)
            crew.each(self._read, part, self.grid.threads, self._product.begin)
            done += part.count
            if part.ended:
                return
            assert self.kept is not None
            self.kept.snapshot(self._frames(best, (number, done)))
            heap.give_back()

    def _frames(self, best: Keys, at: tuple[int, int]) -> Iterator[Arrays]:
        settled = min(self._pools) * self.left.tile
        yield {"at": np.array(at), "best": best[:settled]}
        for number, pool in self._pools.items():
            yield {"tile": np.array(number)} | pool.state()

    def _restore(self, best: Keys) -> tuple[int, int]:
        """Take up what was kept; return the number of the panel and how many pairs are done."""
        frames = self.kept.snapshot_frames() if self.kept else []
        if not frames:
            return 0, 0
        settled = frames[0]["best"]
        best[: len(settled)] = settled
        for frame in frames[1:]:
            number = int(frame["tile"].item())
            self._pools[number] = self._pool(number)
            self._pools[number].restore(frame)
        number, done = frames[0]["at"].tolist()
        return number, done

    def _pool(self, number: int) -> Pool:
        start = number * self.left.tile
        bound = bound_of(self.left, self.right)
        band = (
            2 * bound * self.left.lengths(number) * (1.0 if self.left.unit else self.right.longest)
        )
        pool = Pool(
            self.k,
            (band + _TINY).astype(np.float32),
            relative=self._product.relative,
            ceiling=1.0 if self.left.unit else np.inf,
            score=lambda rows, columns: kernels.exact_between(
                self.left, self.right, rows + start, columns
            ),
        )
        known = self._known(number)
        pool.reach(slice(0, len(known)), kth_scores(known, self.k))
        return pool

    def _known(self, number: int) -> Keys:
        """Return what is known of the first positions of a tile."""
        if self.known is None:
            return np.empty((0, 0), np.uint64)
        start = number * self.left.tile
        return self.known.best[start : start + self.left.tile]

    def _read(self, pair: Pair) -> None:
        i, j = pair
        a, b = self.left[i], self.right[j]
        own = self.symmetric and i == j
        both = self.symmetric and not own
        for start, block in self._product.stripes(a.operand, b.operand, self.grid.stripe):
            first = own or self._pools[i].open(start, self.grid.stripe)
            other = both and self._pools[j].open(0, len(b))
            seen = self._first_look(pair, start, block, other=other) if first or other else block
            self._gather(pair, (a, b), start, seen)
        self.meter.add(len(a) * len(b))

    def _first_look(self, pair: Pair, start: int, block: Block, *, other: bool) -> Block:
        """Raise the floors of rows, and of columns, by the first scores seen, none with itself."""
        (i, j), scores = pair, block.floats()
        if self.symmetric and i == j:
            across = np.arange(len(scores))
            scores[across, start + across] = -np.inf
        self._pools[i].seed(start, scores)
        if other:
            self._pools[j].seed(0, scores.T)
        self._buffers.shaped(*scores.shape)
        return FloatBlock(scores, self._buffers)

    def _gather(self, numbers: Pair, tiles: tuple[Tile, Tile], start: int, block: Block) -> None:
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
        for numbers in self._at_once(panel):
            heap.give_back()
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
                found = self._pools.pop(number).best(part)
                best[start : start + self.left.length(number)] = merged(found, self._known(number))

    def _at_once(self, panel: range) -> Iterator[list[int]]:
        """Yield the tiles of a panel, as many at once as have `_ENTRIES` candidates, one at least.

        The more at once, the fewer times the right side is read.
        """
        some: list[int] = []
        room = _ENTRIES
        for number in panel:
            count = self._pools[number].narrow()
            if some and (count > room or len(some) == self.left.panel):
                yield some
                some, room = [], _ENTRIES
            some.append(number)
            room -= count
        yield some


class _Part:
    """As many pairs of tiles as fit until work is to be kept, one at least."""

    def __init__(self, pairs: Iterator[Pair], kept: Kept | None) -> None:
        self.count, self.ended = 0, False
        self._pairs, self._kept = pairs, kept

    def __iter__(self) -> Iterator[Pair]:
        return self

    def __next__(self) -> Pair:
        if self._kept is not None and self.count and self._kept.due():
            raise StopIteration
        one = next(self._pairs, None)
        if one is None:
            self.ended = True
            raise StopIteration
        self.count += 1
        return one
