"""The figures of merit of a run: use of each limit, 429s, what was waited for."""

import asyncio
import random

import numpy as np
import pytest
from fakes.time import Clock, now, run

from batchembed.exchange import Response, Throttled, Unavailable
from batchembed.monitor import Monitor, telling
from batchembed.pacing import Pacer, Rates
from batchembed.words.running import pace_words

VECTORS = np.zeros((1, 1), np.float32)


def paced(rates, seconds=600, outcome=lambda _number: Response(VECTORS, 100)):
    """A pacer after some minutes of one worker."""

    async def main():
        pacer = Pacer(rates, Clock(), rng=random.Random(1))
        number = 0
        while now() < seconds:
            given = await pacer.permit(100, 4)
            await asyncio.sleep(0.01)
            pacer.settle(given, outcome(number))
            number += 1
        return pacer

    return run(main)


def test_use_of_each_limit_and_which_one_binds():
    """The tighter one is used to 98 %, and is what was waited for."""
    told = paced(Rates(600, 30_000, 10_000)).figures().told()
    assert told["limits"] == {
        "requests_per_minute": {"limit": 600, "told_by": "job", "used": pytest.approx(0.49, 0.01)},
        "tokens_per_minute": {"limit": 30000, "told_by": "job", "used": pytest.approx(0.98, 0.01)},
        "texts_per_minute": {"limit": 10000, "told_by": "job", "used": pytest.approx(0.118, 0.01)},
    }
    assert (told["binds"], told["seconds_to_90"]) == ("tokens", 0.0)
    assert told["waited"] == {"tokens": pytest.approx(560, abs=50)}
    assert (told["throttled"], told["failed"]) == (0.0, 0.0)


def test_shares_of_429s_and_other_failures():
    """Of all attempts."""
    outcomes = [Response(VECTORS, 100)] * 8 + [Throttled("429", 0.5), Unavailable("503")]
    figures = paced(Rates(600), 300, lambda number: outcomes[number % 10]).figures()
    assert figures.throttled == pytest.approx(0.1, abs=0.01)
    assert figures.failed == pytest.approx(0.1, abs=0.01)
    assert figures.waited["throttled"] > 0


def test_a_limit_that_was_found_is_told_as_such():
    """The requests a minute that are allowed by now."""
    pacer = paced(Rates(), 1)
    pacer.state = pacer.state._replace(found=2.0)
    assert pacer.figures().limits["requests_per_minute"].told_by == "found"
    assert pacer.limits() == (120.0, None)


def test_a_run_without_limits_has_no_figures_of_use():
    """A model on this machine, or a server whose limit was never met."""
    assert paced(Rates(find=False), 0).figures().limits == {}
    assert pace_words({}) == pace_words({"limits": {}}) == ""


def test_the_words_of_a_summary():
    """One line: use, 429s, the longest wait."""
    told = paced(Rates(600)).figures().told()
    words = "98.0 % of 600 requests_per_minute (job), 0.00 % 429s; waited 9 min for requests"
    assert pace_words(told) == words


def test_an_open_circuit_says_so():
    """With the reason and the next probe, in the line and in what `status` reads."""

    async def main():
        kept = []
        pacer = Pacer(Rates(600), Clock(), rng=random.Random(1))
        monitor = Monitor("quiet", clock=Clock(), keep=kept.append)
        monitor.pacing, monitor.standings = pacer, (pacer.standing,)
        monitor.phase("embedding", 10)
        for _ in range(3):
            pacer.settle(await pacer.permit(1), Unavailable("503 Service Unavailable"))
        monitor.tick()
        assert pacer.standing().words.startswith("circuit open, next probe in 1 s: 503")
        assert telling.line(monitor.progress()).endswith("s: 503 Service Unavailable")
        monitor.close("stopped", 75)
        probe = await pacer.permit(1)
        assert pacer.standing().words == "circuit open, a probe is out: 503 Service Unavailable"
        pacer.settle(probe, Response(VECTORS, 1))
        assert pacer.standing().kind == ""
        pacer.settle(await pacer.permit(1), Throttled("429", 30.0))
        assert pacer.standing().words.startswith("over the limit, next probe in 30 s: 429")
        return kept[-1]

    told = run(main)
    assert told["waiting"].startswith("circuit open")
    assert told["pace"]["failed"] == 1.0
