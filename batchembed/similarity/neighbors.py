"""The nearest rows: of every row of a run, or of one vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchembed.errors import JobError
from batchembed.similarity import kernels
from batchembed.similarity.blocks import Grid, Side
from batchembed.similarity.grown import Earlier, Place
from batchembed.similarity.kept import Kept
from batchembed.similarity.pools import EMPTY, Keys
from batchembed.similarity.products import Floats, Positions
from batchembed.similarity.search import Known, Search
from batchembed.similarity.settings import Progress
from batchembed.similarity.vectors import (
    Groups,
    Surveyed,
    Vectors,
    blocks,
    group,
    square,
    squares_of,
)

_EXPANDED = 1 << 21


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
    kept: Kept | None = None,
    earlier: Earlier | None = None,
) -> Joined:
    """Return the `k` nearest of every kept row of `left`; `right` None means itself."""
    k = min(k, max(1, (right or left)[1].kept.size))
    mine = _place(left, cosine=cosine, grid=grid)
    theirs = mine if right is None else _place(right, cosine=cosine, grid=grid)
    other = None if right is None else theirs.side
    known = _known(earlier, mine, theirs, k) if earlier else None
    search = Search(mine.side, other, k, grid=grid, progress=progress, kept=kept, known=known)
    best = search.run()
    assert mine.groups is not None
    assert theirs.groups is not None
    own = _own(mine.side, mine.groups) if right is None else None
    return Joined(k, best, mine.groups, theirs.groups, own)


def _known(earlier: Earlier, mine: Place, theirs: Place, k: int) -> Known | None:
    """Return what an earlier file says of the first positions."""
    others = theirs.side.rows.size - (mine is theirs)
    if min(k, others) < 1:
        return None
    best = earlier.neighbors(mine, theirs, min(k, others))
    return Known(best, len(best) if mine is theirs else theirs.count(earlier.at("right")))


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
            scores /= np.sqrt(squares[rows] * length)
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


def _place(of: Surveyed, *, cosine: bool, grid: Grid) -> Place:
    """Return the side on which equal vectors stand once."""
    vectors, found = of
    groups = group(vectors, found)
    rows, squares = found.kept[groups.first], found.squares[groups.first]
    return Place(vectors, found.kept, Side(vectors, rows, squares, unit=cosine, grid=grid), groups)


def _own(side: Side, groups: Groups) -> Floats:
    """Return the score of each vector with a copy of itself."""
    if side.unit:
        return np.ones(groups.first.size, np.float32)
    return side.squares.astype(np.float32)
