"""Runs that share a limit, minute by minute in virtual time; the limiter is as it is served."""

import asyncio
import random

import pytest
from fakes.sharing import Run, net_of, refused, used
from fakes.time import now, run

from batchembed.limiter import account
from batchembed.limiter.account import LEASE
from batchembed.pacing import Rates
from benchmarks.pacing.servers import Bucket, FixedWindow, Server, SlidingWindow, always

LIMIT = 40.0
WHOLE = Rates(60 * LIMIT)
SERVERS = {
    "sliding 60 s": lambda: SlidingWindow(always(LIMIT), 60.0),
    "fixed 10 s": lambda: FixedWindow(always(LIMIT), 10.0, 4.0),
    "bucket 1 s": lambda: Bucket(always(LIMIT), 1.0),
}


def late():
    """Timers come late by about 2 ms."""
    rng = random.Random(3)
    return lambda: rng.expovariate(500)


def shares(runs, begin, end):
    counts = [one.count("accepted", begin, end) for one in runs]
    return [count / sum(counts) for count in counts]


async def started(net, server, rates=WHOLE, count=4, **more):
    runs = [Run(net, server, rates, number=number, **more) for number in range(count)]
    for one in runs:
        one.start()
    return runs


async def ended(net, runs):
    await asyncio.gather(*(one.end() for one in runs))
    await net.kill()


@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
def test_four_runs_told_the_whole_limit(server):
    """They use 97 % of it with no 429, a quarter each."""

    async def main():
        net = net_of()
        runs = await started(net, Server(server()))
        await asyncio.sleep(120)
        parts = [one.pacer.limits() for one in runs]
        await ended(net, runs)
        return runs, parts

    runs, parts = run(main, late())
    assert parts == [(15 * LIMIT, None)] * 4
    assert used(runs, LIMIT, 0, 120) >= 0.97
    assert refused(runs) == 0.0
    assert all(0.24 <= share <= 0.26 for share in shares(runs, 0, 120))
    for one in runs:
        told = one.pacer.figures().told()
        use = told["limits"]["requests_per_minute"]
        assert (told["shared_by"], use["limit"]) == (4, 60 * LIMIT)
        assert use["used"] == pytest.approx(0.245, abs=0.01)
        assert use["used_by_all"] == pytest.approx(used(runs, LIMIT, 0, 120), abs=0.02)
        assert one.said == []


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("rates", [WHOLE, Rates()], ids=["stated", "to be found"])
def test_an_hour_of_four_runs(server, rates):
    """At least 95 % of the limit after five minutes, at most 0.1 % 429s in all, a quarter each."""

    async def main():
        net = net_of()
        runs = await started(net, Server(server()), rates)
        await asyncio.sleep(3600)
        await ended(net, runs)
        return runs

    runs = run(main, late())
    assert used(runs, LIMIT, 300, 3600) >= 0.95
    assert refused(runs) <= 0.001
    assert all(0.24 <= share <= 0.26 for share in shares(runs, 0, 3600))


def test_without_a_limiter_the_same_runs_are_refused():
    """The control: uncoordinated, the four know of each other by 429s alone."""

    async def main():
        net = net_of()
        await net.kill()
        runs = await started(net, Server(SERVERS["fixed 10 s"]()))
        await asyncio.sleep(120)
        await ended(net, runs)
        return runs

    runs = run(main, late())
    assert refused(runs) > 0.001
    assert used(runs, LIMIT, 0, 120) >= 0.8
    assert all("cannot be reached" in one.said[0][1] for one in runs)


def test_one_429_holds_them_all():
    """A limit stated twice too high: who is refused is one of them, who waits are all four."""

    async def main():
        net = net_of()
        server = Server(SERVERS["fixed 10 s"]())
        runs = await started(net, server, Rates(2 * 60 * LIMIT))
        while not any(one.count("throttled") for one in runs):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        told = [one.pacer.standing().words for one in runs]
        first = now()
        await asyncio.sleep(240)
        await ended(net, runs)
        return runs, told, first

    runs, told, first = run(main, late())
    assert all("over the limit" in words and "429" in words for words in told)
    assert refused(runs, first, first + 60) <= 0.01
    assert used(runs, LIMIT, 60, 240) >= 0.93


@pytest.mark.parametrize("rough", [False, True], ids=["the system says so", "nobody says so"])
def test_a_killed_run_leaves_its_share_to_the_others(rough):
    """At once when the connection breaks; when a machine is gone, after the lease."""

    async def main():
        net = net_of()
        runs = await started(net, Server(SERVERS["bucket 1 s"]()))
        await asyncio.sleep(30)
        if rough:
            net._ends[0].cut = net._ends[0].other.cut = True
        await runs[0].kill()
        await asyncio.sleep(LEASE + 30)
        left = next(iter(net.limiter.accounts.values()))
        workers, opened = len(left.workers), left.state.open
        await ended(net, runs[1:])
        return runs[1:], workers, opened

    runs, workers, opened = run(main, late())
    assert workers == 3
    assert opened <= 3 * 16
    since = 30 + 1.5 * LEASE if rough else 31
    assert used(runs, LIMIT, since, 30 + LEASE + 30) >= 0.97
    assert refused(runs) == 0.0


