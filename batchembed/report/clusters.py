"""Rows in an order in which like stands by like, cut into a few clusters that have names.

Theory of operation. Ward's method joins, again and again, the two clusters whose union spreads
least. The nearest-neighbour chain finds the same joins in n² steps: follow nearest neighbours
until two are each other's, join them, go on from where the chain stood. The leaves of the tree
that results are ordered by turning each join so that the two ends that meet are the nearest of
the four choices (Gruvaeus and Wainer, 1972).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
MOST_CLUSTERS = 7
NAME_WORDS = 3
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True, slots=True)
class Join:
    """Two clusters that become one. Numbers under n are rows, others n plus the join's place."""

    left: int
    right: int
    height: float
    size: int


@dataclass(frozen=True, slots=True)
class Clusters:
    """`order` (n,) are rows so that like stands by like; `of` (n,) each row's cluster, 0 first."""

    order: NDArray[np.int64]
    of: NDArray[np.int64]
    names: list[str]


def cluster(unit: Floats, texts: Sequence[str] | None, most: int = MOST_CLUSTERS) -> Clusters:
    """Order the rows of `unit` (n, d) and cut them into at most `most` clusters, of 4 on average.

    Clusters are numbered as they stand in the order, and named by words that are frequent in them
    and rare elsewhere.
    """
    joins = ward(unit)
    order = leaves(joins, unit)
    of = _cut(joins, len(unit), max(1, min(most, len(unit) // 4)))
    _, first = np.unique(of[order], return_index=True)
    number = np.argsort(np.argsort(first))
    of = number[of]
    return Clusters(order, of, names(of, texts))


def ward(unit: Floats) -> list[Join]:
    """Return the n - 1 joins of Ward's method, the lowest first; heights as in scipy's."""
    n = len(unit)
    far = unit @ unit.T
    far *= -2.0
    far += 2.0  # squared distances
    np.fill_diagonal(np.maximum(far, 0.0, out=far), np.inf)
    sizes, chain = np.ones(n, np.float32), list[int]()
    found: list[tuple[float, int, int]] = []
    while len(found) < n - 1:
        if not chain:
            chain.append(int(np.argmax(sizes > 0)))
        one = chain[-1]
        other = int(np.argmin(far[one]))
        if len(chain) > 1 and far[one, chain[-2]] <= far[one, other]:
            other = chain[-2]
            del chain[-2:]
            found.append((float(far[one, other]), one, other))
            _join(far, sizes, one, other)
        else:
            chain.append(other)
    return _numbered(found, n)


def _join(far: Floats, sizes: Floats, one: int, other: int) -> None:
    """Let `other` stand for both, by the formula of Lance and Williams."""
    a, b = sizes[one], sizes[other]
    row = (a + sizes) * far[one] + (b + sizes) * far[other] - sizes * far[one, other]
    row /= a + b + sizes
    row[other] = np.inf
    far[other], far[:, other] = row, row
    far[one], far[:, one] = np.inf, np.inf
    sizes[other], sizes[one] = a + b, 0


def _numbered(found: list[tuple[float, int, int]], n: int) -> list[Join]:
    """Return joins in order of height, naming clusters by number instead of by one of their rows.

    A stable sort keeps the two parts of a join before it.
    """
    above = list(range(n))
    number, size = list(range(n)), [1] * n
    joins = []
    for place, (height, one, other) in enumerate(sorted(found, key=lambda join: join[0])):
        a, b = _root(above, one), _root(above, other)
        left, right = sorted((number[a], number[b]))
        above[a], size[b], number[b] = b, size[a] + size[b], n + place
        joins.append(Join(left, right, float(np.sqrt(height)), size[b]))
    return joins


def _root(above: list[int], row: int) -> int:
    while above[row] != row:
        above[row] = above[above[row]]
        row = above[row]
    return row


def leaves(joins: Sequence[Join], unit: Floats) -> NDArray[np.int64]:
    """Return all rows in an order that the joins allow, near ends turned to each other."""
    n = len(unit)
    rows: list[list[int]] = [[row] for row in range(n)]
    for join in joins:
        left, right = rows[join.left], rows[join.right]
        ends = unit[[left[-1], left[0]]] @ unit[[right[0], right[-1]]].T
        turn_left, turn_right = divmod(int(np.argmax(np.round(ends, 5))), 2)
        rows.append((left[::-1] if turn_left else left) + (right[::-1] if turn_right else right))
        rows[join.left] = rows[join.right] = []
    return np.array(rows[-1] if rows else [], np.int64)


def _cut(joins: Sequence[Join], n: int, count: int) -> NDArray[np.int64]:
    """Return a number for each row that is the same within each of `count` clusters."""
    labels = np.arange(2 * n)
    kept = len(joins) - count + 1
    for place in reversed(range(kept)):
        join = joins[place]
        labels[join.left] = labels[join.right] = labels[n + place]
    return np.unique(labels[:n], return_inverse=True)[1].astype(np.int64)


def names(of: NDArray[np.int64], texts: Sequence[str] | None) -> list[str]:
    """Return a name for each cluster: words that many of its rows have and few others."""
    count = int(of.max(initial=-1)) + 1
    told = [Counter[str]() for _ in range(count)]
    for number, text in zip(of.tolist(), texts or (), strict=False):
        told[number].update(set(_WORD.findall(text.casefold())))
    sizes = np.bincount(of, minlength=count).tolist()
    return [
        " · ".join(_telling(number, told, sizes)) or f"cluster {number + 1}"
        for number in range(count)
    ]


def _telling(number: int, told: list[Counter[str]], sizes: list[int]) -> list[str]:
    """Return the words that tell a cluster from each other: not what any other says as often.

    By the share of rows that have the word, times the logarithm of how much greater that is than
    in the cluster where it is greatest besides.
    """
    weights = {}
    for word, seen in told[number].items():
        others = (
            max(words[word], 0.5) / size
            for other, (words, size) in enumerate(zip(told, sizes, strict=True))
            if other != number
        )
        mine = seen / sizes[number]
        more = mine / max(others, default=0.5 / sizes[number])
        if seen > 1 and more > 1:
            weights[word] = mine * float(np.log(more))
    return sorted(weights, key=lambda word: (-weights[word], word))[:NAME_WORDS]
