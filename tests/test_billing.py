"""What runs cost: told to the token of the stand-in's bill, bounded, and summed over runs."""

import json
from decimal import Decimal

import pytest
from fakes import faults, running
from fakes.runs import digests, texts, until

from batchembed.ledger import Ledger
from batchembed.store import Store

GIVEN = texts(400, seed=7)
PRICE = {"price__per_million_tokens": 20.0, "price__currency": "EUR"}
SMALL = {"limits__texts_per_request": 8, "limits__concurrency": 8}


def money(tokens):
    """What the stand-in's tokens cost."""
    return Decimal(20) * tokens / 1_000_000


def counted(run):
    """The bill that the checkpoint holds: (tokens, tokens that may have been billed)."""
    ledger = Ledger(Store(run))
    ledger.load()
    return ledger.bill.tokens, ledger.bill.unsure


def test_a_run_tells_what_it_cost(place, server):
    """In the summary, the manifest and the status, as the server billed."""
    job = place(GIVEN, server=server, **SMALL, **PRICE)
    told = job.run("run", job.job, "--json").json
    paid = float(money(server.bill.tokens))
    assert told["cost"] == pytest.approx(paid, rel=1e-12)
    assert (told["currency"], told["tokens"]) == ("EUR", server.bill.tokens)
    bill = json.loads((job.out / "manifest.json").read_bytes())["bill"]
    assert bill == {
        "requests": 50,
        "texts": 400,
        "tokens": server.bill.tokens,
        "unsure": 0,
        "rates": {"20 EUR": server.bill.tokens},
        "cost": pytest.approx(paid, rel=1e-12),
        "currency": "EUR",
    }
    assert f"{server.bill.tokens:,} tokens, {paid:.2f} EUR" in job.run("status", job.out).out
    again = job.run().out
    assert f"0 tokens; {paid:.2f} EUR for all {server.bill.tokens:,} of this directory" in again


