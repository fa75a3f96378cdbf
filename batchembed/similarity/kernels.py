"""Exact scores of pairs, and keys that sort by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchembed.similarity import crew
from batchembed.similarity.blocks import Side, Tile
from batchembed.similarity.products import Floats, Positions

_EXACT_VALUES = 1 << 17


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
