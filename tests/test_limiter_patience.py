"""Runs that share a limit and what each waits for: patience is a run's own."""

import asyncio
import random
from types import SimpleNamespace

import pytest
from fakes.scripted import Scripted, Texts, loop_of
from fakes.sharing import Run, hello, net_of
from fakes.time import Clock, now, run
from fakes.wires import Net

from batchembed.engines.lasting import BEAT, beating
from batchembed.errors import NotFinishedError
from batchembed.limiter import Link, taking_part
from batchembed.limiter.link import BEAT as TOLD_EVERY
from batchembed.pacing import Pacer, Rates
from benchmarks.pacing.servers import Answer, Bucket, Server, always

RATES = Rates(600)
MONITOR = SimpleNamespace(tick=lambda: None)


class AsksToWait:
    """A server that answers at first, and then with 429 and a wait."""

    def __init__(self, since: float, wait: float) -> None:
        self._since, self._wait = since, wait

    def serve(self, now: float, tokens: float, rng: random.Random) -> Answer:
        del tokens, rng
        if now < self._since:
            return Answer("accepted", 0.02)
        return Answer("throttled", 0.02, wait=self._wait)


async def told_of(net: Net, patience: float, until: float):
    """A run of the hot loop whose own requests are all answered; who ended it, and when."""
    rng = random.Random(7)
    made = loop_of(Scripted(), patience=patience)
    link = Link(net.connect, hello(RATES), clock=Clock(), rng=rng, say=lambda _: None)
    made.pacer = Pacer(RATES, Clock(), rng=rng, link=link)
    feed = Texts([f"text {n}" for n in range(100_000)], 1)
    with beating(made, MONITOR, lambda _: None):
        async with taking_part(link, made.pacer):
            going = asyncio.create_task(made.run(feed))
            await asyncio.wait([going], timeout=until - now())
            ending, ended = made.ending, now()
            made.stop(NotFinishedError("the test is over"))
            await going
    return ending, ended


@pytest.mark.parametrize(("patience", "ends"), [(3600.0, True), (4 * 3600.0, False)])
def test_a_wait_that_another_run_was_told_is_held_against_one_s_own_patience(patience, ends):
    """Three hours: a run that would wait for one ends at once, one that would for four waits."""

    async def main():
        net = net_of()
        other = Run(net, AsksToWait(5.0, 3 * 3600.0), RATES, number=1, at_once=4)
        other.start()
        ending, ended = await told_of(net, patience, 60.0)
        assert other.count("throttled") >= 1
        await other.end()
        await net.kill()
        return ending, ended

    ending, ended = run(main)
    if ends:
        assert isinstance(ending, NotFinishedError)
        assert "nothing may be sent for another `10" in ending.message
        assert 5.0 < ended < 6.0 + TOLD_EVERY + 2 * BEAT
    else:
        assert (ending, ended) == (None, 60.0)


def test_an_outage_before_a_run_joined_is_not_its_own():
    """Half an hour of it, and eight minutes without any run: the next has waited for a second."""

    async def main():
        net = net_of()
        down = Server(Bucket(always(10.0), 1.0), errors=lambda now: 1.0 if now > 20 else 0.0)
        first = Run(net, down, RATES, number=1, at_once=4)
        first.start()
        await asyncio.sleep(1820)
        before = first.pacer.failing_for()
        await first.end()
        await asyncio.sleep(480)
        runs = [Run(net, down, RATES, number=n, at_once=4) for n in (2, 3)]
        runs[0].start()
        await asyncio.sleep(100)
        runs[1].start()
        await asyncio.sleep(100)
        after = [one.pacer.failing_for() for one in runs]
        for one in runs:
            await one.end()
        await net.kill()
        return before, after

    before, after = run(main)
    assert before == pytest.approx(1800, abs=2)
    assert after == [pytest.approx(200, abs=1), pytest.approx(100, abs=1)]


def test_an_outage_goes_on_when_the_way_broke():
    """A run that comes back has waited since it first took part."""

    async def main():
        net = net_of()
        down = Server(Bucket(always(10.0), 1.0), errors=lambda now: 1.0 if now > 20 else 0.0)
        one, other = (Run(net, down, RATES, number=n, at_once=4) for n in (1, 2))
        one.start()
        other.start()
        await asyncio.sleep(120)
        one.link._writer.close()  # one way breaks; the limiter is there, and knows
        await asyncio.sleep(60)
        up, failing = one.link.up, one.pacer.failing_for()
        await one.end()
        await other.end()
        await net.kill()
        return up, failing

    up, failing = run(main)
    assert up
    assert failing == pytest.approx(160, abs=2)
