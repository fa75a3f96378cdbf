"""What an answer's vectors must prove before they are believed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from batchembed.exchange import Vectors

UNIT = 1e-3
TINY = 1e-30


def checked(vectors: Vectors, *, normalize: bool) -> tuple[Vectors, NDArray[np.bool_]]:
    """Return the vectors, shape (n, d), and which of them are finite and not zero, shape (n,).

    With `normalize`, a vector whose length is off 1 by more than 1e-3 is divided by it; one that
    is of unit length already keeps its bits.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    doubtful = ~(np.isfinite(squares) & (squares > TINY))
    if doubtful.any():  # too large or too small for squares in float32, or truly bad
        wide = vectors[doubtful].astype(np.float64)
        squares[doubtful] = np.einsum("ij,ij->i", wide, wide)
    good = np.isfinite(squares) & (squares > 0)
    if not normalize:
        return vectors, good
    off = good & (np.abs(np.sqrt(squares) - 1.0) > UNIT)
    if off.any():
        wide = vectors[off].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        vectors = vectors.copy()
        vectors[off] = (wide / lengths[:, None]).astype(np.float32)
    return vectors, good


def twins(vectors: Vectors) -> NDArray[np.bool_]:
    """Return which vectors of (n, d) stand there twice, shape (n,): their texts are different."""
    whole = np.ascontiguousarray(vectors).view(np.dtype((np.void, vectors.shape[1] * 4))).ravel()
    _, inverse, counts = np.unique(whole, return_inverse=True, return_counts=True)
    return counts[inverse.ravel()] > 1
