"""How blocks are multiplied: what a product must offer, and numpy's, in float32.

Theory of operation. No product decides anything: it sieves. Each says how far its scores may
be from the exact ones, and whatever could belong to the answer by that bound is scored again
from the vectors as stored (`kernels.exact`). So a coarser, faster product gives the same bytes;
it only lets more through.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Positions = NDArray[np.int64]

# Vectors this near to length 1 are multiplied as they are: the bound allows for it.
UNIT_TOLERANCE = 2.0**-24
ROUNDING = 2.0**-24
TINY = 2.0**-126
_FEW = 64
_WORD = 8


class Block(Protocol):
    """Some scores, rows by columns."""

    def floats(self) -> Floats:
        """Return them as float32, to be written over at will."""
        ...

    def above(self, rows: Floats, columns: Floats | None) -> tuple[Positions, Floats]:
        """Return (flat places, scores), ascending, with all above their row's or column's floor.

        Others may be among them.
        """
        ...


class Product(Protocol):
    """A way to multiply tiles. `relative`: the part of a score that its own rounding may move."""

    name: str
    relative: float

    def slack(self, dimensions: int) -> float:
        """Return how far adding up may move a score from the written one, at length 1."""
        ...

    def operand(self, unit: Floats) -> Any:
        """Return what is multiplied in place of these vectors."""
        ...

    def rounding(self, unit: Floats, operand: Any) -> float:
        """Return how far `operand` moved a vector, at most, as a part of its length."""
        ...

    def stripes(self, left: Any, right: Any, height: int) -> Iterator[tuple[int, Block]]:
        """Yield (first row, scores) of a block, `height` rows at a time.

        Each is overwritten by the next of the same thread.
        """
        ...

    def begin(self, threads: int = 1) -> None:
        """Make a thread ready, before its first block: its products use so many threads."""
        ...

    def threads(self) -> int:
        """Return how many threads a product of this thread uses."""
        ...


class Buffers(threading.local):
    """Room for one stripe and two masks over it, for each thread its own, grown as needed."""

    def __init__(self, kind: type[np.generic]) -> None:
        self._kind = kind
        self._room(0)

    def _room(self, size: int) -> None:
        self.scores: NDArray[Any] = np.empty(size, self._kind)
        self.passed = np.empty(size, np.bool_)
        self.other = np.empty(size, np.bool_)

    def shaped(self, rows: int, columns: int) -> NDArray[Any]:
        """Return room for the scores of so many rows and columns."""
        if self.scores.size < rows * columns:
            self._room(rows * columns)
        return self.scores[: rows * columns].reshape(rows, columns)


class FloatBlock:
    """Scores in float32."""

    def __init__(self, scores: Floats, buffers: Buffers) -> None:
        self._scores, self._buffers = scores, buffers

    def floats(self) -> Floats:
        """Return the scores themselves."""
        return self._scores

    def above(self, rows: Floats, columns: Floats | None) -> tuple[Positions, Floats]:
        """Return (flat places, scores) of all above their row's or column's floor."""
        flat = above(self._scores, rows, columns, self._buffers)
        return flat, self._scores.ravel()[flat]


def above(
    scores: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any] | None, buffers: Buffers
) -> Positions:
    """Return flat places, ascending, with all scores above their row's or column's floor.

    One comparison with the lowest floor is by far the cheapest, and lets through what is a
    little lower. Where that is more than a few, each score meets its own floors.
    """
    lowest = rows.min() if columns is None else min(rows.min(), columns.min())
    passed = buffers.passed[: scores.size].reshape(scores.shape)
    np.greater(scores, lowest, out=passed)
    flat = passed.reshape(-1)
    eights = _eights(flat)
    if eights.size > scores.size // _FEW:
        np.greater(scores, rows[:, None], out=passed)
        if columns is not None:
            other = buffers.other[: scores.size].reshape(scores.shape)
            np.greater(scores, columns, out=other)
            np.logical_or(passed, other, out=passed)
        eights = _eights(flat)
    return _places(flat, eights)


def _eights(passed: NDArray[np.bool_]) -> Positions:
    """Return which eights of a mask of shape (n,) have anything true, but for the last few."""
    return np.flatnonzero(passed[: passed.size - passed.size % _WORD].view(np.uint64) != 0)


def _places(passed: NDArray[np.bool_], eights: Positions) -> Positions:
    """Return where a mask is true, ascending: where few are, in half the time of `flatnonzero`."""
    whole = passed.size - passed.size % _WORD
    inside = np.flatnonzero(passed[:whole].view(np.uint64)[eights].view(np.bool_))
    found = eights[inside // _WORD] * _WORD + inside % _WORD
    rest = np.flatnonzero(passed[whole:])
    return np.concatenate([found, rest + whole]) if rest.size else found


class Float32:
    """numpy's product, that is BLAS, which every installation has."""

    name = "float32"
    relative = 0.0

    def __init__(self) -> None:
        self._buffers = Buffers(np.float32)

    def slack(self, dimensions: int) -> float:
        """Return how far a score may be from the written one.

        Any order of adding `dimensions` float32 products errs by at most (dimensions + 2)
        roundings of |a||b|; then come the rounding of both unit vectors, lengths that are only
        near 1, and the rounding of what is written.
        """
        near_unit = 2 * UNIT_TOLERANCE / ROUNDING
        return (dimensions + near_unit + 8) * ROUNDING * 1.05

    def operand(self, unit: Floats) -> Floats:
        """Return the vectors themselves."""
        return unit

    def rounding(self, unit: Floats, operand: Floats) -> float:  # noqa: ARG002 - they are the same
        """Return 0."""
        return 0.0

    def stripes(self, left: Floats, right: Floats, height: int) -> Iterator[tuple[int, FloatBlock]]:
        """Yield (first row, scores) of a block."""
        for start in range(0, len(left), height):
            rows = left[start : start + height]
            scores = self._buffers.shaped(len(rows), len(right))
            np.matmul(rows, right.T, out=scores)
            yield start, FloatBlock(scores, self._buffers)

    def begin(self, threads: int = 1) -> None:
        """Do nothing: `alone` keeps BLAS to one thread."""

    def threads(self) -> int:
        """Return 1, as `begin` does nothing."""
        return 1


def floor_of(least: NDArray[np.floating], relative: float) -> NDArray[np.floating]:
    """Return what a product's score exceeds if with its own rounding it may reach `least`."""
    if not relative:
        return least
    part = np.where(least > 0, 1 + relative, 1 - relative)
    floor: Floats = (least / part - TINY).astype(np.float32)
    return floor
