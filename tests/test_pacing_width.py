"""How many requests are open: what a rate needs, or up to where more of them gain nothing."""

import random

import numpy as np
import pytest

from batchembed.exchange import Response
from batchembed.pacing import Permit, Rates, width
from batchembed.pacing.state import State
from batchembed.pacing.step import AIM, begin, learn
from batchembed.pacing.width import QUICK, Knee, needed, widen
from benchmarks.pacing.ours import Ours
from benchmarks.pacing.servers import Bucket, Server, always
from benchmarks.pacing.world import run

SEED = 11
NONE = np.zeros((0, 1), np.float32)


def test_little_s_law():
    """Rate times latency and room to spare; a server that slows down is not sent more."""
    assert needed(10.0, 0.5, 0.5) == pytest.approx(1.5 * 5 + 4)
    assert needed(10.0, 0.9, 0.5) == pytest.approx(1.5 * 9 + 4)
    assert needed(10.0, 5.0, 0.5) == pytest.approx(1.5 * 10 + 4)


def test_what_the_tightest_rate_asks_for():
    """Of requests, tokens and texts: the seconds between two starts, smoothed over answers."""
    rates = Rates(600 / AIM, 60_000 / AIM, 600 / AIM)
    state = begin(rates, 0.0)._replace(open=9)
    for cost, texts, seconds in ((50, 1, 0.1), (500, 1, 0.5), (50, 8, 0.8)):
        given = Permit(cost, cost, 99.0, texts=texts)
        found = learn(state, rates, given, Response(NONE, cost), now=100.0, draw=0.5)
        assert found.spacing == pytest.approx(seconds)
        later = learn(
            state._replace(spacing=0.1), rates, given, Response(NONE, cost), now=100.0, draw=0.5
        )
        assert later.spacing == pytest.approx(0.095 + 0.05 * seconds)
    free = learn(State(open=1), Rates(), Permit(1, 1, 99.0), Response(NONE, 1), now=100.0, draw=0.5)
    assert free.spacing == 0.0


def test_one_more_for_every_answer_at_first():
    """One, two, three … eight; or as many as may be."""
    for bound, end in ((64.0, QUICK), (3.0, 3.0)):
        most, knee = 1.0, Knee()
        for count in range(1, 8):
            most, knee = widen(most, knee, count, bound, latency=0.1, now=1.0)
        assert most == end


NOW = 1000.0


def measured(most, knee, rate, *, counted=2000, bound=64.0, latency=None):
    """The next step after so many answers came at a rate."""
    begun = knee._replace(at=NOW - counted / rate, base=1)
    latency = most / rate if latency is None else latency
    return widen(most, begun, counted + 1, bound, latency=latency, now=NOW)


def test_a_measurement_begins_when_what_was_open_before_has_ended():
    """Twelve answers of twelve that left before tell nothing of the new number."""
    _, knee = measured(8.0, Knee(), 20.0)
    assert (knee.at, knee.base) == (0.0, 2001 + 12)
    most, same = widen(12.0, knee, 2012, 64.0, latency=0.4, now=NOW)
    assert (most, same) == (12.0, knee)
    assert widen(12.0, knee, 2013, 64.0, latency=0.4, now=NOW)[1].at == NOW


def test_half_as_many_again_while_that_brings_more():
    """Up to the bound; what is enough and what is too few is remembered."""
    most, knee = measured(8.0, Knee(), 20.0)
    assert (most, knee.high, knee.low, knee.rate) == (12.0, 8.0, 0.0, pytest.approx(20.0))
    most, knee = measured(12.0, knee, 25.0)
    assert (most, knee.high, knee.low, knee.rate) == (18.0, 12.0, 8.0, pytest.approx(25.0))
    most, knee = measured(18.0, knee, 30.0, bound=18.0)
    assert (most, knee.tried, knee.high, knee.low) == (15.0, -1, 18.0, 12.0)


