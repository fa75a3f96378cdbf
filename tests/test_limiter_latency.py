"""Runs that share a limit and whose texts are of different lengths: none is taken for trouble."""

import asyncio
import random
from collections.abc import Callable

import pytest
from fakes.sharing import Run, net_of, used
from fakes.time import now, run

from batchembed.pacing import Rates
from benchmarks.pacing.servers import Answer

LIMIT = 20.0
RATES = Rates(60 * LIMIT, concurrency=256, unpaced=64)


class Takes:
    """A server without a limit that answers after so many seconds, times `slower(now)`."""

    def __init__(self, seconds: float, slower: Callable[[float], float] = lambda _: 1.0) -> None:
        self._seconds, self._slower = seconds, slower

    def serve(self, now: float, tokens: float, rng: random.Random) -> Answer:
        del tokens, rng
        return Answer("accepted", self._seconds * self._slower(now))


def short(net, world=None):
    """A run that is answered in 0.05 s."""
    return Run(net, world or Takes(0.0), RATES, number=1, at_once=64)


def long(net, world=None):
    """A run that is answered in 2 s, forty times as late."""
    return Run(net, world or Takes(2.0), RATES, number=2, at_once=128)


def test_a_run_of_long_texts_after_one_of_short_ones():
    """It has the limit from its second minute on, as on an account that nobody used before."""

    async def main():
        net = net_of()
        before, after = short(net), long(net)
        before.start()
        await asyncio.sleep(60)
        await before.end()
        await asyncio.sleep(10)
        began = now()
        after.start()
        await asyncio.sleep(120)
        await after.end()
        await net.kill()
        return after, began

    after, began = run(main)
    assert used([after], LIMIT, began, began + 60) >= 0.8
    assert used([after], LIMIT, began + 60, began + 120) >= 0.97


def test_a_run_of_long_texts_beside_one_of_short_ones():
    """They have half of the limit each."""

    async def main():
        net = net_of()
        runs = [short(net), long(net)]
        runs[0].start()
        await asyncio.sleep(60)
        runs[1].start()
        await asyncio.sleep(120)
        await asyncio.gather(*(one.end() for one in runs))
        await net.kill()
        return runs

    runs = run(main)
    assert used(runs, LIMIT, 90, 180) >= 0.97
    assert used(runs[1:], LIMIT, 90, 180) == pytest.approx(0.49, abs=0.02)


def test_a_server_that_slows_down_for_both_is_not_sent_more():
    """Eight times as late: what may be open doubles at most, and is not eight times as many."""

    async def main():
        net = net_of()

        def slower(now):
            return 8.0 if now > 60 else 1.0

        runs = [short(net, Takes(0.1, slower)), long(net, Takes(1.0, slower))]
        for one in runs:
            one.start()
        await asyncio.sleep(60)
        (limited,) = net.limiter.accounts.values()
        before = limited.state.most_open
        await asyncio.sleep(60)
        after = limited.state.most_open
        await asyncio.gather(*(one.end() for one in runs))
        await net.kill()
        return before, after

    before, after = run(main)
    assert before > 15
    assert after <= 2.5 * before
