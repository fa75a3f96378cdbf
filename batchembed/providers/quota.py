"""What the headers of an answer tell of the server's limits: one table for every provider."""

from __future__ import annotations

import re
from collections.abc import Mapping

from batchembed.exchange import Told

_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|us|µs|ns|[dhms])")
_SECONDS = {
    "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9
}  # fmt: skip
_FAR_MORE = 3.0
# OpenAI and Azure, then Mistral: limit, what is left, seconds until all is there again.
_REQUESTS = (
    (
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ),
    ("x-ratelimit-limit-req-minute", "x-ratelimit-remaining-req-minute", ""),
)
_TOKENS = (
    ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("x-ratelimit-limit-tokens-minute", "x-ratelimit-remaining-tokens-minute", ""),
)


def told(headers: Mapping[str, str]) -> Told | None:
    """Return what the headers tell of limits a minute, or None; what makes no sense is ignored.

    Azure sends 0 and -1 for what it does not tell, and leaves fields out.
    """
    requests, tokens = _quota(headers, _REQUESTS), _quota(headers, _TOKENS)
    if requests is None and tokens is None:
        return None
    requests_limit, requests_left, requests_reset = requests or (None, None, None)
    tokens_limit, tokens_left, tokens_reset = tokens or (None, None, None)
    return Told(
        requests_limit, tokens_limit, requests_left, tokens_left, requests_reset, tokens_reset
    )


def _quota(
    headers: Mapping[str, str], shapes: tuple[tuple[str, str, str], ...]
) -> tuple[float, float | None, float | None] | None:
    for names in shapes:
        if names[0] not in headers:
            continue
        limit = _number(headers[names[0]])
        if limit is None or limit <= 0:
            return None
        left = _number(headers.get(names[1], ""))
        reset = seconds(headers.get(names[2], "")) if names[2] else None
        if left is not None and left > limit:
            left = None
        if left is not None and reset and 60.0 * (limit - left) / reset > _FAR_MORE * limit:
            return None  # it comes back so fast that this cannot be a limit a minute
        return limit, left, reset
    return None


def _number(words: str) -> float | None:
    words = words.strip()
    return float(words) if _NUMBER.fullmatch(words) else None


def seconds(words: str) -> float | None:
    """Return the seconds of a span such as `6m0s`, `12ms` or `1.5`, or None."""
    words = words.strip()
    if _NUMBER.fullmatch(words):
        return float(words)
    spans = _SPAN.findall(words)
    if not spans or "".join(a + b for a, b in spans) != words:
        return None
    return sum(float(amount) * _SECONDS[unit] for amount, unit in spans)
