"""The parts of what commands say: lines, numbers for people, JSON."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, time
from typing import Any

from batchembed.errors import UsageError
from batchembed.prices import amount

# What a terminal obeys in place of showing it: controls, and overrides of the direction.
UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def mistake(error: OSError) -> UsageError:
    """Return what the operating system did not allow as what it mostly is: a wrong path."""
    named = error.filename2 or error.filename
    where = f"`{named}`: " if named else ""
    hint = "is it there, of the right kind, and readable or writable for you?"
    return UsageError(f"{where}{error.strerror or error}", hint=hint)


def json_words(data: Any) -> str:
    """Return data as JSON, whatever values a corpus has: bytes as base64, no NaN but null.

    What a terminal obeys is written as JSON's escapes.
    """
    told = json.dumps(_plain(data), ensure_ascii=False, indent=2, allow_nan=False)
    return UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", told)


def shown(words: str) -> str:
    """Return words of any origin as a terminal may be given them: lines stay, nothing is obeyed."""
    return UNSEEN.sub("\ufffd", words.replace("\r", " "))


def _plain(value: Any) -> Any:
    """Return what JSON has for a value, and its letters where it has nothing."""
    if value is None or isinstance(value, bool | int | str | float):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return _letters(value)


def _letters(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def cut(text: str, length: int) -> str:
    """Return `text` on one line of at most `length` characters."""
    line = " ".join(UNSEEN.sub("", text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def row(name: str, words: str) -> str:
    """Return one line of an answer: its name, then what it says."""
    return f"  {name:<14}{words}".rstrip()


def counted(number: int, name: str) -> str:
    """Return a number and what it counts, in the plural where that is right."""
    return f"{number:,} {name}" + ("" if number == 1 else "s")


def money(cost: float | None, currency: str) -> str:
    """Return what was paid, for people."""
    if cost is None:
        return "cost unknown"
    return f"{amount(cost)} {currency}" if cost else "free"


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - the next unit
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
