"""The arithmetic: fast float32 blocks, the bound of their error, and exact scores of pairs."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from batchembed.similarity import crew
from batchembed.similarity.blocks import UNIT_TOLERANCE, Side, Tile

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

_ROUNDING = 2.0**-24
_EXACT_VALUES = 1 << 15
_FEW = 64


class Buffers(threading.local):
    """One block's scores and two masks over it, for each thread its own."""

    def __init__(self, size: int) -> None:
        self.scores = np.empty(size, np.float32)
        self.passed = np.empty(size, np.bool_)
        self.other = np.empty(size, np.bool_)


def slack(dimensions: int) -> float:
    """Return the greatest difference of a block's score from the written one, at length 1.

    For vectors a and b it is this times |a||b|. Any order of adding `dimensions` float32
    products errs by at most (dimensions + 2) roundings of |a||b|; then come the rounding of
    both unit vectors, lengths that are only near 1, and the rounding of what is written.
    """
    near_unit = 2 * UNIT_TOLERANCE / _ROUNDING
    return (dimensions + near_unit + 8) * _ROUNDING * 1.05


def stripes(left: Tile, right: Tile, height: int, out: Floats) -> Iterator[tuple[int, Floats]]:
    """Yield (first row in the left tile, scores) of the block, `height` rows at a time.

    The scores lie in `out` and are overwritten by the next stripe.
    """
    width = len(right)
    for start in range(0, len(left), height):
        rows = left.unit[start : start + height]
        scores = out[: len(rows) * width].reshape(len(rows), width)
        np.matmul(rows, right.unit.T, out=scores)
        yield start, scores


def above(scores: Floats, rows: Floats, columns: Floats | None, buffers: Buffers) -> Positions:
    """Return flat places, ascending, with all scores above their row's or column's floor.

    One comparison with the lowest floor is by far the cheapest, and lets through what is a
    little lower. Where that is more than a few, each score meets its own floors.
    """
    lowest = rows.min() if columns is None else min(rows.min(), columns.min())
    passed = buffers.passed[: scores.size].reshape(scores.shape)
    np.greater(scores, lowest, out=passed)
    if np.count_nonzero(passed) > scores.size // _FEW:
        np.greater(scores, rows[:, None], out=passed)
        if columns is not None:
            other = buffers.other[: scores.size].reshape(scores.shape)
            np.greater(scores, columns, out=other)
            np.logical_or(passed, other, out=passed)
    return np.flatnonzero(passed)


def exact(left: Tile, right: Tile, rows: Positions, columns: Positions, *, cosine: bool) -> Floats:
    """Return the written score of pairs of the two tiles' rows, shape (n,).

    Each pair is added up alone, in float64 in one order, from the vectors as stored: equal
    pairs get equal bits in any company, and a vector with its copy a cosine of exactly 1.
    """
    scores = np.empty(rows.size)
    step = max(1, _EXACT_VALUES // max(1, left.raw.shape[1]))
    for start in range(0, rows.size, step):
        part = slice(start, start + step)
        a = left.raw.take(rows[part], axis=0).astype(np.float64)
        b = right.raw.take(columns[part], axis=0).astype(np.float64)
        np.einsum("ij,ij->i", a, b, out=scores[part])
    if cosine:
        # What this exceeds 1 by, float64's rounding, is lost in float32's.
        scores /= np.sqrt(left.squares[rows] * right.squares[columns])
    return scores.astype(np.float32)


def exact_between(
    left: Side, right: Side, rows: Positions, columns: Positions, *, threads: int = 1
) -> Floats:
    """Return the written scores of pairs of positions on two sides, tile by tile of the right."""
    blocks = (columns // right.tile) * max(1, left.tiles) + rows // left.tile
    order = np.argsort(blocks, kind="stable")
    starts = np.flatnonzero(np.diff(blocks[order], prepend=-1))
    scores = np.empty(rows.size, np.float32)

    def score(chosen: Positions) -> None:
        number = int(blocks[chosen[0]])
        a, b = left[number % left.tiles], right[number // left.tiles]
        scores[chosen] = exact(
            a, b, rows[chosen] - a.start, columns[chosen] - b.start, cosine=left.unit
        )

    crew.each(score, iter(np.split(order, starts[1:]) if rows.size else []), threads)
    return scores


def sort_keys(scores: Floats, positions: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return keys that sort by score, best first, then by position, ascending."""
    bits = (scores + np.float32(0)).view(np.uint32)  # + 0 turns -0 into 0
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(0x80000000))
    return (~ascending).astype(np.uint64) << np.uint64(32) | positions.astype(np.uint64)


def from_keys(keys: NDArray[np.uint64]) -> tuple[Floats, Positions]:
    """Return (scores, positions) of sort keys."""
    ascending = ~(keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ascending >> 31, ascending & np.uint32(0x7FFFFFFF), ~ascending)
    return bits.view(np.float32), (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
