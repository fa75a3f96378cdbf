"""What headers tell of limits: every provider's shape, and nothing of what makes no sense."""

import pytest

from batchembed.exchange import Told
from batchembed.providers.quota import seconds, told

OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-limit-tokens": "1000000",
    "x-ratelimit-remaining-tokens": "999000",
    "x-ratelimit-reset-tokens": "60ms",
}
MISTRAL = {
    "x-ratelimit-limit-tokens-minute": "500000",
    "x-ratelimit-remaining-tokens-minute": "490000",
    "x-ratelimit-tokens-query-cost": "10000",
    "x-ratelimit-limit-req-minute": "60",
    "x-ratelimit-remaining-req-minute": "59",
}
AZURE = {
    "x-ratelimit-limit-requests": "0",
    "x-ratelimit-remaining-requests": "-1",
    "x-ratelimit-limit-tokens": "240000",
    "x-ratelimit-remaining-tokens": "239000",
}
LIMIT = "x-ratelimit-limit-requests"
LEFT = "x-ratelimit-remaining-requests"
RESET = "x-ratelimit-reset-requests"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (OPENAI, Told(5000, 1_000_000, 4999, 999_000, 0.012, 0.06)),
        (MISTRAL, Told(60, 500_000, 59, 490_000)),
        (AZURE, Told(None, 240_000, None, 239_000)),
        ({}, None),
        ({"content-type": "application/json"}, None),
        ({LIMIT: "600"}, Told(600)),
        ({LIMIT: "600", LEFT: "soon", RESET: "later"}, Told(600)),
        ({LIMIT: "600", LEFT: "700"}, Told(600)),
        ({LIMIT: "many"}, None),
        ({LIMIT: "-1"}, None),
        ({LIMIT: "1e400"}, None),
        ({LIMIT: "nan"}, None),
        ({LIMIT: "10, 10;w=1"}, None),
        ({LIMIT: "10", LEFT: "0", RESET: "1s"}, None),  # ten a second, not a minute
        ({LIMIT: "10", LEFT: "0", RESET: "60s"}, Told(10, None, 0, None, 60)),
    ],
)
def test_what_headers_tell(headers, expected):
    """Limits a minute, what is left of them, and when all is there again."""
    assert told(headers) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("1s", 1), ("6m0s", 360), ("12ms", 0.012), ("1h2m3s", 3723), ("1.5", 1.5), ("2d", 172800),
        ("", None), ("soon", None), ("1s!", None), ("-1s", None), ("s", None), ("1 s", None),
    ],
)  # fmt: skip
def test_spans_as_go_writes_them(words, expected):
    """Junk is nothing."""
    assert seconds(words) == (None if expected is None else pytest.approx(expected))
