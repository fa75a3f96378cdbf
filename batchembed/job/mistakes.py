"""What is wrong with a job, in words: one line a mistake, with its path, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import date, datetime, time
from typing import Any

from pydantic_core import ErrorDetails

from batchembed.errors import JobError
from batchembed.job import writing
from batchembed.job.described import Http
from batchembed.job.settings import (
    Access,
    Control,
    Corpus,
    Limits,
    Metrics,
    Model,
    Output,
    Price,
    Similarity,
)

_LONGEST = 60
_ABOUT = "docs/job-file.md tells every setting, its default and what is allowed"
_UNKNOWN = "unexpected_keyword_argument"
_WORDS = {
    "missing": "is missing",
    "string_type": 'must be a text in quotes, such as "…"',
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number, not infinite and not nan",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list, in [ ]",
    "dict_type": "must be a table",
    "dataclass_type": "must be a table",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than_equal": "must be {le:g} or less",
    "literal_error": "must be {expected}",
    "invalid_key": "is no name of a setting",
}

TABLES: Mapping[str, tuple[str, ...]] = {
    name: tuple(field.name for field in fields(table))
    for name, table in {
        "corpus": Corpus,
        "model": Model,
        "limits": Limits,
        "output": Output,
        "similarity": Similarity,
        "price": Price,
        "access": Access,
        "metrics": Metrics,
        "model.controls": Control,
        "model.http": Http,
    }.items()
}


def refusal(lines: Sequence[str], *, where: str) -> JobError:
    """Return the error that lists every mistake of the job that came from `where`."""
    if len(lines) == 1:
        return JobError(f"{where}: {lines[0]}", hint=_ABOUT)
    listed = "".join(f"\n  {line}" for line in lines)
    return JobError(f"{where} has {len(lines)} mistakes:{listed}", hint=_ABOUT)


def lines(errors: Sequence[ErrorDetails], others: Iterable[tuple[str, str]]) -> list[str]:
    """Return one line for each thing that pydantic found wrong, and for each of `others`.

    What is missing is not said where a misspelt name was meant to give it.
    """
    unknown = [error["loc"] for error in errors if error["type"] == _UNKNOWN]
    meant = {_meant(path) for path in unknown}
    found = [
        _line(error)
        for error in errors
        if error["type"] != "missing" or dotted(error["loc"]) not in meant
    ]
    return found + [told for path, told in others if path not in meant]


def _line(error: ErrorDetails) -> str:
    path, kind, given = error["loc"], error["type"], error["input"]
    if kind == _UNKNOWN:
        return _unknown(path)
    if kind == "missing":
        return f"`{dotted(path)}` is missing"
    context: dict[str, Any] = error.get("ctx", {})
    if kind == "value_error":
        why = str(context["error"])
    else:
        why = _WORDS.get(kind, error["msg"]).format_map(context)
    why = why.replace("'", '"') if kind == "literal_error" else why
    if path[:1] == ("access",):  # what stands there by mistake may be the key itself
        return f"`{dotted(path)}` {why}"
    if path == ("model", "http") and kind == "value_error":  # which names what of it is wrong
        return f"[model.http] {why}"
    return f"`{dotted(path)}` is `{shown(given)}`: {why}"


def dotted(path: Iterable[str | int]) -> str:
    """Return a path as people write it: `model.controls[0].factor`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step != "[key]":
            text += f".{step}" if text else step
    return _printable(text)


def shown(given: object) -> str:
    """Return a value as a message shows it: as TOML, printable, and not too long."""
    if isinstance(given, date | time | datetime):
        return given.isoformat()
    try:
        text = writing.value(given)
    except (TypeError, ValueError, RecursionError):
        text = "nothing" if given is None else f"a {type(given).__name__}"
    return _printable(text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…")


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.6) -> str | None:
    """Return the known name that `name` was most likely meant to be, or None."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=likeness)
    return found[0] if found else None


def _unknown(path: tuple[str | int, ...]) -> str:
    full, meant = dotted(path), _meant(path)
    if meant is not None:
        return f"`{full}` is unknown; did you mean `{meant}`?"
    return f"`{full}` is unknown; there are: {', '.join(_siblings(path)[1])}"


def _meant(path: tuple[str | int, ...]) -> str | None:
    """Return the setting that an unknown one was most likely meant to be."""
    table, known = _siblings(path)
    if found := nearest(str(path[-1]), known):
        return f"{table}.{found}" if table else found
    for other, names in TABLES.items():
        if other != table and (found := nearest(str(path[-1]), names, likeness=0.85)):
            return f"{other}.{found}"
    return None


def _siblings(path: tuple[str | int, ...]) -> tuple[str, Sequence[str]]:
    """Return the table that an unknown setting stands in, and what that table may hold."""
    table = ".".join(step for step in path[:-1] if isinstance(step, str))
    return table, TABLES.get(table, [name for name in TABLES if "." not in name])


def _printable(text: str) -> str:
    plain = text if text.isprintable() else text.encode("unicode_escape").decode()
    return plain.encode("utf-8", "backslashreplace").decode()
