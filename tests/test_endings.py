"""How a run ends before its time: the words people meet, as they stand, and what they can do."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from fakes.scripted import MemoryLedger, request
from fakes.time import Clock

from batchembed.embed import Budget, Purse, Versions, Watching, disk_error, too_many_rejects
from batchembed.embed.canaries import Baseline, compared
from batchembed.embed.endings import nothing_passes, other_model, out_of_patience
from batchembed.embed.purse import A_TEXT, bound_of
from batchembed.embed.settle import Facts, Part, judge
from batchembed.embed.verdicts import Cut
from batchembed.errors import ActionNeededError, NotFinishedError, TooManyRejectsError
from batchembed.exchange import Malformed, Refused, Reject, Response, TooLarge
from batchembed.prices import Price

ANOTHER = (
    "embed into a new directory; or go on, with vectors of both, by "
    "--set limits.on_model_change=go_on"
)
PLAIN = "check [model] in the job file; a plain sentence was not taken either"
FACTS = Facts(answers=5, dimensions=3, normalize=False)


def answered(*outputs, dimensions=3):
    """How a run ends whose answers had three numbers, of two layers, so far."""
    facts = FACTS if not outputs else replace(FACTS, outputs=("layer_1", "layer_2"))
    vectors = np.ones((1, dimensions), np.float32)
    return judge(Part(request("a")), Response(vectors, 1, outputs=outputs), facts).end


def moved(cosine):
    """How a run ends whose canary texts have moved so far from a day in May."""
    before = np.array([[1.0, 0.0]], np.float32)
    now = np.array([[cosine, np.sqrt(1 - cosine**2)]], np.float32)
    since = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    how = Watching("symmetric", None, [].append, [].append, Clock())
    return compared(how, Baseline(before, since), now)


ENDINGS = {
    "the disk": (
        lambda: disk_error(OSError(28, "No space left on device")),
        NotFinishedError,
        "the run directory cannot be written: No space left on device",
        "make room or mend the disk, then run the same command again",
    ),
    "a disk that says no word": (
        lambda: disk_error(OSError("odd")),
        NotFinishedError,
        "the run directory cannot be written: odd",
        "make room or mend the disk, then run the same command again",
    ),
    "silence": (
        lambda: out_of_patience(61.4, 0, "down"),
        NotFinishedError,
        "nothing was answered for `61` s: down",
        "what was paid for is kept; run the same command again later",
    ),
    "a long wait": (
        lambda: out_of_patience(61.4, 7200.0, "slow down"),
        NotFinishedError,
        "nothing may be sent for another `7200` s: slow down",
        "what was paid for is kept; run the same command again later",
    ),
    "refused": (
        lambda: nothing_passes(Refused("no such model", 404)),
        ActionNeededError,
        "the provider refuses every request: no such model",
        PLAIN,
    ),
    "too large": (
        lambda: nothing_passes(TooLarge("too many tokens")),
        ActionNeededError,
        "the provider refuses every request: too many tokens",
        PLAIN,
    ),
    "malformed": (
        lambda: nothing_passes(Malformed("index 2 twice")),
        ActionNeededError,
        "no answer of the provider proves itself: index 2 twice",
        PLAIN,
    ),
    "another version": (
        lambda: other_model(["v1", "v2"], "v3"),
        ActionNeededError,
        "the server answers with the model `v3` now, and did with `v1, v2`",
        ANOTHER,
    ),
    "a canary moved": (
        lambda: moved(0.98),
        ActionNeededError,
        (
            "the provider's model is another by now: a canary text has a cosine of `0.9800` to its "
            "vector of 2026-05-04T03:02+00:00"
        ),
        ANOTHER,
    ),
    "rejects": (
        lambda: too_many_rejects(12, 11, Reject(b"k", "refused", "bad input")),
        TooManyRejectsError,
        (
            "`12` texts were rejected, and `limits.max_rejects` allows `11`; "
            "the last one: refused bad input"
        ),
        "mend the texts, or allow more with --set limits.max_rejects=…",
    ),
    "rejects without a word": (
        lambda: too_many_rejects(12, 11, Reject(b"k", "too_long", "")),
        TooManyRejectsError,
        "`12` texts were rejected, and `limits.max_rejects` allows `11`; the last one: too_long",
        "mend the texts, or allow more with --set limits.max_rejects=…",
    ),
    "other dimensions": (
        lambda: answered(dimensions=4),
        ActionNeededError,
        "the server answers with vectors of `4` dimensions, not `3`",
        "check `model.name` and `model.dimensions`; vectors of two sizes never mix",
    ),
    "other layers": (
        lambda: answered("layer_1", "layer_3"),
        ActionNeededError,
        "the server answers with `layer_1, layer_3`, and before it was `layer_1, layer_2`",
        "the model has other layers now: embed into a new directory with --out",
    ),
}


@pytest.mark.parametrize(("ending", "kind", "message", "hint"), ENDINGS.values(), ids=ENDINGS)
def test_an_ending_says_what_happened_and_what_to_do(ending, kind, message, hint):
    """Word for word: the values it names, the kind that gives the exit code, and the way on."""
    found = ending()
    assert type(found) is kind
    assert found.message == message
    assert found.hint == hint


@pytest.mark.parametrize(
    ("known", "answers", "objections"),
    [
        (None, ["a", "b", ""], 0),  # any will do
        ((), ["a", "a", ""], 0),  # the first of a directory is taken as it comes
        ((), ["", "a", "b", "a"], 1),
        (("a", "b"), ["b", "a", "c", "c"], 2),
        (("a",), [""], 0),  # a server that does not say
    ],
)
def test_another_version_is_objected_to(known, answers, objections):
    """And what was objected to does not become known."""
    versions = Versions(known)
    vectors = np.ones((1, 3), np.float32)
    found = [versions.objection(Response(vectors, 1, version)) for version in answers]
    assert sum(one is not None for one in found) == objections


# -- the bound on cost -----------------------------------------------------------------------------

CENT = Price(Decimal(10000))  # a hundredth of the currency for one token


def used_up(most="10", *, answer=None, lost=0, left=10, unsure=0, **budget):
    """How a run ends whose bound on cost is used up, after an answer of (texts, tokens)."""
    more = {name: Decimal(money) for name, money in budget.items() if name != "shards"}
    shards = budget.get("shards", 1)
    told = Budget(CENT, Decimal(most), **more, unsure=unsure) if shards == 1 else None
    told = told or Budget(CENT, Decimal(most), **more, unsure=unsure, shards=shards)
    purse = Purse(told, MemoryLedger(), lambda: left)
    if answer:
        texts, tokens = answer
        asked = request(*(f"text {n}" for n in range(texts)))
        purse.settle(asked, Response(np.ones((texts, 3), np.float32), tokens), sent=True)
    if lost:
        purse.settle(request("x" * (lost - A_TEXT)), None, sent=True)
    text = request("y" * (1000 - A_TEXT))
    assert purse.bound(text) == 1000
    return purse._ended(text, 1000)


SPENT = {
    "nothing": (
        {},
        (
            "`limits.max_cost` of `10` USD is used up: 0 USD are paid, "
            "and the next text may cost 10.00"
        ),
        "about 0.10 USD more are needed for 10 texts: --set limits.max_cost=20.11",
    ),
    "answers, and some that were lost": (
        {"answer": (4, 200), "lost": 300, "unsure": 100, "paid": 3, "left": 1000},
        (
            "`limits.max_cost` of `10` USD is used up: 8.00 USD are paid (4.00 of it for answers "
            "that were lost, and may not have been billed), and the next text may cost 10.00"
        ),
        "about 500.00 USD more are needed for 1,000 texts: --set limits.max_cost=578.00",
    ),
    "the share of a shard": (
        {"most": "5", "before": 2, "paid": 2, "shards": 3},
        (
            "this shard's share of `limits.max_cost`, 1/3 of 11.00 USD, is used up: 0 USD are "
            "paid, and the next text may cost 10.00"
        ),
        "about 0.10 USD more are needed for 10 texts: --set limits.max_cost=62.33",
    ),
    "all but a text that is empty": (
        {"left": 0},
        (
            "`limits.max_cost` of `10` USD is used up: 0 USD are paid, "
            "and the next text may cost 10.00"
        ),
        "about 0.010 USD more are needed for 0 texts: --set limits.max_cost=20.02",
    ),
}


@pytest.mark.parametrize(("given", "message", "hint"), SPENT.values(), ids=SPENT)
def test_a_bound_that_is_used_up_says_what_more_would_do(given, message, hint):
    """What is paid, what of it for nothing, and a bound that would be enough: by hand."""
    found = used_up(**given)
    assert type(found) is ActionNeededError
    assert found.message == message
    assert found.hint == hint


def test_the_bound_of_a_request_counts_what_stands_before_its_texts():
    """And A_TEXT for each of them: no bill passes it."""
    asked = request("abc", "\u00e9")
    assert bound_of(asked, None) == 3 + 2 + 2 * A_TEXT
    assert bound_of(asked, Budget(CENT, Decimal(1), overhead=10)) == 3 + 2 + 2 * (A_TEXT + 10)


def test_what_cannot_be_noted_ends_the_run():
    """What may be in flight is on the disk before it flies."""
    ledger = MemoryLedger()
    ledger.risk = lambda _tokens: (_ for _ in ()).throw(OSError(5, "Input/output error"))
    purse = Purse(Budget(CENT, Decimal(1000)), ledger, lambda: 1)
    verdict = asyncio.run(purse.admit(Part(request("abc"))))
    assert verdict.end.message == "the run directory cannot be written: Input/output error"
    assert purse.close() is None, "nothing changed that could be noted"
    purse.settle(request("abc"), None, sent=False)
    assert purse.close().message == verdict.end.message
    assert Purse(None, ledger, lambda: 1).close() is None


def test_what_does_not_fit_is_halved_in_order():
    """The left half is asked first: `again` is taken from its end."""
    purse = Purse(Budget(CENT, CENT.of(200)), MemoryLedger(), lambda: 5)
    verdict = asyncio.run(purse.admit(Part(request(*"abcde"), failures=2, cut=Cut("texts", 3, 3))))
    assert [one.request.texts for one in verdict.again] == [("c", "d", "e"), ("a", "b")]
    assert [(one.failures, one.cut) for one in verdict.again] == [(2, None)] * 2
    assert (verdict.end, verdict.failure, verdict.rejects) == (None, None, ())
