"""What settings of their own kind may be: each function reads one value, or says what it must be.

The messages go on after the name and the value of the setting: "… must be a path".
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Literal

from batchembed.exchange import ROLES, Role

MOST_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class RoleColumn:
    """The role of each row stands in a column of the corpus."""

    column: str


def columns(value: object) -> tuple[str, ...] | Literal["all"]:
    """Return the columns to keep. Raises ValueError."""
    if value == "all":
        return "all"
    if isinstance(value, list | tuple) and all(isinstance(name, str) and name for name in value):
        return tuple(value)
    raise ValueError('must be "all", or a list of column names (`[]` for none)')


def paths(value: object) -> tuple[str, ...]:
    """Return the files, folders and globs of a corpus. Raises ValueError."""
    found = (value,) if isinstance(value, str) else value
    if isinstance(found, list | tuple) and found and all(_is_path(path) for path in found):
        return tuple(found)
    raise ValueError("must be a file, a folder, a glob, or a list of them")


def path(value: str) -> str:
    """Return a path. Raises ValueError."""
    if _is_path(value):
        return value
    raise ValueError("must be a path")


def representation(value: object) -> Role | RoleColumn:
    """Return the role of all texts, or the column that says it. Raises ValueError."""
    if value in ("symmetric", "document", "query"):
        return value
    if isinstance(value, dict) and value.keys() == {"column"}:
        column = value["column"]
        if isinstance(column, str) and column:
            return RoleColumn(column)
    raise ValueError('must be "symmetric", "document", "query", or { column = "…" }')


def instruction(value: object) -> str | dict[Role, str]:
    """Return what vectors are for: of all texts, or by role. Raises ValueError."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and value and value.keys() <= set(ROLES):
        by_role = {role: value[role] for role in ROLES if isinstance(value.get(role), str)}
        if len(by_role) == len(value):
            return by_role
    raise ValueError('must be a text, or one for each role: { query = "…", document = "…" }')


def concurrency(value: object) -> int | Literal["auto"]:
    """Return the requests in flight at once. Raises ValueError."""
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_AT_ONCE:
        return value
    raise ValueError(f'must be "auto" or a number of requests, from 1 to {MOST_AT_ONCE}')


def share(value: str) -> str:
    """Return which limiter a run takes part in. Raises ValueError."""
    if value in ("auto", "start", "off"):
        return value
    from batchembed import limiter

    try:
        return str(limiter.parse(value))
    except ValueError as error:
        raise ValueError(f'{error}, or "auto", "start" or "off"') from None


def command(value: object) -> tuple[str, ...]:
    """Return a program and its arguments. Raises ValueError."""
    try:
        words = shlex.split(value) if isinstance(value, str) else value
    except ValueError:
        words = None
    if isinstance(words, list | tuple) and words and all(_is_path(word) for word in words):
        return tuple(words)
    raise ValueError('must be a program and its arguments, such as "pass show aleph-alpha"')


def variable(value: str) -> str:
    """Return the name of an environment variable. Raises ValueError."""
    if not re.fullmatch(r"[A-Za-z_]\w*", value, re.ASCII):
        raise ValueError('must be the name of an environment variable, such as "AA_TOKEN"')
    return value


def character(value: str) -> str:
    """Return one ASCII character. Raises ValueError."""
    if len(value) != 1 or not value.isascii():
        raise ValueError("must be one ASCII character")
    return value


def currency(value: str) -> str:
    """Return the three letters of a currency. Raises ValueError."""
    if not re.fullmatch(r"[A-Z]{3}", value):
        raise ValueError('must be three capital letters, such as "USD" or "EUR"')
    return value


def quote(value: str) -> str:
    """Return a quotation mark, or nothing. Raises ValueError."""
    return character(value) if value else value


def _is_path(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value
