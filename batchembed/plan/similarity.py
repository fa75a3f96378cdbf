"""What a comparison at the end of a run would take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

TRIAL = 1 << 26  # multiplications of one trial: some milliseconds
TRIALS = 3
SELECTING = 1.5  # what finding the best of the scores adds to making them
ID_BYTES = 12


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores to make, bytes to write (None: how many pass is not known), seconds it will take."""

    kind: str
    scores: int
    bytes: int | None
    seconds: float


def comparison(
    sides: tuple[int, int | None],
    dimensions: int,
    *,
    top_k: int | None,
    dense: bool,
    bytes_a_score: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Return what comparing takes: `sides` are rows of the left and right, None: with itself.

    The seconds come of multiplying random vectors of these dimensions here and now.
    """
    left, right = sides
    other = left if right is None else right
    scores = left * other
    kind, size = "min_score", None
    if dense:
        kind, size = "dense", scores * bytes_a_score
    elif top_k is not None:
        kind, size = "top_k", left * min(top_k, other) * ID_BYTES
    return Comparison(kind, scores, size, SELECTING * scores * _seconds(dimensions, clock))


def _seconds(dimensions: int, clock: Callable[[], float]) -> float:
    """Return the seconds that one score takes, at best of a few trials."""
    side = max(64, int((TRIAL / dimensions) ** 0.5))
    rng = np.random.default_rng(1)
    block = rng.standard_normal((side, dimensions), np.float32)
    out = np.empty((side, side), np.float32)
    times = []
    for _ in range(1 + TRIALS):
        began = clock()
        np.matmul(block, block.T, out=out)
        times.append(clock() - began)
    return min(times[1:]) / (side * side)  # the first one warms up
