"""Tiles of vectors, and the order in which pairs of tiles are multiplied.

Theory of operation. The matrix of scores is never held. Rows without a vector are left out
and the others, packed together, are cut into tiles of 2,048 rows; one block is the product
of two tiles, made in stripes of 1,024 rows. A run with itself has a symmetric matrix, so each
unordered pair of tiles is multiplied once and read in both directions.

The product (`products`) only finds candidates. Its error is bounded, so whatever could belong
to the answer passes a threshold lowered by that bound; what passed is then scored again, pair
by pair, in float64 in one fixed order (`kernels.exact`). Only those scores are written:
neither tiles, stripes, memory, threads nor the product can change a byte.

Tiles are kept in memory up to a budget. The order of pairs is made for it: a panel is as many
tiles as half the budget holds, and all pairs of two panels come before the next two. Within
panels the order is circular, (i, i), (i, i + 1), ...: every row's threshold tightens evenly.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchembed.cores import cores
from batchembed.similarity.products import UNIT_TOLERANCE, Float32, Product
from batchembed.similarity.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Grid:
    """How the work is cut, and multiplied; no choice changes the result.

    `budget` is in bytes of tiles; `product` None means the fastest at hand; what is done is kept
    every `keep_seconds`.
    """

    tile: int = 2048
    stripe: int = 1024
    budget: int = 512 << 20
    hits: int = 1 << 20
    threads: int = field(default_factory=cores)
    product: Product | None = None
    keep_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Tile:
    """Rows of one side: `raw` as stored, `operand` as multiplied, `squares` of the raw lengths."""

    start: int
    raw: NDArray[np.float32]
    operand: Any
    squares: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.raw)

    def part(self, start: int, stop: int) -> Tile:
        """Return the rows [start, stop) of this tile, which share its memory."""
        cut = slice(start, stop)
        return Tile(self.start + start, self.raw[cut], self.operand[cut], self.squares[cut])


class Side:
    """The rows of one side that take part, cut into tiles and read on demand.

    `rows` are row numbers in the run, ascending; positions on this side count them from 0.
    """

    def __init__(
        self,
        vectors: Vectors,
        rows: NDArray[np.int64],
        squares: NDArray[np.float64],
        *,
        unit: bool,
        grid: Grid,
    ) -> None:
        self.vectors, self.rows, self.squares = vectors, rows, squares
        self.unit, self.tile = unit, grid.tile
        self.product = grid.product or Float32()
        self.longest = float(np.sqrt(squares.max(initial=0.0)))
        bytes_of_tile = grid.tile * max(1, vectors.dimensions) * 4 * (2 if unit else 1)
        self.panel = max(1, grid.budget // bytes_of_tile // 2)
        self._kept: OrderedDict[int, Tile] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def tiles(self) -> int:
        """Return the number of tiles."""
        return -(-int(self.rows.size) // self.tile)

    def length(self, number: int) -> int:
        """Return the rows of one tile, without reading it."""
        return min(self.tile, int(self.rows.size) - number * self.tile)

    def lengths(self, number: int) -> NDArray[np.float64]:
        """Return the length of each vector as it is multiplied: 1 where they are normalised."""
        squares = self.squares[number * self.tile : (number + 1) * self.tile]
        return np.ones(squares.size) if self.unit else np.sqrt(squares)

    @cached_property
    def rounding(self) -> float:
        """Return how far the product's operands lie from the vectors, as a part of their length."""
        if not self.product.relative:
            return 0.0
        return max((self._rounding(n) for n in range(self.tiles)), default=0.0)

    def _rounding(self, number: int) -> float:
        tile = self[number]
        return self.product.rounding(self._unit(tile.raw, tile.squares), tile.operand)

    def __getitem__(self, number: int) -> Tile:
        """Return a tile, from memory where it is still there."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            while len(self._kept) >= 2 * self.panel:
                self._kept.popitem(last=False)
            tile = self._kept[number] = self._read(number)
            return tile

    def _read(self, number: int) -> Tile:
        start = number * self.tile
        rows = self.rows[start : start + self.tile]
        squares = self.squares[start : start + self.tile]
        raw = read_rows(self.vectors, rows)
        if not squares.all():
            raw = np.where(squares[:, None] > 0, raw, np.float32(0))
        return Tile(start, raw, self.product.operand(self._unit(raw, squares)), squares)

    def _unit(self, raw: NDArray[np.float32], squares: NDArray[np.float64]) -> NDArray[np.float32]:
        return normalized(raw, squares) if self.unit else raw


def bound_of(left: Side, right: Side) -> float:
    """Return how far a score of a block may be from the written one, at length 1.

    That is but for the score's own rounding, `relative`. For vectors a and b: (x - x') is what
    rounding took from x, and |a.b - a'.b'| <= |a - a'||b| + |a'||b - b'|.
    """
    added = left.product.slack(left.vectors.dimensions)
    return added + left.rounding + right.rounding * (1 + left.rounding)


def read_rows(vectors: Vectors, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the vectors of ascending `rows`, reading no more than twice their number at once."""
    out = np.empty((rows.size, vectors.dimensions), np.float32)
    done = 0
    while done < rows.size:
        start = int(rows[done])
        stop = int(np.searchsorted(rows, start + max(1024, rows.size)))
        block, _ = vectors.read(start, int(rows[stop - 1]) + 1)
        if stop - done == len(block) == rows.size:
            return np.ascontiguousarray(block, np.float32)
        out[done:stop] = block[rows[done:stop] - start]
        done = stop
    return out


def normalized(raw: NDArray[np.float32], squares: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the vectors at length 1: those that are near enough, and zeros, as they are.

    Divides in float64: squares of lengths such as 1e25 or 1e-30 leave float32's range.
    """
    lengths = np.sqrt(squares)
    far = (np.abs(lengths - 1) > UNIT_TOLERANCE) & (squares > 0)
    if not far.any():
        return raw
    unit = raw.copy()
    unit[far] = np.divide(raw[far], lengths[far, None], dtype=np.float64)
    return unit


def symmetric_order(side: Side) -> Iterator[tuple[int, int]]:
    """Yield every unordered pair of tiles (i, j) once, each tile's own (i, i) first."""
    panels = _panels(side.tiles, side.panel)
    for panel in panels:
        for first, second in _circle(len(panel)):
            yield panel[first], panel[second]
    for a, b in _circle(len(panels)):
        if a != b:
            yield from _across(panels[a], panels[b])


def one_way_order(left: Side, right: Side) -> Iterator[tuple[range, Iterator[tuple[int, int]]]]:
    """Yield each panel of left tiles with its pairs (left tile, right tile), right by right."""
    for panel in _panels(left.tiles, left.panel):
        yield panel, ((i, j) for j in range(right.tiles) for i in panel)


def _panels(tiles: int, size: int) -> list[range]:
    return [range(a, min(a + size, tiles)) for a in range(0, tiles, size)]


def _circle(count: int) -> Iterator[tuple[int, int]]:
    for step in range(count // 2 + 1):
        # At half the circle both directions meet: the second half would repeat the first.
        starts = count // 2 if 2 * step == count and step else count
        for first in range(starts):
            yield first, (first + step) % count


def _across(rows: range, columns: range) -> Iterator[tuple[int, int]]:
    for step in range(len(columns)):
        for first in range(len(rows)):
            # Where the panels differ in size each step still walks all rows.
            yield rows[first], columns[(first + step) % len(columns)]
