"""torch's product in bfloat16, which has half the bits and is read as integers.

For unit vectors a, b and rounded ones a', b': |a.b - a'.b'| <= |a - a'||b| + |a'||b - b'|
(Cauchy-Schwarz). How far rounding moves the vectors at hand is measured, vector by vector; it
is at most 2^-8 of the length, as bfloat16 has 8 bits. Rounding a score moves it by at most 2^-8
of itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchembed.similarity.products import ROUNDING, TINY, Buffers, Floats, Positions, above

Bits = NDArray[np.int16]

_HALF = 2.0**-8


class BitsBlock:
    """Scores in bfloat16, as the integers that have the same bits."""

    def __init__(self, bits: Bits, buffers: Buffers) -> None:
        self._bits, self._buffers = bits, buffers

    def floats(self) -> Floats:
        """Return the scores as float32, a copy."""
        return _from_bits(self._bits)

    def above(self, rows: Floats, columns: Floats | None) -> tuple[Positions, Floats]:
        """Return (flat places, scores) of all above their row's or column's floor.

        Positive floats are ordered as their bits are; negative ones must be turned round first,
        which is needed only where a floor is not positive.
        """
        lowest = rows.min() if columns is None else min(rows.min(), columns.min())
        bits = self._bits if lowest > 0 else _turned(self._bits)
        marks = None if columns is None else _marks(columns)
        flat = above(bits, _marks(rows), marks, self._buffers)
        return flat, _from_bits(self._bits.ravel()[flat])


def _from_bits(bits: Bits) -> Floats:
    return (bits.astype(np.int32) << np.int32(16)).view(np.float32)


def _turned(bits: Bits) -> Bits:
    """Return integers in the order of the floats whose bits these are."""
    return bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF))


def _marks(floors: Floats) -> Bits:
    """Return integers below those of every bfloat16 above these floors.

    Cutting bits off moves towards 0: down for positive floors, up for negative ones.
    """
    cut = (floors.view(np.uint32) >> np.uint32(16)).astype(np.uint16).view(np.int16)
    return np.where(floors > 0, cut, _turned(cut) - np.int16(1))


class Bfloat16:
    """torch's product in bfloat16: about twice as fast where the processor has it built in."""

    name = "bfloat16"
    relative = _HALF * 1.02

    def __init__(self) -> None:
        import torch

        self._torch = torch
        self._buffers = Buffers(np.int16)

    def slack(self, dimensions: int) -> float:
        """Return how far adding up may move a score: in float32, in pairs of products."""
        return (2 * dimensions + 16) * ROUNDING * 1.05

    def operand(self, unit: Floats) -> Any:
        """Return the vectors in bfloat16."""
        return self._torch.from_numpy(np.ascontiguousarray(unit)).to(self._torch.bfloat16)

    def rounding(self, unit: Floats, operand: Any) -> float:
        """Return how far a vector was moved, at most, as a part of its length."""
        moved = self._torch.from_numpy(np.ascontiguousarray(unit))
        lengths = moved.norm(dim=1)
        part = (moved - operand.float()).norm(dim=1) / lengths.clamp(min=TINY)
        return float(part.max()) * (1 + unit.shape[1] * 4 * ROUNDING) if len(unit) else 0.0

    def stripes(self, left: Any, right: Any, height: int) -> Iterator[tuple[int, BitsBlock]]:
        """Yield (first row, scores) of a block."""
        columns = right.t()
        for start in range(0, len(left), height):
            rows = left[start : start + height]
            bits = self._buffers.shaped(len(rows), len(right))
            scores = self._torch.from_numpy(bits).view(self._torch.bfloat16)
            self._torch.mm(rows, columns, out=scores)
            yield start, BitsBlock(bits, self._buffers)

    def begin(self, threads: int = 1) -> None:
        """Keep torch to so many threads in this one."""
        self._torch.set_num_threads(threads)

    def threads(self) -> int:
        """Return how many threads torch uses in this one."""
        return int(self._torch.get_num_threads())
