"""What an answer's vectors must prove before they are believed."""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import combining, normalize

import numpy as np
from numpy.typing import NDArray

from batchembed.exchange import Vectors

UNIT = 1e-3
TINY = 1e-30
SURE = (0.9985, 1.0015)  # squares of lengths that are 1 within UNIT whatever the rounding
SHORT = 8
SAME = 0.9999  # the least cosine of two answers to one text


def sound(vectors: Vectors, *, distinct: bool) -> bool:
    """Return whether all is as it nearly always is, at a tenth of the cost of the full proof.

    That is: every vector of (n, d) has unit length and, where they must be `distinct`, no two
    begin alike. False says nothing yet.
    """
    low, high = SURE
    if len(vectors) == 1:
        return low <= float(np.dot(vectors[0], vectors[0])) <= high
    squares = np.einsum("ij,ij->i", vectors, vectors)
    if not (squares.min() >= low and squares.max() <= high):
        return False
    if not distinct:
        return True
    starts = np.ascontiguousarray(vectors[:, :SHORT])
    width = starts.shape[1] * starts.itemsize
    data = starts.tobytes()
    return len({data[at : at + width] for at in range(0, len(data), width)}) == len(vectors)


def checked(
    vectors: Vectors, *, normalize: bool, joined: int = 1
) -> tuple[Vectors, NDArray[np.bool_]]:
    """Return the vectors, shape (n, d), and which of them are finite and not zero, shape (n,).

    With `normalize`, a vector whose length is off 1 by more than 1e-3 is divided by it; one that
    is of unit length already keeps its bits. Where each row is `joined` of several vectors, that
    goes for each of these; a row is as good as its worst.
    """
    if joined > 1 and vectors.shape[1] % joined == 0:
        each, good = checked(vectors.reshape(len(vectors) * joined, -1), normalize=normalize)
        whole: NDArray[np.bool_] = np.all(good.reshape(-1, joined), axis=1)
        return each.reshape(len(vectors), -1), whole
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


def alike(vectors: Vectors, texts: Sequence[str], among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the twins `among` (n,) differ from none of theirs but as a server may fold.

    That is in case, accents and whitespace: such texts may well have one vector.
    """
    found = np.zeros(len(texts), np.bool_)
    groups: dict[bytes, list[int]] = {}
    for at in np.flatnonzero(among).tolist():
        groups.setdefault(vectors[at].tobytes(), []).append(at)
    for group in groups.values():
        found[group] = len({_folded(texts[at]) for at in group}) == 1
    return found


def same(one: Vectors, other: Vectors) -> bool:
    """Return whether two answers, (1, d) each, are to one text: equal but for rounding."""
    a, b = one[0].astype(np.float64), other[0].astype(np.float64)
    return bool(a @ b > SAME * np.sqrt((a @ a) * (b @ b)))


def _folded(text: str) -> str:
    bare = "".join(c for c in normalize("NFKD", text) if not combining(c))
    return " ".join(bare.casefold().split())
