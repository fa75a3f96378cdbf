"""Whether float32 numbers came with their bytes in the other order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST = 16  # numbers that are not 0: fewer may be anything
SANE = (1e-12, 1e6)  # between these are the sizes of an embedding's numbers that are not 0


class ByteOrderError(ValueError):
    """The numbers of an answer make sense in the other byte order alone."""


def check(row: NDArray[np.float32]) -> None:
    """Raise ByteOrderError where the numbers of a vector, shape (d,), are ordinary turned round.

    That is: two in five of those that are not 0 are beyond any embedding's, and with their bytes
    turned round nine in ten are not. About three in four are in the wrong order. Numbers that are
    large or small for another reason do not turn into ordinary ones.
    """
    low, high = SANE
    if low < float(np.abs(row).max()) < high:  # nearly always: 2 µs
        return
    numbers = row[row != 0]
    if numbers.size < FEWEST:
        return
    if _sane(numbers) < 0.6 and _sane(numbers.byteswap()) > 0.9:  # noqa: PLR2004 - see above
        raise ByteOrderError("the numbers' bytes are in the other order")


def _sane(numbers: NDArray[np.float32]) -> float:
    """Return the share of numbers, shape (n,), whose size is that of an embedding's; of none: 1."""
    low, high = SANE
    sizes = np.abs(numbers)
    return float(np.mean((low < sizes) & (sizes < high))) if numbers.size else 1.0
