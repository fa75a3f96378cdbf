"""Where the rows of a CSV text begin and end, given that quoted values may hold anything."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Places: TypeAlias = NDArray[np.int64]
"""Positions in a text, ascending, shape (n,)."""

_LF, _CR = 10, 13


@dataclass(frozen=True, slots=True)
class Dialect:
    """The delimiter (one byte) and the quote (one byte, or empty: there is no quoting)."""

    delimiter: bytes
    quote: bytes


@dataclass(frozen=True, slots=True)
class Quoted:
    """The quoted stretches of a text: positions of opening and of closing quotes.

    `open_at` is a quote that is opened and not closed; `junk_at` is the first closing quote
    after which the value goes on.
    """

    starts: Places
    ends: Places
    open_at: int | None = None
    junk_at: int | None = None

    def outside(self, positions: Places) -> Places:
        """Return those of `positions` that are not within quotes."""
        before = np.searchsorted(self.starts, positions, side="right") - 1
        ends = np.append(self.ends, -1)  # position -1 has index -1: never inside
        free = positions > ends[before]
        if self.open_at is not None:
            free &= positions < self.open_at
        return positions[free]


def quoted(text: bytes, dialect: Dialect) -> Quoted:
    """Return the quoted stretches of `text`, which begins at the beginning of a row.

    Where every quote opens at the beginning of a value and closes at the end of one, as RFC 4180
    wants it, they alternate. Else (a lone quote within a value) each value is looked at.
    """
    if not dialect.quote or dialect.quote not in text:
        return Quoted(_none(), _none())
    data = np.frombuffer(text, np.uint8)
    places = np.flatnonzero(data == dialect.quote[0])
    opening, closing = places[0::2], places[1::2]
    border = np.zeros(256, np.bool_)
    border[[_LF, _CR, dialect.delimiter[0], dialect.quote[0]]] = True
    before = data[np.maximum(opening - 1, 0)]
    after = data[np.minimum(closing + 1, len(data) - 1)]
    doubled = np.zeros(len(opening), np.bool_)
    doubled[1:] = opening[1:] == closing[: len(opening) - 1] + 1
    opens = border[before] & ((before != dialect.quote[0]) | doubled) | (opening == 0)
    closes = border[after] | (closing == len(data) - 1)
    if opens.all() and closes.all():
        if len(opening) == len(closing):
            return Quoted(opening, closing)
        first = int(np.flatnonzero(~doubled)[-1])  # the quote that a doubled one goes on from
        return Quoted(opening[:first], closing[:first], open_at=int(opening[first]))
    return _one_by_one(text, dialect)


def row_ends(text: bytes, dialect: Dialect, stretches: Quoted) -> Places:
    r"""Return the positions of the line ends (\n, \r) outside quotes."""
    data = np.frombuffer(text, np.uint8)
    breaks = data == _LF
    if b"\r" in text:
        breaks |= data == _CR
    places = np.flatnonzero(breaks)
    return stretches.outside(places) if dialect.quote else places


def row_starts(text: bytes, dialect: Dialect, stretches: Quoted) -> Places:
    """Return the positions at which rows begin; blank lines are no rows."""
    ends = row_ends(text, dialect, stretches)
    starts = np.concatenate([[0], ends + 1])
    stops = np.concatenate([ends, [len(text)]])
    return starts[stops > starts]


def fields(text: bytes, dialect: Dialect, stretches: Quoted) -> tuple[Places, NDArray[np.int64]]:
    """Return the positions of the rows, and the number of values in each."""
    starts = row_starts(text, dialect, stretches)
    data = np.frombuffer(text, np.uint8)
    commas = stretches.outside(np.flatnonzero(data == dialect.delimiter[0]))
    counts = np.diff(np.searchsorted(commas, np.append(starts, len(text)))) + 1
    return starts, counts


def _one_by_one(text: bytes, dialect: Dialect) -> Quoted:
    quote, border = re.escape(dialect.quote), b"[" + re.escape(dialect.delimiter) + rb"\r\n]"
    value = re.compile(
        rb"(?:\A|(?<=" + border + rb"))Q[^Q]*+(?:QQ[^Q]*+)*+(Q|\Z)".replace(b"Q", quote)
    )
    end_of_value = re.compile(border)
    starts, ends = [], []
    open_at = junk_at = None
    for match in value.finditer(text):
        if not match[1]:
            open_at = match.start()
            break
        starts.append(match.start())
        ends.append(match.end() - 1)
        if (
            junk_at is None
            and match.end() < len(text)
            and not end_of_value.match(text, match.end())
        ):
            junk_at = match.end() - 1
    return Quoted(np.array(starts, np.int64), np.array(ends, np.int64), open_at, junk_at)


def _none() -> NDArray[Any]:
    return np.empty(0, np.int64)
