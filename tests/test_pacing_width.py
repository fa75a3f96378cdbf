"""How many requests are open: what a rate needs, or up to where more of them gain nothing."""

import random

import pytest

from batchembed.pacing import Rates, width
from batchembed.pacing.width import QUICK, Knee, needed, widen
from benchmarks.pacing.ours import Ours
from benchmarks.pacing.servers import Bucket, Server, always
from benchmarks.pacing.world import run

SEED = 11


def test_little_s_law():
    """Rate times latency and room to spare; a server that slows down is not sent more."""
    assert needed(10.0, 0.5, 0.5) == pytest.approx(1.5 * 5 + 4)
    assert needed(10.0, 0.9, 0.5) == pytest.approx(1.5 * 9 + 4)
    assert needed(10.0, 5.0, 0.5) == pytest.approx(1.5 * 10 + 4)


def test_one_more_for_every_answer_at_first():
    """One, two, three … eight."""
    most, knee = 1.0, Knee()
    for count in range(7):
        most, knee = widen(most, knee, count, latency=0.1, now=1.0)
    assert most == QUICK


def measured(most, knee, rate, *, now=1000.0):
    """The next step after enough answers came at a rate."""
    accepted = 2000
    begun = knee._replace(at=now - accepted / rate, base=0)
    return widen(most, begun, accepted, latency=most / rate, now=now)


def test_half_as_many_again_while_that_brings_more():
    """Without a measurement there is nothing to compare with: the first is the base."""
    most, knee = measured(8.0, Knee(), 20.0)
    assert (most, knee.width, knee.rate) == (12.0, 8.0, pytest.approx(20.0))
    assert measured(12.0, knee, 25.0)[0] == 18.0


def test_fewer_where_that_brought_nothing_and_as_many_as_brought_the_same():
    """Past the knee, by fifths; then what was before, held for a minute."""
    knee = Knee(width=12.0, rate=30.0)
    most, knee = measured(18.0, knee, 31.0)
    assert (most, knee.down) == (pytest.approx(14.4), True)
    most, knee = measured(most, knee, 30.9)
    assert most == pytest.approx(11.52)
    most, knee = measured(most, knee, 26.0)
    assert (most, knee.down, knee.rate) == (pytest.approx(14.4), False, 0.0)
    assert knee.held_until == 1060.0
    assert measured(most, knee, 26.0, now=1050.0)[0] == most


def test_nothing_is_measured_that_was_not_used():
    """Where the feed or the disk is slow, more open requests would help nobody."""
    begun = Knee(at=1.0)
    assert widen(8.0, begun, 490, latency=0.1, now=50.0) == (8.0, Knee(50.0, 490))


@pytest.mark.parametrize("knee", [4, 8, 16, 32])
def test_the_knee_of_a_server_without_limits(knee):
    """92 % of what the best fixed number brings, at most twice the latency there."""
    print(f"seed {SEED}")
    scheme = Ours(Rates(concurrency=64), random.Random(SEED))
    seen = run(scheme, Server(latency=0.3, knee=knee), seconds=600, seed=SEED)
    best = knee / 0.3
    assert sum(seen.accepted[200:]) / 400 >= 0.92 * best
    lately = seen.latencies[len(seen.latencies) // 2 :]
    assert sum(lately) / len(lately) <= 2.0 * 0.3


def test_a_client_that_never_goes_down_is_seen(monkeypatch):
    """The control: with 64 open, a server that serves four at once takes sixteen times as long."""
    monkeypatch.setattr(width, "WORTH", -1.0)
    scheme = Ours(Rates(concurrency=64), random.Random(SEED))
    seen = run(scheme, Server(latency=0.3, knee=4), seconds=300, seed=SEED)
    lately = seen.latencies[len(seen.latencies) // 2 :]
    assert sum(lately) / len(lately) > 2.0


def test_a_known_rate_needs_few():
    """Ten a second at 0.3 s are three open requests, and not sixty-four."""
    scheme = Ours(Rates(600, concurrency=64), random.Random(SEED))
    server = Server(Bucket(always(10.0), 1.0))
    seen = run(scheme, server, seconds=120, seed=SEED)
    assert seen.used(always(10.0)) >= 0.97
    assert scheme.state.most_open <= 12


def test_a_server_that_slows_down_is_not_sent_more():
    """Five times the latency: more open requests would only make it worse."""
    scheme = Ours(Rates(600, concurrency=64), random.Random(SEED))
    server = Server(Bucket(always(10.0), 1.0), slower=lambda now: 8.0 if now > 60 else 1.0)
    run(scheme, server, seconds=240, seed=SEED)
    assert scheme.state.most_open <= 20
