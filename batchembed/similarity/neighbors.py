"""The nearest rows: of every row of a run, or of one vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchembed.errors import JobError
from batchembed.similarity import crew, kernels
from batchembed.similarity.blocks import Grid, Side, Tile, one_way_order, symmetric_order
from batchembed.similarity.kernels import Floats, Positions
from batchembed.similarity.pools import EMPTY, Keys, Pool
from batchembed.similarity.settings import Meter, Progress
from batchembed.similarity.vectors import (
    Groups,
    Surveyed,
    Vectors,
    blocks,
    group,
    square,
    squares_of,
)

_ENTRIES = 1 << 22
_EXPANDED = 1 << 21
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
        self._buffers = kernels.Buffers(grid.stripe * grid.tile)
        self._pools: dict[int, Pool] = {}

    def run(self) -> Keys:
        """Return sort keys of each left position's nearest, shape (positions, k)."""
        best = np.full((self.left.rows.size, max(0, self.k)), EMPTY, np.uint64)
        if self.k < 1 or not self.left.rows.size:
            return best
        for panel, pairs in self._order():
            self._pools |= {number: self._pool(number) for number in panel}
            crew.each(self._read, pairs, self.grid.threads)
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
        bound = kernels.slack(self.left.vectors.dimensions)
        band = (
            2 * bound * self.left.lengths(number) * (1.0 if self.left.unit else self.right.longest)
        )
        return Pool(
            self.k,
            (band + _TINY).astype(np.float32),
            ceiling=1.0 if self.left.unit else np.inf,
            score=lambda rows, columns: kernels.exact_between(
                self.left, self.right, rows + start, columns
            ),
        )

    def _read(self, pair: tuple[int, int]) -> None:
        i, j = pair
        a, b = self.left[i], self.right[j]
        own = self.symmetric and i == j
        for start, scores in kernels.stripes(a, b, self.grid.stripe, self._buffers.scores):
            if own:
                across = np.arange(len(scores))
                scores[across, start + across] = -np.inf
            if own or (j == 0 and not self.symmetric):
                self._pools[i].seed(start, scores)
            self._gather(pair, (a, b), start, scores)
        self.meter.add(len(a) * len(b))

    def _gather(
        self, numbers: tuple[int, int], tiles: tuple[Tile, Tile], start: int, scores: Floats
    ) -> None:
        """Hand the scores above a row's floor to its pool, and both ways where that holds."""
        (i, j), (a, b) = numbers, tiles
        both = self.symmetric and i != j
        floor = self._pools[i].floor[start : start + len(scores)]
        column_floor = self._pools[j].floor if both else None
        flat = kernels.above(scores, floor, column_floor, self._buffers)
        rows, columns = np.divmod(flat, len(b))
        values = scores.ravel()[flat]
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


