"""The join of a corpus with what is paid for: by key, on disk, bucket by bucket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchembed.buckets import BUCKETS, Buckets
from batchembed.exchange import Keys
from batchembed.ledger.places import NOWHERE, SAME, Places

JOINED = np.dtype([("key", "<u8", 2), ("value", "<i8")])
PLACED = np.dtype([("row", "<i8"), ("place", "<i8")])
RANGE = 1 << 16

Entries = Iterable[tuple[Keys, NDArray[np.int64]]]
"""(keys, shape (n, 16); the place of each one's vector, or NOWHERE for a reject)."""


@dataclass(frozen=True, slots=True)
class Missing:
    """What a corpus still lacks. `rows` is a mask over the corpus: which rows to send.

    `dropped` texts have a vector, and no row of the corpus has them.
    """

    rows: NDArray[np.uint8]
    total: int
    sendable: int
    distinct: int
    paid: int
    rejected: int = 0
    dropped: int = 0

    @property
    def to_send(self) -> int:
        """How many texts are to be sent."""
        return self.distinct - self.paid

    def few(self, count: int) -> Missing:
        """Return the same with at most `count` rows to send, spread evenly over the corpus."""
        places = np.flatnonzero(np.unpackbits(self.rows, bitorder="little"))
        spread = np.linspace(0, len(places) - 1, min(count, len(places))).astype(np.int64)
        chosen = places[spread]
        bits = np.zeros_like(self.rows)
        np.bitwise_or.at(bits, chosen // 8, (1 << (chosen % 8)).astype(np.uint8))
        return replace(self, rows=bits, distinct=self.paid + len(chosen))

    def mask(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return which of the rows in [start, stop) are to be sent."""
        first = start // 8
        bits = np.unpackbits(self.rows[first : -(-stop // 8)], bitorder="little")
        return bits[start - first * 8 : stop - first * 8].view(np.bool_)


def missing(
    entries: Entries, corpus_keys: Iterable[Keys], *, scratch: Path | None, places: Places
) -> Missing:
    """Return which rows are in no entry and are the first of the corpus with their key.

    `corpus_keys` are the keys of all rows in corpus order, in arrays of shape (n, 16); a row
    whose key is all zeros has no text that could be sent. `places` gets the place of every row
    that is in an entry, and of every other row but the first with its key, which row is the first.
    """
    distinct = paid = rejected = dropped = 0
    with Buckets(JOINED, scratch=scratch) as join, Buckets(PLACED, scratch=scratch) as placed:
        for keys, found in entries:
            _add(join, keys, np.where(found == NOWHERE, NOWHERE, ~found))
        total, sendable = _add_rows(join, corpus_keys)
        size = max(RANGE, -(-total // BUCKETS))
        bits = np.zeros(-(-total // 8), np.uint8)
        for bucket in join:
            rows, starts = _sorted(bucket)
            first, has_entry, wanted = _groups(rows, starts)
            distinct += int(wanted.sum())
            paid += int((wanted & has_entry).sum())
            rejected += int((wanted & (first == NOWHERE)).sum())
            dropped += int((~wanted & (first != NOWHERE)).sum())
            numbers = first[wanted & ~has_entry]
            np.bitwise_or.at(bits, numbers // 8, (1 << (numbers % 8)).astype(np.uint8))
            known = _placed(rows, starts)
            placed.add(known, (known["row"] // size).astype(np.uint8))
        places.fill(_in_order(placed, total, size))
    return Missing(bits, total, sendable, distinct, paid, rejected, dropped)


def _in_order(placed: Buckets, total: int, size: int) -> Iterator[NDArray[np.int64]]:
    """Yield the place of every row in corpus order, of `size` rows at a time."""
    numbered = placed.numbered()
    upcoming = next(numbered, None)
    for number in range(-(-total // size)):
        start = number * size
        places = np.full(min(size, total - start), NOWHERE, np.int64)
        if upcoming is not None and upcoming[0] == number:
            places[upcoming[1]["row"] - start] = upcoming[1]["place"]
            upcoming = next(numbered, None)
        yield places


def _add(join: Buckets, keys: Keys, values: NDArray[np.int64]) -> None:
    rows = np.empty(len(keys), JOINED)
    rows["key"] = np.ascontiguousarray(keys).view("<u8")
    rows["value"] = values
    join.add(rows, keys[:, 0].copy())  # a view would keep the whole frame, vectors too, in memory


def _add_rows(join: Buckets, corpus_keys: Iterable[Keys]) -> tuple[int, int]:
    """Add the rows of a corpus under their numbers; return (rows, those with a key)."""
    total = sendable = 0
    for keys in corpus_keys:
        real = keys.any(axis=1)
        numbers = np.arange(total, total + len(keys))
        total += len(keys)
        sendable += int(real.sum())
        _add(join, keys[real], numbers[real])
    return total, sendable


def _sorted(rows: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.int64]]:
    """Return the rows grouped by key, each group as added, and where each group starts."""
    if not len(rows):
        return rows, np.empty(0, np.int64)
    high, low = rows["key"][:, 0], rows["key"][:, 1]
    order = np.argsort(high, kind="stable")
    same_high = high[order][1:] == high[order][:-1]
    if np.any(same_high & (low[order][1:] != low[order][:-1])):
        order = np.lexsort((low, high))
    rows = rows[order]
    changed = np.any(rows["key"][1:] != rows["key"][:-1], axis=1)
    return rows, np.concatenate([[0], np.flatnonzero(changed) + 1])


def _groups(
    rows: NDArray[np.void], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return per key: its first row, whether the ledger has it, whether the corpus has it.

    What the ledger has is added before the rows, so it stands first in its group.
    """
    values = rows["value"]
    has_entry = values[starts] < 0
    ends = np.append(starts[1:], len(rows))
    wanted = values[ends - 1] >= 0 if len(rows) else has_entry
    return values[starts], has_entry, wanted


def _placed(rows: NDArray[np.void], starts: NDArray[np.int64]) -> NDArray[np.void]:
    """Return (row, place) for every row whose key has a place, or stands first in another row."""
    values = rows["value"]
    lengths = np.diff(np.append(starts, len(rows)))
    first = np.repeat(values[starts], lengths)
    chosen = (values >= 0) & (first != NOWHERE) & (values != first)
    found = np.empty(int(chosen.sum()), PLACED)
    found["row"] = values[chosen]
    found["place"] = np.where(first < 0, ~first, SAME - first)[chosen]
    return found
