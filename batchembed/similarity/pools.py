"""The best partners found so far for each row of one tile, in fixed memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchembed.similarity.kernels import from_keys, sort_keys
from batchembed.similarity.products import Floats, Positions, floor_of

EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
_LAST = 0xFFFFFFFF
_MAXIMA, _OF = 128, 16

Keys = NDArray[np.uint64]
Arrays = dict[str, NDArray[Any]]


def kth_scores(keys: Keys, k: int) -> Floats:
    """Return the k-th best score of each row of sort keys, minus infinity where there are fewer."""
    if keys.shape[1] < k:
        return np.full(len(keys), -np.inf, np.float32)
    last = keys[:, k - 1]
    return np.where(last == EMPTY, np.float32(-np.inf), from_keys(last)[0])


def merged(best: Keys, known: Keys) -> Keys:
    """Return the best of both, row by row, as wide as `best`; `known` may have fewer rows."""
    if not known.size:
        return best
    rows = len(known)
    both = np.sort(np.concatenate([best[:rows], known], axis=1), axis=1)
    both[:, 1:][both[:, 1:] == both[:, :-1]] = EMPTY  # found again
    both.sort(axis=1)
    out = best.copy()
    out[:rows] = both[:, : best.shape[1]]
    return out


class Pool:
    """Holds for each row all candidates that may still be among its `k` best.

    Scores come in with an error of at most half a `band` (one number a row), and `relative` of
    themselves. So with A the k-th best score so far, whatever scores below A - band, and a
    little more, is out: `floor` is that bound, and only rises.

    A row has room for 2 k + 32 candidates. Where more lie within the band (copies, say,
    that differ in the last bit) its candidates are scored exactly, by `score`, and cut to
    k at once; where the k-th then stands at `ceiling`, which nothing passes, only lower
    positions can still come in, up to `last`.
    """

    def __init__(
        self,
        k: int,
        band: Floats,
        *,
        relative: float,
        ceiling: float,
        score: Callable[[Positions, Positions], Floats],
    ) -> None:
        rows = band.size
        self.k, self.band, self.relative = k, band, relative
        self.ceiling, self.score = ceiling, score
        self.floor = np.full(rows, -np.inf, np.float32)
        self._last = np.full(rows, _LAST, np.int64)
        self._keys = np.full((rows, 2 * k + 32), EMPTY, np.uint64)
        self._counts = np.zeros(rows, np.int64)
        self._lock = threading.Lock()

    def open(self, start: int, count: int) -> bool:
        """Return whether any of `count` rows from `start` on has no floor yet: all would pass."""
        return bool(np.isneginf(self.floor[start : start + count]).any())

    def seed(self, start: int, scores: Floats) -> None:
        """Raise the floor of rows from `start` on by a first look at some of their scores."""
        rows = slice(start, start + len(scores))
        if scores.shape[1] >= _MAXIMA * _OF and 4 * self.k <= _MAXIMA:
            # k maxima of disjoint columns are k scores: nearly the k best, far sooner.
            spread = scores[:, : _MAXIMA * _OF].reshape(len(scores), _OF, _MAXIMA)
            scores = spread.max(axis=1)
        width = scores.shape[1]
        if width > self.k:
            kth = np.partition(scores, width - self.k, axis=1)[:, width - self.k]
            self.reach(rows, kth)

    def reach(self, rows: slice, kth: Floats) -> None:
        """Raise the floor of rows whose k-th best score is at least `kth`."""
        np.maximum(self.floor[rows], self._floor(rows, kth), out=self.floor[rows])

    def add(self, rows: Positions, positions: Positions, scores: Floats) -> None:
        """Take in candidates, `rows` ascending; those under the floor are dropped."""
        with self._lock:
            self._add(rows, positions, scores)

    def _add(self, rows: Positions, positions: Positions, scores: Floats) -> None:
        while rows.size:
            open_ = (scores > self.floor[rows]) & (positions < self._last[rows])
            rows, positions, scores = rows[open_], positions[open_], scores[open_]
            counts = np.bincount(rows, minlength=self._counts.size)
            before = self._counts + counts - np.cumsum(counts)
            slots = before[rows] + np.arange(rows.size)
            fits = slots < self._keys.shape[1]
            self._keys[rows[fits], slots[fits]] = sort_keys(scores[fits], positions[fits])
            self._counts += np.bincount(rows[fits], minlength=self._counts.size)
            rows, positions, scores = rows[~fits], positions[~fits], scores[~fits]
            if rows.size:
                self._tighten(np.flatnonzero(self._counts > self.k))

    def narrow(self) -> int:
        """Drop what is under the floors by now; return how many candidates are left in all."""
        self._tighten(np.flatnonzero(self._counts > self.k))
        return int(self._counts.sum())

    def entries(self) -> tuple[Positions, Positions]:
        """Return (rows, positions) of all candidates, row by row, for `best` to be scored."""
        rows = np.repeat(np.arange(self._counts.size), self._counts)
        return rows, from_keys(self._keys[self._filled()])[1]

    def best(self, scores: Floats) -> Keys:
        """Return sort keys of each row's best, shape (rows, k), given its entries' scores."""
        filled = self._filled()
        self._keys[filled] = sort_keys(scores, from_keys(self._keys[filled])[1])
        return np.sort(self._keys, axis=1)[:, : self.k]

    def state(self) -> Arrays:
        """Return all that the pool holds, packed, for `restore`."""
        with self._lock:
            self._tighten(np.flatnonzero(self._counts > self.k))
            return {
                "counts": self._counts.astype(np.int32),
                "floor": self.floor,
                "last": self._last.astype(np.uint32),
                "keys": self._keys[self._filled()],
            }

    def restore(self, state: Arrays) -> None:
        """Take up what a pool of the same rows held."""
        self._counts = state["counts"].astype(np.int64)
        self.floor = state["floor"].copy()
        self._last = state["last"].astype(np.int64)
        self._keys[self._filled()] = state["keys"]

    def _floor(self, rows: slice | Positions, kth: Floats) -> Floats:
        """Return what a candidate's score exceeds that may be as good as one of `kth`."""
        least = kth - self.band[rows]
        if self.relative:
            least -= np.float32(self.relative) * np.abs(kth)
        return floor_of(least, self.relative)

    def _filled(self) -> NDArray[np.bool_]:
        return np.arange(self._keys.shape[1]) < self._counts[:, None]

    def _tighten(self, rows: Positions) -> None:
        """Sort the candidates of `rows`, raise their floors, drop what is under them."""
        keys = np.sort(self._keys[rows], axis=1)
        floor = self._floor(rows, from_keys(keys[:, self.k - 1])[0])
        keep = keys <= sort_keys(floor, np.full(rows.size, _LAST))[:, None]
        keys[~keep] = EMPTY
        self._keys[rows] = keys
        self._counts[rows] = keep.sum(axis=1)
        self.floor[rows] = np.maximum(self.floor[rows], floor)
        crowded = self._counts[rows] > self.k + (keys.shape[1] - self.k) // 2
        self._settle(rows[crowded])

    def _settle(self, rows: Positions) -> None:
        """Score the candidates of `rows` exactly and cut them to k."""
        if not rows.size:
            return
        counts = self._counts[rows]
        filled = np.arange(self._keys.shape[1]) < counts[:, None]
        keys = self._keys[rows]
        positions = from_keys(keys[filled])[1]
        keys[filled] = sort_keys(self.score(np.repeat(rows, counts), positions), positions)
        keys.sort(axis=1)
        keys[:, self.k :] = EMPTY
        self._keys[rows] = keys
        self._counts[rows] = self.k
        kth, last = from_keys(keys[:, self.k - 1])
        self._last[rows] = np.where(kth >= self.ceiling, last, _LAST)
