"""The pairs of a run that are worth a look: the closest, the farthest, those nearest a score."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.similarity.blocks import Grid, Side
from batchembed.similarity.choosing import alone, fastest
from batchembed.similarity.groups import Group, connected, groups_of
from batchembed.similarity.neighbors import join
from batchembed.similarity.pairs import Pairs, PairSearch
from batchembed.similarity.products import Floats
from batchembed.similarity.vectors import Surveyed, Vectors, survey

_FIRST_WIDTH, _WIDER = 0.01, 4
_WHOLE = 2.0
DEFAULT = Grid()

RowPair = tuple[int, int, float]


def closest(
    vectors: Vectors, count: int, *, least: bool = False, grid: Grid = DEFAULT
) -> list[RowPair]:
    """Return the `count` pairs of rows with the highest cosine, or the least: (row, row, score).

    Best first, then in row order, the earlier row first. Of `count` pairs none can be missing
    among the `count` nearest of its rows, so no more than those are looked for. The least
    similar are the nearest among the vectors turned round.
    """
    mine = vectors, survey(vectors)
    grid = _ready(mine, grid)
    right = (_Turned(vectors), mine[1]) if least else None
    assert grid.product is not None
    with alone(grid.product):
        joined = join(mine, right, count, cosine=True, grid=grid, progress=None)
    best = _none()
    kept, start = mine[1].kept, 0
    for counts, members, scores in joined.expand(np.arange(kept.size)):
        rows = kept[np.repeat(np.arange(start, start + counts.size), counts)]
        start += counts.size
        others = kept[members]
        once = rows < others if right is None else rows != others
        pairs = np.minimum(rows, others)[once], np.maximum(rows, others)[once], scores[once]
        best = _best([best, pairs], _by_score, count)
    rows, others, scores = best
    return _told((rows, others, -scores if least else scores))


def nearest_to(
    vectors: Vectors, score: float, count: int, *, grid: Grid = DEFAULT
) -> list[RowPair]:
    """Return the `count` pairs of rows whose cosine is nearest to `score`, by their scores."""
    mine = vectors, survey(vectors)
    grid = _ready(mine, grid)
    width = _FIRST_WIDTH

    def distance(scores: Floats) -> NDArray[np.float64]:
        return -np.abs(scores.astype(np.float64) - score)

    while True:
        best = _none()
        for pairs in _search(mine, max(-1.0, score - width), grid):
            best = _best([best, pairs], distance, count)
        inside = best[0].size == count and -distance(best[2]).min() <= width
        if inside or width >= _WHOLE:
            return _told(_best([best], _by_score, count))
        width *= _WIDER


def duplicates(vectors: Vectors, min_score: float, *, grid: Grid = DEFAULT) -> list[Group]:
    """Return the groups of rows that are near duplicates: connected by cosines of `min_score`."""
    mine = vectors, survey(vectors)
    pairs = _search(mine, min_score, _ready(mine, grid))
    return list(groups_of(connected(pairs, vectors.rows)))


def _search(of: Surveyed, min_score: float, grid: Grid) -> Iterable[Pairs]:
    vectors, found = of
    side = Side(vectors, found.kept, found.squares, unit=True, grid=grid)
    assert grid.product is not None
    with alone(grid.product):
        yield from PairSearch(side, None, min_score, grid=grid, progress=None).run()


def _ready(of: Surveyed, grid: Grid) -> Grid:
    vectors, found = of
    return replace(grid, product=grid.product or fastest(vectors.dimensions, found.kept.size**2))


@dataclass(frozen=True, slots=True)
class _Turned:
    """Vectors that point the other way."""

    of: Vectors

    @property
    def rows(self) -> int:
        return self.of.rows

    @property
    def dimensions(self) -> int:
        return self.of.dimensions

    @property
    def ids(self) -> pa.Array:
        return self.of.ids

    @property
    def role(self) -> str:
        return self.of.role

    @property
    def name(self) -> str:
        return self.of.name

    def read(self, start: int, stop: int) -> tuple[Floats, NDArray[np.bool_]]:
        block, valid = self.of.read(start, stop)
        return -block, valid


def _by_score(scores: Floats) -> Floats:
    return scores


def _best(
    found: list[Pairs], by: Callable[[Floats], NDArray[np.floating[Any]]], count: int
) -> Pairs:
    """Return the first `count` pairs, each once, by what `by` makes of their scores."""
    rows, others, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    _, first = np.unique(rows << 32 | others, return_index=True)
    rows, others, scores = rows[first], others[first], scores[first]
    order = np.lexsort((others, rows, -by(scores)))[:count]
    return rows[order], others[order], scores[order]


def _none() -> Pairs:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)


def _told(pairs: Pairs) -> list[RowPair]:
    return list(zip(*(part.tolist() for part in pairs), strict=True))
