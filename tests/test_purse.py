"""The bound on cost, in virtual time: never passed by the bill, and used as far as it goes."""

import asyncio
from decimal import Decimal

import numpy as np
import pytest
from fakes.scripted import (
    MemoryLedger,
    Scripted,
    Texts,
    loop_of,
    open_texts,
    request,
    right,
    wrong,
)
from fakes.time import run
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.embed import Budget, Purse
from batchembed.embed.purse import A_TEXT
from batchembed.errors import ActionNeededError
from batchembed.exchange import Fatal, Malformed, Refused, Response, TooLarge, Unavailable
from batchembed.prices import Price

CENT = Price(Decimal(10000))  # a hundredth of the currency for one token


def texts(count):
    return [f"text {n} " + "word " * (n % 7) for n in range(count)]


def billed(asked):
    """What the scripted provider bills: a token for four bytes, as the stand-in."""
    return sum(max(1, -(-len(text.encode()) // 4)) for text in asked.texts)


def spend(most, *, count=300, per_request=16, script=None, paid=0, delay=0.1, **rules):
    """Run the loop with a budget of `most` tokens; gives (loop, provider's bill, ledger)."""
    ledger, bill = MemoryLedger(), []
    budget = Budget(CENT, CENT.of(most), CENT.of(paid))

    def answered(number, asked):
        outcome = script(number, asked) if script else None
        lost = isinstance(outcome, Unavailable) and outcome.billed
        if outcome is None or lost or isinstance(outcome, Malformed):
            bill.append(billed(asked))
        return right(asked, billed(asked)) if outcome is None else outcome

    async def main():
        made = loop_of(Scripted(answered, delay=delay), ledger, budget=budget, **rules)
        await made.run(Texts(texts(count), per_request))
        return made

    return run(main), sum(bill), ledger


def bound(text):
    """What is set aside for one text."""
    return len(text.encode()) + A_TEXT


@pytest.mark.parametrize("concurrency", [1, 3, 16, 64])
@pytest.mark.parametrize("most", [0, 1, 60, 75, 100, 500, 1000, 1200])
def test_the_bound_is_never_passed_and_is_used_to_the_last_text(most, concurrency):
    """What the provider billed is what we count, to the token; not one text more would fit."""
    made, bill, ledger = spend(most, concurrency=concurrency)
    assert bill <= most
    assert ledger.tokens == bill
    left = open_texts(ledger, texts(300))
    assert isinstance(made.ending, ActionNeededError)
    assert made.ending.exit_code == 4
    assert most - bill < max(map(bound, left))
    assert wrong(ledger, texts(300)) == []
    assert ledger.twice == 0


def test_a_bound_that_is_enough_changes_nothing():
    """Every text is answered, in as many requests as without a bound."""
    whole = sum(map(bound, texts(300)))
    made, bill, ledger = spend(whole, concurrency=8)
    assert made.ending is None
    assert ledger.tokens == bill < whole
    assert ledger.appends == -(-300 // 16)
    assert open_texts(ledger, texts(300)) == []


def test_requests_in_flight_are_waited_for_before_the_run_is_ended():
    """Their bills are lower than feared: a bound of what is really billed lets nearly all pass."""
    whole = sum(-(-len(text.encode()) // 4) for text in texts(300))
    made, bill, _ = spend(whole + bound(texts(300)[-1]), concurrency=64, per_request=4)
    assert made.ending is None
    assert bill == whole


def test_what_was_paid_before_counts():
    """The bound is for the directory, not for one run."""
    _, bill, _ = spend(1000, paid=800, concurrency=4)
    assert 0 < bill <= 200
    made, bill, _ = spend(1000, paid=1000, concurrency=4)
    assert bill == 0
    made, bill, _ = spend(1000, paid=5000, concurrency=4)
    assert bill == 0
    assert "--set limits.max_cost=" in made.ending.hint


TROUBLES = st.sampled_from(
    [
        None,
        None,
        None,
        Unavailable("lost", billed=True),
        Unavailable("down"),
        Malformed("odd"),
        Refused("bad", 400),
        TooLarge("big"),
        "silent",
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(TROUBLES, max_size=40),
    st.integers(0, 4000),
    st.integers(1, 9),
    st.integers(1, 40),
)
def test_whatever_happens_the_bound_is_kept(troubles, most, concurrency, per_request):
    """Lost answers, odd ones, refusals, bills that are not told: never more than the bound."""

    def script(number, asked):
        trouble = troubles[number] if number < len(troubles) else None
        if trouble == "silent":
            return Response(right(asked).vectors, None, "fake-1")
        return trouble

    told = []

    def counted(number, asked):
        outcome = script(number, asked)
        if isinstance(outcome, Response):
            told.append(billed(asked))
        return outcome

    _, bill, ledger = spend(
        most, count=80, per_request=per_request, script=counted, concurrency=concurrency
    )
    bill += sum(told)
    assert bill <= most
    assert bill <= ledger.tokens + ledger.charged + ledger.unsure
    assert ledger.risks[-1:] in ([], [0])
    assert wrong(ledger, texts(80)) == []


def test_answers_that_were_lost_count_as_paid():
    """The next run knows of them, too, as they stand in the ledger."""
    lost = Unavailable("the answer was cut short", billed=True)
    made, bill, ledger = spend(
        3000, script=lambda n, _: lost if n in {3, 5} else None, concurrency=4
    )
    assert ledger.unsure > 0
    assert ledger.tokens < bill <= ledger.tokens + ledger.unsure <= 3000
    assert "lost" in made.ending.message


@pytest.mark.parametrize("billed", [True, False])
def test_an_answer_that_is_not_read_to_its_end_may_be_billed(billed):
    """A body larger than any right one ends the run; what it may have cost stands in the ledger."""
    end = Fatal("the answer is larger than 100 bytes", billed=billed)
    made, _, ledger = spend(3000, script=lambda n, _: end if n == 3 else None)
    assert "larger than" in made.ending.message
    assert (ledger.unsure > 0) is billed


def test_an_answer_of_other_dimensions_is_billed():
    """It ends the run; its tokens are counted like those of all that were answered."""

    def script(number, asked):
        if number != 3:
            return None
        return Response(np.ones((len(asked), 7), np.float32), billed(asked))

    made, bill, ledger = spend(3000, script=script)
    assert "`7` dimensions" in made.ending.message
    assert (ledger.tokens, ledger.unsure) == (bill, 0), "`spend` counts what it answers itself"
    assert ledger.charged > 0


def test_an_abandoned_request_counts_as_paid():
    """It was sent, and nobody waits for its answer."""
    ledger = MemoryLedger()

    async def main():
        made = loop_of(Scripted(delay=1e6), ledger, budget=Budget(CENT, Decimal(10**6)))
        running = asyncio.create_task(made.run(Texts(texts(8), 8)))
        await asyncio.sleep(1)
        made.drain(ActionNeededError("enough"))
        await running
        return made

    run(main)
    assert ledger.unsure == sum(map(bound, texts(8)))
    assert ledger.risks == [ledger.unsure, 0]


def test_a_request_that_never_left_costs_nothing():
    """Its permit did not come: the run stopped before."""
    ledger = MemoryLedger()

    async def main():
        made = loop_of(Scripted(), ledger, budget=Budget(CENT, Decimal(10**6)))
        made.stop(ActionNeededError("enough"))
        assert await made.attempt(request("one", "two")) is None

    run(main)
    assert (ledger.unsure, ledger.charged) == (0, 0)


def test_what_may_be_in_flight_is_known_before_it_flies():
    """`kill -9` at any moment leaves a word of it."""
    ledger, flying = MemoryLedger(), []

    def script(_number, asked):
        flying.append(sum(map(bound, asked.texts)))
        assert max(ledger.risks) >= flying[-1]
        return right(asked, billed(asked))

    async def main():
        provider = Scripted(script)
        made = loop_of(provider, ledger, budget=Budget(CENT, Decimal(10**9)), concurrency=8)
        await made.run(Texts(texts(300), 16))

    run(main)
    assert ledger.risks == [*sorted(ledger.risks[:-1]), 0]
    assert ledger.risks[-2] <= 8 * max(flying)
    assert len(ledger.risks) < 30


def test_answers_that_bring_nothing_are_charged():
    """A vector of NaN was billed like any other; the ledger says so without one to keep."""
    spoiled = []

    def script(number, asked):
        if number == 2:
            spoiled.append(billed(asked))
            answer = right(asked, billed(asked))
            answer.vectors[:] = float("nan")
            return answer
        return None

    _, bill, ledger = spend(10**6, count=64, script=script, concurrency=2)
    assert ledger.charged == sum(spoiled) > 0
    assert ledger.tokens == bill


def test_the_harmless_sentence_is_paid_for_as_well():
    """It is a request like any other."""

    def refuse(_number, asked):
        return Refused("bad", 400) if "text 1 word " in asked.texts else None

    _, bill, ledger = spend(10**6, count=64, script=refuse, concurrency=2)
    assert ledger.tokens + ledger.charged == bill
    assert ledger.charged == 11


def test_a_purse_without_a_bound_admits_all():
    """And still tells what was billed."""

    async def main():
        purse = Purse(None, MemoryLedger(), lambda: 0)
        assert await purse.admit(None) is None
        asked = request("one", "two")
        lost = Unavailable("x", billed=True)
        assert purse.settle(asked, lost, sent=True) == purse.bound(asked) == 6 + 2 * A_TEXT
        assert purse.settle(asked, Unavailable("x"), sent=True) == 0

    run(main)


def test_a_careless_purse_is_seen(monkeypatch):
    """The control: with estimates in place of bounds, the bound is passed."""
    monkeypatch.setattr(Purse, "bound", lambda _self, request: len(request))
    _, bill, _ = spend(1000, concurrency=16)
    assert bill > 1000
