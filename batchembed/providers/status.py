"""What an answer that is no success means: one table for every provider."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from batchembed.exchange import (
    Fatal,
    Outcome,
    Refused,
    Request,
    Throttled,
    TooLarge,
    Unavailable,
)

_MONEY_CODES = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "billing_hard_limit_reached",
        "billing_not_active",
    }
)
_MODEL_CODES = frozenset({"model_not_found", "deploymentnotfound", "model_not_available"})
_SETTINGS = frozenset({"model", "dimensions", "encoding_format", "user"})
_GONE = frozenset({404, 405, 410})
_WAIT_AND_SEE = frozenset({408, 409, 421, 424, 425, 499})
_BILLING = "look at the account's balance and spending limits; what was paid for is kept"
_ADDRESS = "check the model's name and the base URL"
_ECHO = 12  # texts shorter than this are words of the language, not traces of a corpus

# How servers say that a request holds too many texts, with the number they name.
_TOO_MANY_TEXTS = re.compile(
    r"(?:array too long.{0,80}?maximum length"
    r"|list should have at most"
    r"|maximum allowed batch size"
    r"|max(?:imum)? (?:batch size|number of (?:inputs|texts))(?: is| of|:)?"
    r"|batch size is invalid, it should not be larger than"
    r"|batch size limit is"
    r"|number of texts must be at most"
    r"|(?:allows|takes)? ?at most)\s+(\d{1,6})(?! (?:tokens|characters))",
    re.IGNORECASE | re.DOTALL,
)
_TOO_MUCH = re.compile(
    r"tokens per request|tokens in (?:the |this )?batch|tokens per (?:submitted )?batch"
    r"|tokens overall|batch (?:is )?too large",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(
    r"too many (?:inputs|texts|prompts)|batch size (?:is )?too large", re.IGNORECASE
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}")  # an image that is echoed
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_PAGE_TITLE = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Said:
    """What a server says of a failure, from any of the shapes in use."""

    message: str = ""
    code: str = ""
    kind: str = ""
    param: str = ""

    @property
    def names(self) -> frozenset[str]:
        """The words by which failures are told apart: never the prose of the message."""
        return frozenset({self.code.lower(), self.kind.lower()})


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
    message = inner.get("message") or (error if isinstance(error, str) else None)
    return Said(
        message=_prose(message or found.get("detail")),
        code=_word(inner.get("code") or found.get("code")),
        kind=_word(inner.get("type") or inner.get("error_type")),
        param=_word(inner.get("param")),
    )


def wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the server named, or None; what makes no sense is ignored.

    A date counts from the answer's own `Date`: both are of the server's clock.
    """
    precise = headers.get("retry-after-ms", "").strip()
    if _SECONDS.fullmatch(precise):
        return float(precise) / 1000
    told = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(told):
        return float(told)
    try:
        until = parsedate_to_datetime(told)
        since = parsedate_to_datetime(headers.get("date", ""))
        seconds = (until - since).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if seconds >= 0 else None


def sort(request: Request, *, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Return what an answer with another status than 200 means for `request`."""
    told = said(body)
    reason = _reason(request, status, told)
    if status == HTTPStatus.PAYMENT_REQUIRED or told.names & _MONEY_CODES:
        return Fatal(reason, hint=_BILLING)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return _moved(status, headers)
    if status in _WAIT_AND_SEE or status < HTTPStatus.MULTIPLE_CHOICES:
        return Unavailable(reason, wait(headers))
    if status == HTTPStatus.TOO_MANY_REQUESTS or "slow_down" in told.names:
        return Throttled(reason, wait(headers))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unavailable(reason, wait(headers))
    return _blamed(request, status, headers, told)


def disguised(request: Request, body: bytes) -> Outcome | None:
    """Return what an error that came with status 200 means, or None when only a person could say.

    Only codes count here: money, the model's name, a rate.
    """
    told = said(body)
    reason = _reason(request, HTTPStatus.OK, told)
    if told.names & _MONEY_CODES:
        return Fatal(reason, hint=_BILLING)
    if told.names & _MODEL_CODES:
        return Fatal(reason, hint=_ADDRESS)
    return Throttled(reason) if "rate_limit_exceeded" in told.names else None


def _blamed(request: Request, status: int, headers: Mapping[str, str], told: Said) -> Outcome:
    """Return what a 4xx that blames the request means: key, settings, size or some text."""
    reason = _reason(request, status, told)
    if status in {401, 403, 407}:
        return Fatal(reason, hint="check the key, and that it is one for this address and model")
    if status in _GONE or told.names & _MODEL_CODES:
        return Fatal(reason, hint=_ADDRESS)
    if told.param.lower() in _SETTINGS:
        return Fatal(reason, hint=f"the server does not take this `{told.param}`: see [model]")
    too_large = _too_large(request, status, told, reason) if len(request) > 1 else None
    return too_large or Refused(reason, status, request_id(headers))


def _too_large(request: Request, status: int, told: Said, reason: str) -> TooLarge | None:
    """Return in what way a request is too large as a whole, or None when it is not that."""
    cap = _TOO_MANY_TEXTS.search(told.message)
    texts = int(cap.group(1)) if cap else 0
    if 0 < texts < len(request):
        return TooLarge(reason, texts, by="texts")
    if _TOO_MANY.search(told.message):
        return TooLarge(reason, by="texts")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _too_much(told):
        return TooLarge(reason)
    return None


def request_id(headers: Mapping[str, str]) -> str:
    """Return the server's name for this exchange, or ""."""
    return _plain(headers.get("x-request-id") or headers.get("request-id") or "")[:128]


def _plain(words: str) -> str:
    """Return words on one line, without what a terminal obeys and what no file takes.

    A server that cuts its echo of a text in the middle of a surrogate pair sends half of it.
    """
    return "".join(c if c.isprintable() else "?" for c in " ".join(words.split()))


def _too_much(told: Said) -> bool:
    return "max_tokens_per_request" in told.names or bool(_TOO_MUCH.search(told.message))


def _moved(status: int, headers: Mapping[str, str]) -> Fatal:
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    where = f"to the host `{host}`" if host else "elsewhere"
    return Fatal(
        f"{status}: the server sends us {where}; redirects are not followed with a key",
        hint="set the base URL to the server's own address",
    )


def _reason(request: Request, status: int, told: Said) -> str:
    """Return the status and the server's words, without the texts that it may echo."""
    message = told.message
    for text in request.texts:
        if len(text) >= _ECHO and text in message:
            message = message.replace(text, "…")
    message = _BASE64.sub("…", message)
    known = {s.value: s.phrase for s in HTTPStatus}.get(status, "")
    code = f" [{told.code}]" if told.code else ""
    reason = f"{status} {known}".strip() + code + (f": {message}" if message else "")
    return _plain(reason)


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