def test_fewer_where_that_brought_nothing():
    """Half, and half of that, until it is too few; then between; then a margin is held."""
    knee = Knee(high=8.0, rate=30.0, counted=600)
    most, knee = measured(16.0, knee, 31.0)
    assert (most, knee.tried, knee.rate) == (4.0, -1, pytest.approx(31.0))
    most, knee = measured(4.0, knee, 30.5)
    assert (most, knee.high) == (2.0, 4.0)
    assert 30.5 < knee.rate < 31.0, "two measurements of one rate"
    most, knee = measured(2.0, knee, 20.0)
    assert (most, knee.high, knee.low) == (3.0, 4.0, 2.0)
    most, knee = measured(3.0, knee, 27.0)
    assert (most, knee.tried, knee.high, knee.low) == (5.0, 0, 4.0, 3.0)


def test_what_was_found_is_held_and_looked_at_again():
    """For a minute, then two: with fewer, then with more; a look that brings nothing costs little.

    After the margin was held, what it brings is what a look is measured by.
    """
    knee = Knee(high=4.0, low=3.0, rate=30.0, tried=0, hold=60.0)
    begun = knee._replace(at=NOW - 59.0, base=1)
    assert widen(5.0, begun, 1800, 64.0, latency=0.16, now=NOW) == (5.0, begun)
    most, knee = measured(5.0, knee, 29.0)
    assert (most, knee.tried, knee.looked, knee.low) == (2.0, -1, -1, 0.0)
    assert knee.rate == pytest.approx(29.0)
    most, knee = measured(2.0, knee, 20.0)
    most, knee = measured(most, knee, 25.0)
    assert (most, knee.tried, knee.hold) == (5.0, 0, 120.0)
    most, knee = measured(5.0, knee, 29.0, counted=6000)
    assert (most, knee.tried, knee.looked) == (8.0, 1, 1)
    most, back = measured(8.0, knee, 30.0)
    assert (most, back.tried, back.hold) == (5.0, 0, 240.0)
    most, knee = measured(8.0, knee, 45.0)
    assert (most, knee.tried, knee.hold) == (12.0, 1, 30.0), "it grew: the search goes on"


@pytest.mark.parametrize(
    ("counted", "rate", "clear"),
    [
        (59, 60.0, False),  # too few, whatever they say
        (70, 60.0, True),  # twice as much is clear at once
        (70, 34.0, False),  # a little more is not
        (300, 34.0, False),
        (600, 34.0, True),  # but it has been waited for long enough
    ],
)
def test_measured_is_until_it_is_clear(counted, rate, clear):
    """Ten times as long where it is close."""
    knee = Knee(high=8.0, rate=30.0, counted=600)
    assert (measured(12.0, knee, rate, counted=counted)[0] != 12.0) == clear


def test_nothing_is_measured_that_was_not_used():
    """Where the feed or the disk is slow, more open requests would help nobody."""
    most, knee = measured(8.0, Knee(), 20.0, latency=0.25)
    assert (most, knee) == (8.0, Knee(at=NOW, base=2001))


# -- in the simulator ------------------------------------------------------------------------------


def batches(base, each, most):
    """The seconds that batches of 1, 2, … requests take."""
    return [base + each * count for count in range(1, most + 1)]


SERVERS = {
    "1 at once": ({"knee": 1}, 3.33, 0.55, 3600),
    "2 at once": ({"knee": 2}, 6.67, 0.40, 3600),
    "4 at once": ({"knee": 4}, 13.3, 0.40, 900),
    "8 at once": ({"knee": 8}, 26.7, 0.40, 600),
    "16 at once": ({"knee": 16}, 53.3, 0.33, 600),
    "32 at once": ({"knee": 32}, 106.7, 0.33, 300),
    "batches of 32": ({"batch": batches(0.1, 0.01, 32)}, 76.2, 0.79, 600),
    "batches of 8": ({"batch": batches(0.05, 0.02, 8)}, 38.1, 0.37, 600),
}
"""What may be had: answers a second and latency at the best fixed number, and for how long."""