def test_a_killed_run_that_had_the_probe_leaves_it(monkeypatch):
    """The one request that tries whether a hold may end is never waited for in vain."""
    held = []

    async def main():
        net = net_of()
        server = Server(SERVERS["fixed 10 s"](), failures_count=True)
        runs = await started(net, server, Rates(4 * 60 * LIMIT))
        limited = None
        while not held:
            await asyncio.sleep(0.005)
            limited = limited or next(iter(net.limiter.accounts.values()), None)
            for one, worker in zip(runs, limited.workers if limited else (), strict=False):
                if any(permit.probe for permit in worker.lease.values()):
                    held.append(one)
        await held[0].kill()
        at, rest = now(), [one for one in runs if one is not held[0]]
        await asyncio.sleep(60)
        await ended(net, rest)
        return rest, at

    rest, at = run(main, late())
    assert used(rest, LIMIT, at + 20, at + 60) >= 0.8


def test_a_limiter_that_dies_and_comes_back():
    """Each says so and goes on with its share; when it is back, they share again."""

    async def main():
        net = net_of()
        runs = await started(net, Server(SERVERS["sliding 60 s"]()))
        await asyncio.sleep(60)
        await net.kill()
        await asyncio.sleep(60)
        net.start()
        await asyncio.sleep(80)
        await ended(net, runs)
        return runs

    runs = run(main, late())
    for one in runs:
        gone, back = (words for _, words in one.said)
        assert "the limiter is gone; this run paces itself" in gone
        assert "is back" in back
        assert 120 <= one.said[1][0] <= 124
    assert used(runs, LIMIT, 60, 120) >= 0.9
    assert used(runs, LIMIT, 130, 200) >= 0.95
    assert refused(runs, 0, 60) == 0.0
    assert refused(runs, 60, 130) <= 0.02
    assert refused(runs, 130, 200) <= 0.001
    both = used(runs, LIMIT, 0, 60), used(runs, LIMIT, 125, 200)
    use = runs[0].pacer.figures().limits["requests_per_minute"]
    assert min(both) - 0.05 <= use.used_by_all <= max(both) + 0.02  # the time between is not its


@pytest.mark.parametrize(
    "rates",
    [WHOLE, Rates(None, 60 * LIMIT * 100), Rates(None, None, 60 * LIMIT)],
    ids=["requests", "tokens", "texts"],
)
@pytest.mark.parametrize("count", [4, 8])
def test_each_goes_on_with_its_part_of_every_limit(rates, count):
    """Whatever is limited; each request has a text of 100 tokens, and a window is 10 s."""

    async def main():
        net = net_of()
        runs = await started(net, Server(SERVERS["fixed 10 s"]()), rates, count)
        await asyncio.sleep(60)
        await net.kill()
        await asyncio.sleep(60)
        await ended(net, runs)
        return runs

    runs = run(main, late())
    assert used(runs, LIMIT, 60, 120) >= 0.95
    assert refused(runs, 60, 120) <= 0.005


def test_a_limiter_that_is_silent():
    """A cable is pulled, nothing breaks: after the lease each goes on by itself."""

    async def main():
        net = net_of()
        runs = await started(net, Server(SERVERS["bucket 1 s"]()))
        await asyncio.sleep(20)
        net.freeze()
        await asyncio.sleep(40)
        alone = [one.link.up for one in runs]
        await ended(net, runs)
        return runs, alone

    runs, alone = run(main, late())
    assert all("does not answer" in one.said[0][1] for one in runs)
    assert all(20 < one.said[0][0] <= 20 + LEASE + 1 for one in runs)
    assert used(runs, LIMIT, 20 + LEASE + 1, 60) >= 0.8
    assert len(alone) == 4


def test_who_wants_little_gets_it_and_the_others_share_the_rest():
    """One run has one request at a time; the three others get a third of what it leaves."""

    async def main():
        net = net_of()
        server = Server(SERVERS["bucket 1 s"]())
        runs = await started(net, server, count=3)
        small = Run(net, server, WHOLE, number=9, at_once=1)
        small.start()
        await asyncio.sleep(60)
        await ended(net, [*runs, small])
        return runs, small

    runs, small = run(main, late())
    assert small.count("accepted") >= 0.8 * 60 / 0.37
    assert used([*runs, small], LIMIT, 5, 60) >= 0.97
    assert all(0.31 <= share <= 0.36 for share in shares(runs, 5, 60))


def test_an_unfair_turn_is_seen(monkeypatch):
    """The control: whoever is first in the list takes all that it can."""
    monkeypatch.setattr(account.Account, "_share", lambda *_: 0.0)

    async def main():
        net = net_of()
        runs = await started(net, Server(SERVERS["bucket 1 s"]()), at_once=32)
        await asyncio.sleep(30)
        await ended(net, runs)
        return runs

    runs = run(main, late())
    assert max(shares(runs, 5, 30)) > 0.4


def test_a_far_limiter_costs_a_way_there_and_back_and_not_the_rate():
    """With 20 ms each way the limit is used as well."""

    async def main():
        net = net_of(late=0.02)
        runs = await started(net, Server(SERVERS["bucket 1 s"]()))
        await asyncio.sleep(60)
        await ended(net, runs)
        return runs

    runs = run(main, late())
    assert used(runs, LIMIT, 5, 60) >= 0.97
    assert refused(runs) <= 0.001
