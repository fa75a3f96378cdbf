"""Settings as TOML text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from batchembed.job.quantities import Tolerance, duration

DURATIONS = frozenset({"deadline", "patience", "poll_every", "timeout"})
_HEAD = "# The job as it was run. Nothing in it is secret; batchembed run takes it as it stands.\n"


def toml(tables: Mapping[str, Any]) -> str:
    """Return tables of settings as a TOML document; what is None is left out."""
    lines = [_HEAD]
    for name, table in tables.items():
        if table is not None:
            lines.append(f"\n[{name}]\n")
            lines += [f"{key} = {told}\n" for key, told in _settings(table)]
    return "".join(lines)


def value(given: object) -> str:
    """Return one value as TOML writes it; raises TypeError for what TOML has no form for."""
    if isinstance(given, bool):
        return str(given).lower()
    if isinstance(given, int | float):
        return str(given)
    if isinstance(given, str):
        # JSON's escapes are TOML's, but for the one control character that JSON lets through.
        return json.dumps(given, ensure_ascii=False).replace("\x7f", "\\u007f")
    if is_dataclass(given) or isinstance(given, Mapping):
        pairs = ", ".join(f"{key} = {told}" for key, told in _pairs(given))
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(given, Sequence):
        return "[" + ", ".join(map(value, given)) + "]"
    raise TypeError(f"TOML has no {type(given).__name__}")


def _pairs(given: Any) -> list[tuple[str, str]]:
    if isinstance(given, Mapping):
        return [(_key(str(key)), value(found)) for key, found in sorted(given.items())]
    return _settings(given)


def _settings(table: Any) -> list[tuple[str, str]]:
    given = {field.name: getattr(table, field.name) for field in fields(table)}
    return [(name, _told(name, found)) for name, found in given.items() if found is not None]


def _told(name: str, given: Any) -> str:
    if name in DURATIONS:
        return value(duration(given))
    if isinstance(given, Tolerance):
        return str(given.count) if given.percent is None else value(str(given))
    return value(given)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else value(name)
