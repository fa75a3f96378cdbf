"""What commands say: every figure that a person needs, and nothing that a terminal obeys."""

import json
import shlex
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path

import pytest

from batchembed.api import Hit
from batchembed.monitor import Summary
from batchembed.plan import Plan
from batchembed.providers import listed
from batchembed.similarity import Compared
from batchembed.similarity.settings import LeftOut
from batchembed.verify import Verified
from batchembed.words import (
    compared_words,
    hit_words,
    json_words,
    mistake,
    plan_words,
    provider_words,
    run_words,
    status_words,
    verify_words,
)


class Near:
    """A pair of rows to look at."""

    left, right, score = "one text\nof two lines", "x" * 100, 0.876


def rows(words):
    """The lines of an answer by the name in front of them."""
    found = {}
    for line in words.splitlines()[1:]:
        name = line[2:16].strip()
        found.setdefault(name, []).append(line[16:])
    return found


SUMMARY = Summary(
    path="runs/x",
    rows=12_000,
    distinct=11_000,
    sent=1_500,
    reused=9_400,
    rejected=100,
    requests=24,
    tokens=98_765,
    parts=3,
    dimensions=256,
    seconds=12.34,
    failures={"unavailable": 1, "throttled": 2},
    reasons={"null_text": 60, "refused": 40},
    similarity=["similarity/top_k.arrow"],
)


def test_a_run_tells_rows_vectors_rejects_bill_and_what_is_next():
    """With thousands separated, reasons named, and paths that can be pasted."""
    words = run_words(SUMMARY, [Near(), Near()])
    assert words.splitlines()[0] == (
        "12,000 rows, 11,000 different texts: 1,500 embedded, "
        "9,400 already paid for, 100 rejected, in 12.3 s"
    )
    found = rows(words)
    assert found["vectors"] == ["runs/x/embeddings/  3 parts, 256 dimensions"]
    assert found["similarity"] == ["runs/x/similarity/top_k.arrow"]
    assert found["rejects"] == ["runs/x/rejects.arrow  60 null_text, 40 refused"]
    assert found["paid"] == ["24 requests, 98,765 tokens, cost unknown"]
    assert found["tried again"] == ["2 throttled, 1 unavailable"]
    assert found["next"] == ['batchembed search runs/x "…"']
    assert found["look"] == ["batchembed report runs/x"]
    assert found["nearest"] == [f"0.88  one text of two lines  ~  {'x' * 35}…"]
    assert len(found[""]) == 1


def test_a_run_without_trouble_says_nothing_of_trouble():
    """Nor of what it did not make."""
    plain = Summary(path="runs/x", rows=1, distinct=1, sent=1, cost=0.0)
    words = run_words(plain)
    for absent in ("rejects.arrow", "tried again", "similarity", "nearest"):
        assert absent not in words
    assert "free" in words
    assert rows(run_words(Summary(cost=0.12345, currency="EUR")))["paid"][0].endswith(", 0.12 EUR")


def test_a_run_tells_what_earlier_ones_paid_and_what_was_lost():
    """The cost is of the directory, the tokens are of this run."""
    plain = Summary(requests=1, tokens=10, billed_tokens=1010, cost=0.5, currency="USD")
    assert rows(run_words(plain))["paid"] == [
        "1 request, 10 tokens; 0.50 USD for all 1,010 of this directory"
    ]
    lost = rows(run_words(replace(plain, unsure_tokens=77)))[""]
    assert lost == ["77 more may have been billed: their answers were lost"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (119, "119 s"), (125, "2 min"), (3600, "1 h 0 min"), (90_000, "25 h 0 min")],
)
def test_a_plan_tells_time_in_units_that_fit(seconds, told):
    """With the limit that binds."""
    words = plan_words(Plan(seconds=seconds, bound_by="tokens a minute"))
    assert rows(words)["time"] == [f"at least {told}, bound by tokens a minute"]


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (1.5e6, "1.5 MB"),
        (2e9, "2.0 GB"),
        (3e12, "3.0 TB"),
        (4e15, "4000.0 TB"),
    ],
)
def test_a_plan_tells_sizes_in_units_that_fit(size, told):
    """In powers of a thousand, as disks are sold."""
    assert rows(plan_words(Plan(disk=size, disk_free=5)))["disk"] == [f"{told} of 5 B free"]


