"""What a row says about its text beside it: the role, and attention controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa

from batchembed.corpus import spans
from batchembed.corpus.columns import Columns
from batchembed.corpus.files import CorpusFile
from batchembed.corpus.texts import is_string, plain, plain_type
from batchembed.errors import CorpusError
from batchembed.exchange import ROLES, Control, Role

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
        kind, names = schema.field(columns.controls).type, columns.controlled()
        if not (is_string(plain_type(kind)) or _holds_controls(kind, frozenset(names))):
            raise CorpusError(
                f"column `{columns.controls}` of `{file.path}` is {kind}, and holds no controls",
                hint=f"controls are list<struct<{', '.join(names)}>>, or JSON text of the same",
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
            told = orjson.loads(value) if isinstance(value, str) else value
            found.append(spans.text_controls(told, len(text or "")))
        except (orjson.JSONDecodeError, spans.SpanError) as error:
            raise CorpusError(
                f"{where(position)} has controls that cannot be used: {error}",
                hint=spans.hint(spans.TEXT),
            ) from error
    return found


def _holds_controls(kind: pa.DataType, needed: frozenset[str]) -> bool:
    if pa.types.is_null(kind):
        return True
    types = pa.types
    if not (types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)):
        return False
    inner = kind.value_type
    if not types.is_struct(inner):
        return bool(types.is_null(inner))
    names = {field.name for field in inner}
    return needed <= names <= needed | {spans.OVERLAP}