def searched(server, seconds, **more):
    scheme = Ours(Rates(concurrency=256, unpaced=64, **more), random.Random(SEED))
    seen = run(scheme, server, seconds=seconds, seed=SEED)
    begin = seconds // 3
    lately = seen.latencies[int(sum(seen.accepted[:begin])) :]
    used = sum(seen.accepted[begin:]) / (seconds - begin)
    return used, sum(lately) / len(lately), scheme.state.most_open


@pytest.mark.parametrize("name", SERVERS)
def test_the_knee_of_a_server_without_limits(name):
    """95 % of what the best fixed number brings, at most 1.5 times the latency there."""
    print(f"seed {SEED}")
    told, best, latency, seconds = SERVERS[name]
    used, took, _ = searched(Server(latency=0.3, **told), seconds)
    assert used >= 0.95 * best
    assert took <= 1.5 * latency


def test_the_best_fixed_number_is_what_was_said():
    """The oracle: with fixed numbers, those answers a second are had, and not more."""
    told, best, latency, _ = SERVERS["batches of 8"]
    used, took, most = searched(Server(**told), 300, fixed=True)
    assert (used, most) == (pytest.approx(best, rel=0.03), 64)
    assert took > 3 * latency
    scheme = Ours(Rates(concurrency=16, fixed=True), random.Random(SEED))
    seen = run(scheme, Server(**told), seconds=300, seed=SEED)
    assert sum(seen.accepted) / 300 == pytest.approx(best, rel=0.03)
    assert sum(seen.latencies) / len(seen.latencies) == pytest.approx(latency, rel=0.05)


def test_a_client_that_never_goes_down_is_seen(monkeypatch):
    """The control: with 64 open, a server that serves four at once takes sixteen times as long."""
    monkeypatch.setattr(width, "WORTH", 0.0)
    monkeypatch.setattr(width, "STAYS", 9.0)
    assert searched(Server(latency=0.3, knee=4), 300)[1] > 2.0


def test_a_client_that_never_goes_up_is_seen(monkeypatch):
    """The control: with eight open, a server that serves 32 at once is a third used."""
    monkeypatch.setattr(width, "WORTH", 9.0)
    assert searched(Server(latency=0.3, knee=32), 200)[0] < 0.5 * 106.7


def test_a_known_rate_needs_few():
    """Ten a second at 0.3 s are three open requests, and not sixty-four."""
    scheme = Ours(Rates(600, concurrency=64), random.Random(SEED))
    server = Server(Bucket(always(10.0), 1.0))
    seen = run(scheme, server, seconds=120, seed=SEED)
    assert seen.used(always(10.0)) >= 0.97
    assert scheme.state.most_open <= 12


@pytest.mark.parametrize("tokens", [None, 500 * 60 * 100.0], ids=["requests", "tokens"])
def test_a_high_rate_gets_as_many_as_it_needs(tokens):
    """500 a second at 0.35 s are 175 open requests, whether requests are limited or tokens."""
    rates = Rates(None if tokens else 30_000, tokens, concurrency=256, unpaced=64)
    scheme = Ours(rates, random.Random(SEED))
    server = Server(Bucket(always(500.0), 1.0))
    seen = run(scheme, server, seconds=30, seed=SEED)
    assert seen.used(always(500.0), 5) >= 0.97
    assert 150 <= scheme.state.most_open <= 256
    few = Ours(Rates(30_000, concurrency=64), random.Random(SEED))
    assert (
        run(few, Server(Bucket(always(500.0), 1.0)), seconds=30, seed=SEED).used(always(500.0), 5)
        < 0.5
    ), "the control: 64 are too few"


def test_a_server_that_slows_down_is_not_sent_more():
    """Five times the latency: more open requests would only make it worse."""
    scheme = Ours(Rates(600, concurrency=64), random.Random(SEED))
    server = Server(Bucket(always(10.0), 1.0), slower=lambda now: 8.0 if now > 60 else 1.0)
    run(scheme, server, seconds=240, seed=SEED)
    assert scheme.state.most_open <= 24
