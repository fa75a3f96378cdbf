"""What servers say of a failure, found in any of the shapes in use."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")  # as google.protobuf.Duration is written
_IN_WORDS = re.compile(
    r"(?:try again|retry) (?:in|after) (?:(\d{1,4})m)?(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|seconds?)\b",
    re.IGNORECASE,
)
_PAGE_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_DAILY = re.compile(r"per_?day", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """What a server says of a failure: prose, and the words by which failures are told apart.

    `delay` is the wait in seconds that the body asks for; `daily`: the quota of a day is used up.
    """

    message: str = ""
    code: str = ""
    kind: str = ""
    param: str = ""
    cause: str = ""
    delay: float | None = None
    daily: bool = False

    @property
    def names(self) -> frozenset[str]:
        """The words by which failures are told apart: never the prose of the message."""
        return frozenset({self.code.lower(), self.kind.lower(), self.cause.lower()})


def said(body: bytes) -> Said:
    """Return what the body of a failure says; never raises."""
    plain = body.decode(errors="replace").strip()
    try:
        found = json.loads(plain)
    except (ValueError, RecursionError):
        title = _PAGE_TITLE.search(plain)
        return Said(title.group(1).strip() if title else ("" if "<" in plain[:20] else plain))
    if not isinstance(found, dict):
        return Said()
    error = found.get("error")
    inner = error if isinstance(error, dict) else found
    message = _prose(inner.get("message") or (error if isinstance(error, str) else None))
    message = message or _prose(found.get("detail"))
    details = [one for one in _listed(inner.get("details")) if isinstance(one, dict)]
    return Said(
        message=message,
        code=_word(inner.get("code") or found.get("code")),
        kind=_word(inner.get("type") or inner.get("error_type")),
        param=_word(inner.get("param")),
        cause=next((_word(one["reason"]) for one in details if "reason" in one), ""),
        delay=_delay(details, message),
        daily=any(
            _is_daily(one) for detail in details for one in _listed(detail.get("violations"))
        ),
    )


def wait(headers: Mapping[str, str], told: Said | None = None) -> float | None:
    """Return the seconds to wait that the server named, or None; what makes no sense is ignored.

    A wait of 0 names none: servers that are down say so too. Headers go before what the body says
    (`told`). A date counts from the answer's own `Date`: both are of the server's clock.
    """
    precise = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(precise):
        return float(precise) / 1000 or None
    plain = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(plain):
        return float(plain) or None
    try:
        until = parsedate_to_datetime(plain)
        since = parsedate_to_datetime(headers.get("date", ""))
        seconds = (until - since).total_seconds()
    except (TypeError, ValueError, OverflowError):
        seconds = -1.0
    if seconds >= 0:
        return seconds or None
    return (told.delay or None) if told is not None else None


def _prose(value: Any) -> str:
    """Return a message as one line. Validation lists echo the input, so only `loc`, `msg` count."""
    if isinstance(value, list):
        parts = [_complaint(x) for x in value[:5]]
        return "; ".join(part for part in parts if part)
    return " ".join(value.split()) if isinstance(value, str) else ""


def _complaint(value: Any) -> str:
    if not isinstance(value, dict):
        return ""
    place = value.get("loc")
    where = ".".join(str(step)[:40] for step in place) if isinstance(place, list) else ""
    what = value.get("msg")
    return f"{where}: {what}" if isinstance(what, str) else where


def _word(value: Any) -> str:
    return str(value)[:80] if isinstance(value, str | int) else ""


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_daily(violation: Any) -> bool:
    return isinstance(violation, dict) and bool(_DAILY.search(str(violation.get("quotaId", ""))))


def _delay(details: list[dict[str, Any]], message: str) -> float | None:
    """Return the wait that a body asks for: Google in a field of its own, others in words."""
    for one in details:
        if found := _DELAY.fullmatch(str(one.get("retryDelay", ""))):
            return float(found.group(1))
    found = _IN_WORDS.search(message)
    if found is None:
        return None
    minutes, number, unit = found.groups()
    return 60.0 * int(minutes or 0) + float(number) / (1000 if unit.lower() == "ms" else 1)
