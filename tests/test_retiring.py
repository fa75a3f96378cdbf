"""What a server says of its end in headers is told once, in words of ours."""

from datetime import date

import pytest
from fakes import running
from fakes.faults import Fault
from fakes.rows import GIVEN, HOW, Row, check

from batchembed.providers.retiring import told

TODAY = date(2026, 11, 25)
SINCE = {"Deprecation": "@1767225600"}
ENDS = {"Sunset": "Thu, 31 Dec 2026 23:59:59 GMT"}
WORDS = (
    "warning: the server says that what is asked for is "
    "deprecated since 2026-01-01 and to be turned off on 2026-12-31"
)


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, ""),
        ({"date": "Thu, 31 Dec 2026 23:59:59 GMT"}, ""),
        ({"deprecation": "@1767225600"}, "deprecated since 2026-01-01"),
        ({"deprecation": "@1798675200"}, "deprecated from 2026-12-31"),
        ({"deprecation": "Thu, 01 Jan 2026 00:00:00 GMT"}, "deprecated since 2026-01-01"),
        ({"deprecation": "true"}, "deprecated"),
        ({"deprecation": "?1"}, "deprecated"),
        ({"deprecation": "False"}, ""),
        ({"deprecation": " "}, ""),
        ({"sunset": "0"}, ""),
        ({"deprecation": "@" + "9" * 40}, "deprecated"),
        ({"deprecation": "@x\x1b[2J"}, "deprecated"),
        ({"sunset": "Thu, 31 Dec 2026 23:59:59 GMT"}, "to be turned off on 2026-12-31"),
        ({"sunset": "soon, \x1b[31m or later"}, ""),
        ({"sunset": "Thu, 99 Dec 2026 23:59:59 GMT"}, ""),
        (
            {"deprecation": "?1", "sunset": "Thu, 31 Dec 2026 23:59:59 GMT"},
            "deprecated and to be turned off on 2026-12-31",
        ),
    ],
)
def test_what_the_headers_say(headers, words):
    """Dates are read, and nothing of a server's own words is repeated."""
    assert told(headers, TODAY) == words


def always(headers):
    return lambda _seen: Fault(headers=headers)


@pytest.mark.parametrize("provider", ["openai", "aleph-alpha"])
def test_50_it_is_told_once_and_nothing_else_happens(place, provider):
    """Every answer has the headers; the run says it once, and pays what it would pay."""
    with running(script=always(SINCE | ENDS)) as server:
        job = place(GIVEN, server=server, provider=provider, **HOW)
        ended = job.run("run", job.job, "--json", env={"THE_KEY": "a-key"})
        assert job.wrong() == []
        assert server.bill.paid_twice == {}
        assert server.bill.requests == len(GIVEN) / HOW["limits__texts_per_request"]
    assert ended.err.count("deprecated") == 1
    assert WORDS in ended.err
    assert ended.json["retires"] == WORDS.removeprefix("warning: ")


def test_50_without_such_headers_nothing_is_told(place):
    """Control: the words come from the headers alone."""
    with running() as server:
        check(place, server, Row(()))
        ended = place(GIVEN, server=server).run("run", "job.toml", "--json")
    assert "the server says that what is asked for" not in ended.err
    assert ended.json["retires"] == ""