def test_a_plan_tells_what_a_run_would_send():
    """Rows, what is paid for, requests, tokens, the longest text, what has no text."""
    plan = Plan(
        rows=1000,
        distinct=900,
        duplicates=90,
        paid=400,
        to_send=500,
        unsendable={"null_text": 10},
        requests=8,
        tokens=(75, 100, 160),
        longest=12_345,
        provider="openai",
        model="m",
    )
    words = plan_words(plan)
    assert words.splitlines()[0] == "openai, m; nothing was sent"
    found = rows(words)
    assert found["rows"] == ["1,000, 900 different texts, 90 duplicates"]
    assert found["rejects"] == ["10 null_text (nothing to embed)"]
    assert found["to send"] == ["500 texts in 8 requests"]
    assert found["tokens"] == ["about 100 (75 to 160), estimated from bytes"]
    assert found["longest"] == ["12,345 characters"]
    assert found["time"] == ["no limit is known that would bind"]
    assert found["cost"] == [
        "unknown: no price is known for `m`; give one with --set price.per_million_tokens=…"
    ]
    assert "disk" not in found
    assert rows(plan_words(Plan(cost=(0.0, 0.0, 0.0), price="free")))["cost"] == ["free"]


def test_a_plan_tells_the_cost_as_a_range():
    """With its price, what is paid already, and whether a bound may end the run."""
    plan = Plan(cost=(0.75, 1.0, 1.6), currency="USD", price="2 USD a million tokens (job)")
    found = rows(plan_words(plan))
    assert found["cost"] == ["about 1.00 USD (0.75 to 1.60)"]
    assert found["price"] == ["2 USD a million tokens (job)"]
    found = rows(plan_words(replace(plan, paid_cost=0.25, over_budget=True)))
    assert found["cost"] == ["about 1.00 USD (0.75 to 1.60), 0.25 USD are paid"]
    assert found[""] == ["a run may end before its time: `limits.max_cost` could be passed"]


def test_the_status_of_a_complete_run():
    """When it was finished, and what it holds."""
    words = status_words(
        {
            "state": "complete",
            "path": "runs/x",
            "finished": "then",
            "counts": {"rows": 5000, "rejected": 3},
            "bill": {"requests": 7, "tokens": 1234},
            "dimensions": 8,
            "parts": 2,
        }
    )
    assert words.splitlines()[0] == "runs/x: complete since then"
    assert rows(words)["rows"] == ["5,000, 3 rejected"]


@pytest.mark.parametrize("state", ["running", "stopped"])
@pytest.mark.parametrize("progress", [None, {"line": "embedding 1/2", "at": "then"}])
def test_the_status_of_a_run_that_is_not_complete(state, progress):
    """Its last line, and what to do when nobody is at it."""
    found = rows(status_words({"state": state, "path": "runs/x", "progress": progress}))
    assert ("next" in found) == (state == "stopped")
    assert found.get("progress") == (["embedding 1/2"] if progress else None)


def test_a_verification_names_every_problem():
    """And says so when there is none."""
    good = verify_words(Verified(files=3, bytes=2048, rows=10, vectors=9, aligned=10))
    assert good.splitlines()[0] == "3 files, 2.0 KB: all as promised"
    bad = Verified(problems=["a is missing", "b has other bytes"], ignored=["c"], asked=5)
    bad.cosine_least, bad.cosine_mean = 0.25, 0.5
    found = rows(verify_words(bad))
    assert "2 problems" in verify_words(bad).splitlines()[0]
    assert found["problem"] == ["a is missing", "b has other bytes"]
    assert found["not looked at"] == ["c"]
    assert found["embedded"] == ["5 rows again: cosine at least 0.250000, mean 0.500000"]


def test_a_comparison_tells_its_size_and_its_file():
    """Rows without a vector are named as left out."""
    found = Compared("top_k", 1000, 2000, 10_000, LeftOut(3, 1), LeftOut(), 1.26)
    assert compared_words(found, Path("out.arrow")).splitlines() == [
        "1,000 x 2,000 rows, 10,000 scores in 1.3 s, 4 rows left out",
        "  written       out.arrow",
    ]


def test_hits_are_one_line_each():
    """Score, id, and the texts of the row, cut where they are long."""
    hits = [
        Hit(0, "id-1", 0.98765, {"id": "id-1", "title": "A\ttitle", "body": "two\nlines", "n": 3}),
        Hit(7, 7, -0.5, {"body": "word " * 50, "none": None}),
    ]
    first, second = hit_words(hits).splitlines()
    assert first == "0.9877  id-1  A title · two lines"
    assert second.startswith("-0.5000  7  word word")
    assert second.endswith("…")
    assert len(second) == len("-0.5000  7  ") + 88
    assert hit_words([]) == ""


