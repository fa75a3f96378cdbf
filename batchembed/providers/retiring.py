"""What the headers of an answer tell of an API that is to go: RFC 9745 and RFC 8594."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

NOT = {"", "false", "?0"}


def told(headers: Mapping[str, str], today: date) -> str:
    """Return what `Deprecation` and `Sunset` say, in words of ours; "" where they say nothing.

    A date that makes no sense is left out, and a `Sunset` is nothing but a date. `headers` are
    looked up by lower-case names.
    """
    if "deprecation" not in headers and "sunset" not in headers:
        return ""
    words = []
    deprecation = headers.get("deprecation", "").strip()
    if deprecation.lower() not in NOT:
        day = _day(deprecation)
        begins = f" {'since' if day <= today else 'from'} {day}" if day else ""
        words.append(f"deprecated{begins}")
    if day := _day(headers.get("sunset", "").strip()):
        words.append(f"to be turned off on {day}")
    return " and ".join(words)


def _day(told: str) -> date | None:
    """Return the day of `@` and seconds, or of a date as HTTP writes it; None: neither."""
    try:
        if told.startswith("@"):
            return datetime.fromtimestamp(int(told[1:]), UTC).date()
        return parsedate_to_datetime(told).date()
    except (ValueError, OverflowError, OSError, TypeError, IndexError):
        return None
