"""What an answer's vectors must prove before they are believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchembed.exchange import Vectors

UNIT = 1e-3


def checked(vectors: Vectors, *, normalize: bool) -> tuple[Vectors, NDArray[np.bool_]]:
    """Return the vectors, shape (n, d), and which of them are finite and not zero, shape (n,).

    With `normalize`, a vector whose length is off 1 by more than 1e-3 is divided by it; one that
    is of unit length already keeps its bits.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    good = np.isfinite(squares) & (squares > 0)
    if not normalize:
        return vectors, good
    lengths = np.sqrt(squares)
    off = good & (np.abs(lengths - 1.0) > UNIT)
    if off.any():
        vectors = vectors.copy()
        vectors[off] = (vectors[off].astype(np.float64) / lengths[off, None]).astype(np.float32)
    return vectors, good


def twins(vectors: Vectors) -> NDArray[np.bool_]:
    """Return which vectors of (n, d) stand there twice, shape (n,): their texts are different."""
    whole = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.shape[1] * 4))).ravel()
    _, inverse, counts = np.unique(whole, return_inverse=True, return_counts=True)
    return counts[inverse.ravel()] > 1