UNSEEN = ["\x1b[2J", "\x07", "\x00", "\x9b31m", "\u202e", "\u2066", "\x7f"]


@pytest.mark.parametrize("code", UNSEEN)
def test_what_a_terminal_obeys_is_not_passed_on(code):
    """A corpus may hold what clears the screen or turns the writing round."""
    words = hit_words([Hit(0, f"i{code}d", 1.0, {"t": f"a{code}b"})])
    assert code not in words
    assert code[0] not in run_words(
        SUMMARY, [type("N", (), {"left": code, "right": "", "score": 1})]
    )


def test_providers_are_a_table_and_one_of_them_a_block():
    """Model, key, roles, limits of all; of one also its address, its models and what is odd."""
    told = listed({"VOYAGE_API_KEY": "a-secret"})
    table = provider_words(told).splitlines()
    assert [line.split()[0] for line in table[1:-2]] == [one.name for one in told]
    (line,) = (line for line in table if line.startswith("voyage "))
    for word in ("voyage-4 ", "1024", "all three", "1,000 texts, 320,000 tokens", "12 h"):
        assert word in line
    assert line.endswith("VOYAGE_API_KEY (set)")
    assert "a-secret" not in "".join(table)

    (one,) = listed({}, "voyage")
    words = provider_words([one])
    found = rows(words)
    assert words.splitlines()[0] == "voyage: Voyage AI"
    assert found["base_url"] == ["https://api.voyageai.com/v1"]
    assert found["key"] == ["VOYAGE_API_KEY (not set)"]
    assert found["controls"] == ["no"]
    assert "voyage-law-2: 1024 dimensions, 16,000 tokens a text" in found["model"]
    assert found["model"][-1] == "any other: unknown dimensions"


def test_the_next_command_can_be_pasted_whatever_the_path():
    """Blanks, quotes and what a shell obeys are quoted."""
    path = "runs/it's $(mine)"
    told = rows(run_words(Summary(path=path)))["next"][0]
    assert shlex.split(told) == ["batchembed", "search", path, "…"]


def test_a_plan_tells_of_rejects_beyond_what_is_allowed():
    """Below the rows that have no text."""
    told = rows(plan_words(Plan(unsendable={"null_text": 1_500}, excess=1_200)))
    assert told[""] == ["1,200 more than `limits.max_rejects` allows: a run would send nothing"]
    assert "limits.max_rejects" not in plan_words(Plan(unsendable={"null_text": 1}))


def test_json_has_letters_for_what_json_has_nothing_for():
    """Times as ISO 8601, bytes as base64, numbers that are none as null, also deep inside."""
    columns = {
        "when": datetime(2024, 5, 6, 7, 8, tzinfo=UTC),
        "day": date(2024, 5, 6),
        "hour": time(7, 8),
        "price": Decimal("1.10"),
        "raw": b"\x00\xff",
        "not": float("nan"),
        "deep": [{"x": float("inf"), "y": (1, 2.5, None, True)}],
    }
    told = json_words([Hit(1, date(2024, 1, 2), 0.5, columns)])
    found = json.loads(told, parse_constant=pytest.fail)
    assert found == [
        {
            "row": 1,
            "id": "2024-01-02",
            "score": 0.5,
            "columns": {
                "when": "2024-05-06T07:08:00+00:00",
                "day": "2024-05-06",
                "hour": "07:08:00",
                "price": "1.10",
                "raw": "AP8=",
                "not": None,
                "deep": [{"x": None, "y": [1, 2.5, None, True]}],
            },
        }
    ]


def test_json_has_the_fields_of_what_is_told():
    """Inner ones as well."""
    found = Compared("top_k", 1, 2, 3, LeftOut(3, 1), LeftOut(), 1.5)
    assert json.loads(json_words(found))["left_out"] == {"null": 3, "zero": 1}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file", "a/b"), "`a/b`: No such file"),
        (IsADirectoryError(21, "Is a directory", "new", None, "old"), "`old`: Is a directory"),
        (OSError(28, "No space left"), "No space left"),
        (OSError("what a library says"), "what a library says"),
    ],
)
def test_what_the_system_does_not_allow_is_told_with_its_path(error, told):
    """With a hint, and as a mistake in the command."""
    wrong = mistake(error)
    assert (wrong.message, wrong.exit_code) == (told, 2)
    assert wrong.hint
