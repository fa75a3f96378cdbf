"""What a row says about its text beside it: the role, and attention controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa

from batchembed.corpus.columns import Columns
from batchembed.corpus.files import CorpusFile
from batchembed.corpus.texts import is_string, plain, plain_type
from batchembed.errors import CorpusError
from batchembed.exchange import ROLES, Control, Role

_NAMES = frozenset(("start", "length", "factor"))
_FORM = 'a list such as [{"start": 0, "length": 5, "factor": 2.0}]'

Where = Callable[[int], str]
"""Says in words where the row of a position is."""


def check_types(columns: Columns, schema: pa.Schema, file: CorpusFile) -> None:
    """Raise CorpusError unless the columns of roles and controls can hold such."""
    if columns.role is not None:
        kind = schema.field(columns.role).type
        if not (is_string(plain_type(kind)) or pa.types.is_null(kind)):
            raise CorpusError(
                f"column `{columns.role}` of `{file.path}` is {kind}, and holds no roles",
                hint=f"roles are the words {', '.join(ROLES)}",
            )
    if columns.controls is not None:
        kind = schema.field(columns.controls).type
        if not (is_string(plain_type(kind)) or _holds_controls(kind)):
            raise CorpusError(
                f"column `{columns.controls}` of `{file.path}` is {kind}, and holds no controls",
                hint="controls are list<struct<start: int, length: int, factor: float>>, or "
                "JSON text of the same",
            )


def roles(values: pa.Array, name: str, where: Where) -> list[Role]:
    """Return the role of each row of column `name`; CorpusError for any other word, and null."""
    found: list[Any] = plain(values).to_pylist()
    if not set(found) <= set(ROLES):
        position = next(n for n, value in enumerate(found) if value not in ROLES)
        said = "no role" if found[position] is None else f"the unknown role `{found[position]}`"
        raise CorpusError(
            f"{where(position)} has {said} in column `{name}`",
            hint=f"every row must say one of {', '.join(ROLES)}",
        )
    return found


def controls(
    values: pa.Array, texts: Sequence[str | None], where: Where
) -> list[tuple[Control, ...]]:
    """Return the controls of each row; null, empty and [] are none.

    Raises CorpusError for what is no control, or lies outside its text.
    """
    found: list[tuple[Control, ...]] = []
    for position, (value, text) in enumerate(zip(plain(values).to_pylist(), texts, strict=True)):
        if not value:
            found.append(())
            continue
        try:
            spans = orjson.loads(value) if isinstance(value, str) else value
            found.append(tuple(_control(span, len(text or "")) for span in _listed(spans)))
        except (orjson.JSONDecodeError, _NotAControlError) as error:
            raise CorpusError(
                f"{where(position)} has controls that cannot be used: {error}",
                hint=f"controls are {_FORM}; start and length count characters of the text",
            ) from error
    return found


class _NotAControlError(ValueError):
    """A value is no control, or no list of them."""


def _listed(spans: Any) -> list[Any]:
    if spans is None:  # JSON text may say null
        return []
    if not isinstance(spans, list):
        raise _NotAControlError(f"`{str(spans)[:80]}` is not a list")
    return spans


def _control(span: Any, size: int) -> Control:
    if not isinstance(span, dict) or span.keys() != _NAMES:
        raise _NotAControlError(f"`{str(span)[:80]}` has not just start, length and factor")
    start, length, factor = span["start"], span["length"], span["factor"]
    for name, value in (("start", start), ("length", length)):
        if type(value) is not int:
            raise _NotAControlError(f"{name} is `{value}`, not a whole number")
    if type(factor) not in (int, float) or not math.isfinite(factor) or factor < 0:
        raise _NotAControlError(f"factor is `{factor}`, which is not 0 or a positive number")
    if start < 0 or length < 1 or start + length > size:
        raise _NotAControlError(
            f"start {start} and length {length} are not within its text of {size} characters"
        )
    return Control(start, length, float(factor))


def _holds_controls(kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        return True
    types = pa.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    inner = kind.value_type
    return types.is_null(inner) or (
        types.is_struct(inner) and {field.name for field in inner} == _NAMES
    )
