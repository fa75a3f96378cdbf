"""Which of the drawn rows lie near each other: neighbours, closest pairs, near-duplicates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRIPE = 256
Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Nearness:
    """`near` (n, k) are the nearest of each row, best first, `scores` (n, k) their cosines.

    `pairs` are the closest rows of different texts, best first. `groups` are rows that are linked
    by scores of at least `least`, the largest group first.
    """

    near: Ints
    scores: Floats
    pairs: list[tuple[int, int, float]]
    groups: list[list[int]]
    least: float


def look(unit: Floats, same: Ints, *, k: int, pairs: int, least: float) -> Nearness:
    """Compare all rows of `unit` (n, d) with each other, a stripe at a time.

    `same` (n,) gives rows of equal texts the same number.
    """
    n = len(unit)
    k = min(k, max(0, n - 1))
    near, scores = np.zeros((n, k), np.int64), np.zeros((n, k), np.float32)
    closest, labels = _Closest(pairs), np.arange(n)
    for start in range(0, n, STRIPE):
        rows = np.arange(start, min(start + STRIPE, n))
        # rounded, so that equal pairs are equal whatever order the processor adds in
        block = np.round(unit[rows] @ unit.T, 6).clip(-1.0, 1.0)
        _link(labels, block >= least, rows)
        block[np.arange(len(rows)), rows] = -np.inf
        near[rows], scores[rows] = _best(block, k)
        block[(np.arange(n) <= rows[:, None]) | (same == same[rows][:, None])] = -np.inf
        closest.add(block, start)
    return Nearness(near, scores, closest.found(), _groups(labels), least)


def _best(block: Floats, k: int) -> tuple[Ints, Floats]:
    """Return the columns of the `k` best scores of each row, best first, and the scores."""
    some = min(2 * k + 8, block.shape[1])  # more than k, so that ties at the end are settled below
    columns = np.argpartition(-block, some - 1, axis=1)[:, :some]
    values = np.take_along_axis(block, columns, axis=1)
    order = np.lexsort((columns, -values), axis=1)[:, :k]
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


class _Closest:
    """The best scores seen so far, each with its two rows."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._seen: list[tuple[float, int, int]] = []

    def add(self, block: Floats, start: int) -> None:
        """Look at a block of scores whose first row is `start`."""
        flat = block.ravel()
        some = min(4 * self.count, flat.size)
        for at in np.argpartition(-flat, some - 1)[:some].tolist() if some else ():
            if np.isfinite(flat[at]):
                row, column = divmod(at, block.shape[1])
                self._seen.append((-float(flat[at]), start + row, column))
        self._seen = sorted(self._seen)[: self.count]

    def found(self) -> list[tuple[int, int, float]]:
        """Return (row, row, score), best first."""
        return [(left, right, -score) for score, left, right in self._seen]


def _link(labels: Ints, linked: NDArray[np.bool_], rows: Ints) -> None:
    """Give all rows that are linked, directly or by others, the smallest label among them."""
    for row, mine in zip(rows, linked, strict=True):
        mine[row] = True
        found = np.unique(labels[mine])
        if found.size > 1:
            labels[np.isin(labels, found)] = found[0]


def _groups(labels: Ints) -> list[list[int]]:
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    groups = [group.tolist() for group in np.split(order, starts) if group.size > 1]
    return sorted(groups, key=lambda group: (-len(group), group[0]))
