"""Vectors as points of a plane: the two principal axes, or UMAP where that is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from batchembed.errors import UsageError

Method = Literal["pca", "umap"]
METHODS: tuple[Method, ...] = ("pca", "umap")
SETTLED = 1e-7
ROUNDS = 300
BESIDES = 10


@dataclass(frozen=True, slots=True)
class Plane:
    """Places (n, 2) and how they came about. `shares`: of the variance, of each axis."""

    places: NDArray[np.float64]
    method: Method
    shares: tuple[float, float] | None = None


def project(vectors: NDArray[np.float32], method: Method, seed: int) -> Plane:
    """Return the vectors (n, d) as places on a plane."""
    return umap(vectors, seed) if method == "umap" else pca(vectors, seed)


def pca(vectors: NDArray[np.float32], seed: int) -> Plane:
    """Return the places on the first two principal axes of the centred vectors.

    By subspace iteration with Rayleigh-Ritz: exact enough after a few products with the vectors,
    where a full decomposition costs seconds in thousands of dimensions. Of the two directions of
    an axis, the one is taken in which its largest component is positive.
    """
    centred = vectors.astype(np.float64)
    centred -= centred.mean(axis=0) if len(centred) else 0.0
    total = float(np.einsum("ij,ij->", centred, centred))
    places, width = np.zeros((len(centred), 2)), min(2 + BESIDES, *centred.shape)
    if width == 0 or total <= 0:
        return Plane(places, "pca", (0.0, 0.0))
    start = np.random.default_rng(seed).standard_normal((centred.shape[1], width))
    axes, squares = _principal(centred, np.linalg.qr(start)[0])
    axes, squares = axes[:, :2], np.clip(squares[:2], 0.0, total)
    largest = np.argmax(np.abs(axes), axis=0)
    axes = axes * np.where(axes[largest, np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    places[:, : axes.shape[1]] = centred @ axes
    shares = [*(squares / total).tolist(), 0.0]
    return Plane(places, "pca", (shares[0], shares[1]))


def _principal(
    centred: NDArray[np.float64], axes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return orthonormal axes (d, k), the first of most variance, and the sum of squares on each.

    Round after round, until the first two lie still.
    """
    before = np.zeros(2)
    squares = before
    for _ in range(ROUNDS):
        axes, _ = np.linalg.qr(centred.T @ (centred @ axes))
        found = centred @ axes
        values, turn = np.linalg.eigh(found.T @ found)
        axes, squares = axes @ turn[:, ::-1], values[::-1]
        if np.all(np.abs(squares[:2] - before[: len(squares)]) <= SETTLED * squares[0]):
            break
        before = np.resize(squares[:2], 2)
    return axes, squares


def umap(vectors: NDArray[np.float32], seed: int) -> Plane:
    """Return the places that UMAP gives to the vectors, by cosine.

    Raises UsageError where umap-learn is not installed.
    """
    try:
        from umap import UMAP
    except ImportError as error:
        raise UsageError(
            "a map by `umap` needs the package umap-learn, which is not installed",
            hint="pip install 'batchembed[umap]', or take --map pca",
        ) from error
    neighbors = max(2, min(15, len(vectors) - 1))
    made = UMAP(n_components=2, metric="cosine", n_neighbors=neighbors, random_state=seed, n_jobs=1)
    return Plane(made.fit_transform(vectors).astype(np.float64), "umap")