def test_what_was_paid_before_keeps_its_price(place, server):
    """A price that changes holds for what is new; what had none counts at that of today."""
    job = place(GIVEN[:100], server=server, **SMALL)
    without = job.run("run", job.job, "--json").json
    assert without["cost"] == 0, "a server in a private network bills nobody"
    first = server.bill.tokens
    job.fill(GIVEN[:200])
    job.set(**SMALL, **PRICE)
    job.run()
    second = server.bill.tokens
    job.fill(GIVEN[:300])
    job.set(**SMALL, **PRICE | {"price__per_million_tokens": 5.0})
    told = job.run("run", job.job, "--json").json
    third = server.bill.tokens
    exact = money(second - first) + Decimal(5) * (first + third - second) / 1_000_000
    assert told["cost"] == pytest.approx(float(exact), rel=1e-12)
    assert told["billed_tokens"] == third


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("concurrency", [1, 16])
def test_the_bound_holds_to_the_token_over_runs(place, share, concurrency):
    """Stopped at the bound, run again, raised: never over it, nothing twice, the same bytes."""
    whole = sum(-(-len(text.encode()) // 4) for text in GIVEN)
    with running() as server:
        job = place(GIVEN, server=server, limits__concurrency=concurrency, **PRICE)
        most = float(money(round(whole * share)))
        bounded = ("run", job.job, "--set", f"limits.max_cost={most:.8f}", "--json")
        ended = job.run(*bounded, code=4)
        assert money(server.bill.tokens) <= Decimal(f"{most:.8f}")
        assert counted(job.out) == (server.bill.tokens, 0)
        told = ended.json
        assert told["cost"] == pytest.approx(float(money(server.bill.tokens)), rel=1e-12)
        assert "`limits.max_cost` of" in told["error"]
        assert "--set limits.max_cost=" in told["hint"]
        assert round(whole * share) - server.bill.tokens < 64 + max(map(len, GIVEN)) * 2
        again = job.run(*bounded, code=4).json
        assert money(server.bill.tokens) <= Decimal(f"{most:.8f}"), "only a shorter text may fit"
        mend = again["hint"].rpartition("--set ")[2]
        job.run("run", job.job, "--set", mend)
        assert server.bill.paid_twice == {}
        assert server.bill.tokens == whole
        fresh = place(GIVEN, server=server, name="fresh")
        fresh.run()
    assert digests(job.out) == digests(fresh.out)


def test_the_bound_holds_when_answers_are_lost(place):
    """The server bills what it answers, whether the answer arrives or not."""
    lost = [faults.reset(), faults.truncate(), faults.empty()]
    with running(script=lambda seen: lost[seen.number % 3] if seen.number % 4 == 1 else None) as s:
        job = place(GIVEN, server=s, **SMALL, **PRICE, limits__max_cost=0.08)
        ended = job.run(code=4)
        tokens, unsure = counted(job.out)
        assert tokens < s.bill.tokens <= tokens + unsure
        assert money(tokens + unsure) <= Decimal("0.08")
        assert "lost" in ended.err


@pytest.mark.parametrize("number", range(3))
def test_the_bound_holds_through_kill_9(place, number):
    """What flew when a run was killed may have been billed, so the next one counts it."""
    with running(delay=0.02) as server:
        few = {"limits__texts_per_request": 1, "limits__concurrency": 4}
        job = place(GIVEN, server=server, **few, **PRICE, limits__max_cost=0.09)
        for kill in range(1 + number):
            command = job.start()
            until(lambda: len(server.bill.answers) >= 12 * (kill + 1))  # noqa: B023 - at once
            command.kill()
        until(lambda: not server.bill.now_open)
        assert sum(counted(job.out)) >= server.bill.tokens
        job.run(code=4)
        assert money(server.bill.tokens) <= Decimal("0.09")
        assert sum(counted(job.out)) >= server.bill.tokens


@pytest.mark.parametrize("when", ["start", "end"])
def test_canaries_that_fly_when_a_run_is_killed_count(place, when):
    """They are asked before the first text and after the last; the server bills them as well."""
    rows, last = GIVEN[:40], 4 if when == "end" else 0
    slow = lambda seen: faults.Fault(delay=0.5) if seen.number >= last else None
    few = {"limits__texts_per_request": 16, "limits__concurrency": 4, "limits__canaries": "always"}
    with running(script=slow) as server:
        job = place(rows, server=server, **few, **PRICE, limits__max_cost=0.09)
        command = job.start()
        until(lambda: server.bill.requests > (4 if when == "end" else 0))
        settled = server.bill.tokens
        command.kill()
        until(lambda: not server.bill.now_open)
        assert server.bill.tokens > settled
        assert sum(counted(job.out)) >= server.bill.tokens


def test_canaries_of_a_run_that_ended_are_no_doubt(place, server):
    """Their bill is known by then: nothing of it counts twice for shards or the next run."""
    few = {"limits__canaries": "always", "limits__max_cost": 5.0}
    job = place(GIVEN, server=server, **few, **PRICE)
    job.run("run", job.job, "--shard", "0/2")
    store = Store(job.out / "checkpoint" / "shards" / "00000")
    ledger = Ledger(store)
    ledger.load()
    assert (ledger.bill.tokens, ledger.bill.unsure) == (server.bill.tokens, 0)


def test_a_ledger_without_a_word_of_what_flies_is_seen(place):
    """The control: when it is not written down, a killed run's bill is not counted."""
    with running(delay=0.3) as server:
        job = place(GIVEN, server=server, **SMALL, **PRICE, limits__max_cost=0.09)
        command = job.start(twists=[["silent_risk"]])
        until(lambda: len(server.bill.answers) >= 6 and server.bill.now_open)
        command.kill()
        until(lambda: not server.bill.now_open)
        assert sum(counted(job.out)) < server.bill.tokens


def test_a_bound_with_an_unknown_price_is_refused_before_anything_is_sent(place, server):
    """With what to do about it: give the price."""
    job = place(GIVEN, server=server, limits__max_cost=1.0)
    ended = job.run(code=2)
    assert "--set price.per_million_tokens=" in ended.err
    assert server.bill.requests == 0
    assert not job.out.exists()
    job.run("run", job.job, "--set", "price.per_million_tokens=0.5")


def test_a_run_that_is_stopped_before_anything_is_paid_leaves_no_segment(place):
    """Another model may have the directory, as long as nothing was paid."""
    with running(key="another") as server:
        job = place(GIVEN, server=server, **PRICE, limits__max_cost=1.0)
        job.run(code=4)
        assert not list((job.out / "checkpoint").glob("*.segment"))
        job.run("run", job.job, "--set", "model.name=other", code=4)


def test_a_plan_tells_the_cost_and_what_of_it_is_bounded(place, server):
    """As a range, with the price and where it is from; without one, how to give it."""
    job = place(GIVEN, server=server, **PRICE)
    whole = sum(-(-len(text.encode()) // 4) for text in GIVEN)
    told = job.run("plan", job.job, "--json").json
    low, likely, high = told["cost"]
    assert low < likely < high
    assert likely == pytest.approx(float(money(whole)))
    assert (told["currency"], told["paid_cost"], told["over_budget"]) == ("EUR", 0, False)
    words = job.run("plan", job.job, "--set", "limits.max_cost=0.01").out
    assert "20 EUR a million tokens (job)" in words
    assert "`limits.max_cost` could be passed" in words
    job.run()
    again = job.run("plan", job.job, "--json").json
    assert again["cost"] == [0, 0, 0]
    assert again["paid_cost"] == pytest.approx(float(money(whole)))
    unknown = ("--set", "model.base_url=https://x.example/v1", "--out", "other")
    job.set()
    assert "unknown: no price is known for `fake-model`" in job.run("plan", job.job, *unknown).out


def test_the_progress_of_a_run_tells_what_was_paid(place):
    """For a look from another terminal."""
    with running(delay=0.05) as server:
        job = place(GIVEN, server=server, **SMALL, **PRICE)
        command = job.start()
        until(lambda: len(server.bill.answers) >= 45)
        command.wait()
    progress = json.loads((job.out / "checkpoint" / "progress.json").read_bytes())
    assert progress["cost"] == pytest.approx(float(money(server.bill.tokens)))
