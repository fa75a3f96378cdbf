"""The Arrow types of JSON values, found without guessing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

MOST_FIELDS = 1000


class ContradictionError(Exception):
    """Two values of one column have no common type."""


def merge(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type that holds values of both types. Raises ContradictionError.

    Null goes with everything, whole numbers go with fractions, lists by their values, objects
    by their names. Nothing else goes together.
    """
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if pa.types.is_list(one) and pa.types.is_list(other):
        return pa.list_(merge(one.value_type, other.value_type))
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        return _merge_structs(one, other)
    raise ContradictionError(f"{name(other)} after {name(one)}")


def find(values: Sequence[Any], before: pa.DataType) -> pa.DataType:
    """Return the type of all `values` and of those before them. Raises ContradictionError."""
    try:
        found = pa.array(values).type
    except (pa.ArrowException, OverflowError) as error:
        raise ContradictionError(str(error)) from error
    if _hides_booleans(values, found):
        raise ContradictionError(f"{name(pa.bool_())} and {name(pa.float64())}")
    _check_width(found)
    return merge(before, found)


def find_first_contradiction(values: Sequence[Any], before: pa.DataType) -> tuple[int, str]:
    """Return (position, what is wrong) of the first value that does not go with those before."""
    known = before
    for position, value in enumerate(values):
        try:
            known = find([value], known)
        except ContradictionError as error:
            return position, str(error)
    return len(values) - 1, "its values do not go together"


def name(kind: pa.DataType) -> str:
    """Return what JSON calls values of this type."""
    if pa.types.is_struct(kind):
        return "an object"
    if pa.types.is_list(kind):
        return f"a list of {name(kind.value_type)}"
    words = {
        pa.int64(): "a whole number",
        pa.float64(): "a number",
        pa.bool_(): "true or false",
        pa.null(): "null",
    }
    return words.get(kind, "a string")


def _merge_structs(one: pa.StructType, other: pa.StructType) -> pa.DataType:
    merged = {field.name: field.type for field in one}
    for field in other:
        merged[field.name] = merge(merged.get(field.name, pa.null()), field.type)
    both = pa.struct(list(merged.items()))
    _check_width(both)
    return both


def _hides_booleans(values: Iterable[Any], kind: pa.DataType) -> bool:
    """Return whether pyarrow made numbers of true or false: it does so among fractions."""
    if pa.types.is_floating(kind):
        return bool in set(map(type, values))
    if pa.types.is_list(kind):
        return _hides_booleans(chain.from_iterable(filter(None, values)), kind.value_type)
    if pa.types.is_struct(kind):
        objects = list(filter(None, values))
        return any(
            _hides_booleans([one.get(field.name) for one in objects], field.type) for field in kind
        )
    return False


def _check_width(kind: pa.DataType) -> None:
    if pa.types.is_list(kind):
        _check_width(kind.value_type)
    elif pa.types.is_struct(kind):
        if kind.num_fields > MOST_FIELDS:
            raise ContradictionError(
                f"more than {MOST_FIELDS:,} different names in the objects of one column"
            )
        for field in kind:
            _check_width(field.type)
