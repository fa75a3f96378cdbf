"""What an answer that is no success means: one table for every provider."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
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
from batchembed.providers.sayings import Said, said, wait

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
_MODEL_CODES = frozenset(
    {"model_not_found", "deploymentnotfound", "model_not_available", "invalid_model"}
)
_KEY_CODES = frozenset({"api_key_invalid", "invalid_api_key"})
_SETTINGS = frozenset({"model", "dimensions", "encoding_format", "user"})
_GONE = frozenset({404, 405, 410})
_WAIT_AND_SEE = frozenset({408, 409, 421, 424, 425, 499})
_BILLING = "look at the account's balance and spending limits; what was paid for is kept"
_TOMORROW = "the quota of a day is used up: run the same command again tomorrow, or raise it"
_KEY = "check the key, and that it is one for this address and model"
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
    r"|tokens overall|batch (?:is )?too large|payload size exceeds",
    re.IGNORECASE,
)
_TOO_MANY = re.compile(
    r"too many (?:inputs|texts|prompts)|batch size (?:is )?too large", re.IGNORECASE
)
_BASE64 = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}")  # an image that is echoed
# Of one text, whatever else is in the request.
_TOO_LONG = re.compile(
    r"maximum (?:context|input|model) length|context (?:length|window)"
    r"|available context size|must have less than \d+ tokens"
    r"|(?:text|prompt|input) cannot exceed \d+|cannot exceed \d+ - received"
    r"|(?:text|prompt|input) is too long|too large to process|exceeding max \d+ tokens"
    r"|exceeds (?:the )?max(?:imum)? (?:length|number|context|\d+ tokens)"
    r"|at most \d+ tokens|\b(?:text|prompt|input|string)s?\b.{0,40}?at most \d+ characters"
    r"|\b(?:text|prompt|input)s?\b.{0,40}?string (?:is )?too long",
    re.IGNORECASE,
)
_OUT_OF_MEMORY = re.compile(r"out of memory", re.IGNORECASE)
# A 429 that no waiting mends: more tokens in one request than a minute has.
_NEVER = re.compile(r"^request too large for", re.IGNORECASE)
_SHARE = (
    re.compile(r"requested (?P<given>\d+) tokens, max (?P<most>\d+)", re.IGNORECASE),
    re.compile(r"max is (?P<most>\d+) got (?P<given>\d+)", re.IGNORECASE),
    re.compile(r"batch is (?P<most>\d+)\. \w+ (?:batch )?has (?P<given>\d+)", re.IGNORECASE),
    re.compile(r"limit (?P<most>\d+), requested (?P<given>\d+)", re.IGNORECASE),
    re.compile(r"length is (?P<most>\d+) tokens.{0,20}?requested (?P<given>\d+)", re.IGNORECASE),
    re.compile(r"less than (?P<most>\d+) tokens. given: (?P<given>\d+)", re.IGNORECASE),
    re.compile(r"has (?P<given>\d+) tokens, exceeding max (?P<most>\d+)", re.IGNORECASE),
    re.compile(r"length (?P<given>\d+)\).{0,60}?length of (?P<most>\d+)", re.IGNORECASE),
    re.compile(r"exceed (?P<most>\d+) tokens. (?P<given>\d+) tokens given", re.IGNORECASE),
    re.compile(r"cannot exceed (?P<most>\d+) - received (?P<given>\d+)", re.IGNORECASE),
    re.compile(r"\((?P<given>\d+) tokens\).{0,40}?size \((?P<most>\d+) tokens", re.IGNORECASE),
)
_NO_MONEY = re.compile(
    r"calls ?/ ?month|per month|insufficient (?:account )?balance|not enough credits"
    r"|credit balance|top up",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"\b(?:invalid|unknown) model\b"
    r"|\bmodel\b.{0,80}?\b(?:not found|does not exist|is not supported|not available)\b",
    re.IGNORECASE,
)
_NO_SETTING = re.compile(
    r"does not support (?:matryoshka|dimensions)|output[_ ]dimension(?:ality)? ", re.IGNORECASE
)


def sort(request: Request, *, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """Return what an answer with another status than 200 means for `request`.

    What the server says goes before its status, and its codes before its prose.
    """
    told = said(body)
    reason = _reason(request, status, told)
    if hint := _no_money(status, told):
        return Fatal(reason, hint=hint)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return _moved(status, headers)
    if status == HTTPStatus.TOO_MANY_REQUESTS or "slow_down" in told.names:
        if _NEVER.search(told.message):  # no text is cut for a rate
            many = len(request) > 1
            refused = Refused(reason, status, request_id(headers))
            return TooLarge(reason, share=_share(told)) if many else refused
        return Throttled(reason, wait(headers, told))
    if _is_down(status, told):
        return Unavailable(reason, wait(headers, told))
    return _blamed(request, status, headers, told)


def _is_down(status: int, told: Said) -> bool:
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and _TOO_LONG.search(told.message):
        return bool(_OUT_OF_MEMORY.search(told.message))  # else a server that has no better status
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return True
    return status in _WAIT_AND_SEE or status < HTTPStatus.MULTIPLE_CHOICES


def _no_money(status: int, told: Said) -> str | None:
    """Return what to do about money or a quota that is used up, or None when it is not that."""
    if told.daily:
        return _TOMORROW
    in_words = status in {403, 429} and _NO_MONEY.search(told.message)
    gone = status == HTTPStatus.PAYMENT_REQUIRED or told.names & _MONEY_CODES or in_words
    return _BILLING if gone else None


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
    if status in {401, 403, 407} or told.names & _KEY_CODES:
        return Fatal(reason, hint=_KEY)
    if told.param.lower() in _SETTINGS:
        return Fatal(reason, hint=f"the server does not take this `{told.param}`: see [model]")
    if _NO_SETTING.search(told.message):
        return Fatal(reason, hint="leave `dimensions` out under [model], or set what it can make")
    if status in _GONE or told.names & _MODEL_CODES or _NO_MODEL.search(told.message):
        return Fatal(reason, hint=_ADDRESS)
    if len(request) > 1:
        too_large = _too_large(request, status, told, reason)
    else:
        too_large = TooLarge(reason, share=_share(told)) if _is_long(status, told) else None
    return too_large or Refused(reason, status, request_id(headers))


def _too_large(request: Request, status: int, told: Said, reason: str) -> TooLarge | None:
    """Return in what way a request is too large as a whole, or None when it is not that."""
    cap = _TOO_MANY_TEXTS.search(told.message)
    texts = int(cap.group(1)) if cap else 0
    if 0 < texts < len(request):
        return TooLarge(reason, texts, by="texts")
    if _TOO_MANY.search(told.message):
        return TooLarge(reason, by="texts")
    if _too_much(told):
        return TooLarge(reason, share=_share(told))
    # What is said of one text says nothing of how large a request may be.
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE and not _TOO_LONG.search(told.message):
        return TooLarge(reason, share=_share(told))
    return None


def _is_long(status: int, told: Said) -> bool:
    """Return whether one text alone is too long."""
    too_much = status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _too_much(told)
    return too_much or bool(_TOO_LONG.search(told.message))


def _share(told: Said) -> float | None:
    """Return how much of the request would have passed, where the server names both numbers."""
    found = next(filter(None, (shape.search(told.message) for shape in _SHARE)), None)
    if found is None:
        return None
    share = int(found["most"]) / max(1, int(found["given"]))
    return share if 0 < share < 1 else None


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
