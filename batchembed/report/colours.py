"""Metadata columns as something to colour a map by: categories, or numbers on a scale."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.report.words import number

MOST_COLUMNS = 16
MOST_VALUES = 60
FEW_NUMBERS = 7
NONE = 255
OTHER = 254
SCALE = 253
_types = pa.types


@dataclass(frozen=True, slots=True)
class Colouring:
    """One code a row, (n,) uint8; NONE where there is no value.

    Categories: `values` are told by their codes, OTHER are those beyond MOST_VALUES. A scale has
    no `values`; its codes go from 0 at `low` to SCALE at `high`.
    """

    name: str
    codes: NDArray[np.uint8]
    values: list[str] | None = None
    low: str = ""
    high: str = ""


def colourings(kept: pa.Table, but: Iterable[str]) -> list[Colouring]:
    """Return the columns of a table, but some, that can colour; where all differ, none can."""
    found = (_colouring(name, kept[name]) for name in kept.column_names if name not in but)
    return [one for one in found if one is not None][:MOST_COLUMNS]


def _colouring(name: str, column: pa.ChunkedArray) -> Colouring | None:
    kind = column.type.value_type if _types.is_dictionary(column.type) else column.type
    if _types.is_nested(kind) or _types.is_null(kind):
        return None
    values = column.to_pylist()
    numeric = _types.is_integer(kind) or _types.is_floating(kind) or _types.is_decimal(kind)
    if numeric or _types.is_date(kind) or _types.is_timestamp(kind):
        distinct = len({value for value in values if value is not None})
        if distinct > FEW_NUMBERS or _types.is_floating(kind):
            return scale(name, values)
    elif not (_types.is_boolean(kind) or _types.is_string(kind) or _types.is_large_string(kind)):
        return None
    return categories(name, values)


def categories(name: str, values: list[Any]) -> Colouring | None:
    """Return a colouring by value, the most frequent first; None where most values stand alone."""
    counts = Counter(value for value in values if value is not None)
    if not counts or (len(counts) > MOST_VALUES and 2 * len(counts) > len(values)):
        return None
    ordered = sorted(counts, key=lambda value: (-counts[value], value))
    if not isinstance(ordered[0], str) and len(ordered) <= FEW_NUMBERS:
        ordered = sorted(ordered)
    codes = {value: code for code, value in enumerate(ordered[:MOST_VALUES])}
    found = [NONE if value is None else codes.get(value, OTHER) for value in values]
    told = [_told(value) for value in codes]
    return Colouring(name, np.array(found, np.uint8), told)


def scale(name: str, values: list[Any]) -> Colouring | None:
    """Return a colouring of numbers or dates by where they stand between least and greatest."""
    there = [value for value in values if value is not None and value == value]  # noqa: PLR0124 - NaN
    finite = [value for value in there if abs(_size(value)) < np.inf]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    span = (_size(high) - _size(low)) or 1.0
    codes = np.full(len(values), NONE, np.uint8)
    for row, value in enumerate(values):
        if value is not None and value == value:  # noqa: PLR0124 - NaN
            share = min(max((_size(value) - _size(low)) / span, 0.0), 1.0)
            codes[row] = round(share * SCALE)
    return Colouring(name, codes, None, _told(low), _told(high))


def _size(value: Any) -> float:
    """Return where a value stands on its scale: a day has the length 1."""
    if isinstance(value, datetime):
        return value.toordinal() + (value.hour * 60 + value.minute) / 1440 + value.second / 86400
    return float(value.toordinal()) if isinstance(value, date) else float(value)


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, date):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    return value if isinstance(value, str) else number(float(value))