@dataclass(frozen=True, slots=True)
class Joined:
    """Who is near whom, as positions of groups of equal vectors; `expand` gives the rows."""

    k: int
    best: Keys
    left: Groups
    right: Groups
    own: Floats | None

    def expand(self, positions: Positions) -> Iterator[tuple[NDArray[np.int64], Positions, Floats]]:
        """Yield (neighbours a position, neighbour positions, scores), some positions at a time.

        A group stands for all its rows: they take their places in row order, k at most.
        """
        step = max(1, _EXPANDED // ((self.k + 1) * max(1, int(self._most()))))
        for start in range(0, positions.size, step):
            yield self._expand(positions[start : start + step])

    def _most(self) -> int:
        sizes = np.minimum(self.right.sizes, self.k + 1)
        return int(sizes.max(initial=1))

    def _expand(self, positions: Positions) -> tuple[NDArray[np.int64], Positions, Floats]:
        groups = self.left.of[positions]
        keys = self.best[groups]
        if self._most() == 1:
            found = (keys != EMPTY).sum(axis=1)
            scores, members = kernels.from_keys(keys[keys != EMPTY])
            return found, members, scores
        rows = np.repeat(np.arange(positions.size), keys.shape[1]).reshape(keys.shape)
        there = keys != EMPTY
        scores, found = kernels.from_keys(keys[there])
        rows = rows[there]
        if self.own is not None:
            rows = np.concatenate([rows, np.arange(positions.size)])
            scores = np.concatenate([scores, self.own[groups]])
            found = np.concatenate([found, groups])
        counts = np.minimum(self.right.sizes[found], self.k + 1)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        members = self.right.members[np.repeat(self.right.starts[found], counts) + offsets]
        rows, scores = np.repeat(rows, counts), np.repeat(scores, counts)
        if self.own is not None:
            other = members != positions[rows]
            rows, scores, members = rows[other], scores[other], members[other]
        return self._cut(positions.size, rows, members, scores)

    def _cut(
        self, count: int, rows: Positions, members: Positions, scores: Floats
    ) -> tuple[NDArray[np.int64], Positions, Floats]:
        order = np.lexsort((kernels.sort_keys(scores, members), rows))
        rows = rows[order]
        order = order[np.arange(rows.size) - np.searchsorted(rows, rows) < self.k]
        found = np.bincount(rows, minlength=count)
        return np.minimum(found, self.k), members[order], scores[order]


def join(
    left: Surveyed,
    right: Surveyed | None,
    k: int,
    *,
    cosine: bool,
    grid: Grid,
    progress: Progress | None,
) -> Joined:
    """Return the `k` nearest of every kept row of `left`; `right` None means itself."""
    groups = group(*left)
    k = min(k, max(1, (right or left)[1].kept.size))
    mine = _side(left, groups, cosine=cosine, grid=grid)
    if right is None:
        best = Search(mine, None, k, grid=grid, progress=progress).run()
        return Joined(k, best, groups, groups, _own(mine, groups))
    others = group(*right)
    theirs = _side(right, others, cosine=cosine, grid=grid)
    best = Search(mine, theirs, k, grid=grid, progress=progress).run()
    return Joined(k, best, groups, others, None)


def nearest(
    vectors: Vectors, query: NDArray[np.float32], k: int, *, metric: str = "cosine"
) -> list[tuple[int, float]]:
    """Return the (row, score) of the `k` vectors nearest to one, best first.

    Reads all vectors once, in blocks. Equal scores stand in row order; rows with null or zero
    vectors are not among them. Raises JobError for a query that cannot be compared.
    """
    length = _check_query(vectors, query)
    best = np.empty(0, np.uint64)
    wide = query.astype(np.float64)
    for start, block, valid in blocks(vectors):
        squares = squares_of(vectors, start, block, valid)
        rows = np.flatnonzero(squares)
        scores = np.einsum("ij,j->i", block[rows].astype(np.float64), wide)
        if metric == "cosine":
            scores = np.clip(scores / np.sqrt(squares[rows] * length), -1.0, 1.0)
        keys = kernels.sort_keys(scores.astype(np.float32), rows + start)
        best = np.sort(np.concatenate([best, keys]))[:k]
    found, places = kernels.from_keys(best)
    return list(zip(places.tolist(), found.tolist(), strict=True))


def _check_query(vectors: Vectors, query: NDArray[np.float32]) -> float:
    """Return the squared length of a query that can be compared."""
    if query.shape != (vectors.dimensions,):
        raise JobError(
            f"the query has shape `{query.shape}`, `{vectors.name}` holds vectors of "
            f"{vectors.dimensions} dimensions",
            hint="embed the query with the spec of the run",
        )
    length = float(square(query[None, :])[0])
    if not 0 < length < np.inf:
        raise JobError("the query is a zero vector or not finite", hint="embed another text")
    return length


def _side(of: Surveyed, groups: Groups, *, cosine: bool, grid: Grid) -> Side:
    vectors, found = of
    return Side(
        vectors, found.kept[groups.first], found.squares[groups.first], unit=cosine, grid=grid
    )


def _own(side: Side, groups: Groups) -> Floats:
    """Return the score of each vector with a copy of itself."""
    if side.unit:
        return np.ones(groups.first.size, np.float32)
    return side.squares.astype(np.float32)
