"""The goals of rate control, in the simulator: the step that runs of jobs use, unchanged."""

import random

import pytest

from batchembed.pacing import Rates, finding, step
from benchmarks.pacing.ours import Ours
from benchmarks.pacing.servers import Bucket, FixedWindow, Server, SlidingWindow, always
from benchmarks.pacing.world import run, run_several

LIMIT = 40.0
SEED = 20261125
SERVERS = {
    "fixed 60 s": lambda limit: FixedWindow(limit, 60.0, phase=23.0),
    "sliding 60 s": lambda limit: SlidingWindow(limit, 60.0),
    "fixed 10 s": lambda limit: FixedWindow(limit, 10.0, phase=4.0),
    "sliding 10 s": lambda limit: SlidingWindow(limit, 10.0),
    "bucket 1 s": lambda limit: Bucket(limit, 1.0),
    "bucket 60 s": lambda limit: Bucket(limit, 60.0),
}
SECONDS = {
    "fixed 1 s": lambda limit: FixedWindow(limit, 1.0, phase=0.4),
    "sliding 1 s": lambda limit: SlidingWindow(limit, 1.0),
}
steady = always(LIMIT)


def hour(server, rates, *, seconds=900, seed=SEED, **more):
    """What the server saw of our pacer; the seed is printed, so that a failure can be repeated."""
    print(f"seed {seed}")
    return run(Ours(rates, random.Random(seed)), server, seconds=seconds, seed=seed, **more)


def stated(limit=LIMIT, **more):
    return Rates(60.0 * limit, concurrency=256, **more)


UNKNOWN = Rates(concurrency=256)


@pytest.mark.parametrize("count", [False, True], ids=["", "failures count"])
@pytest.mark.parametrize("name", SERVERS)
def test_a_known_limit_is_used_without_a_429(name, count):
    """At least 97 % of it, whatever the server counts with."""
    seen = hour(Server(SERVERS[name](steady), failures_count=count), stated(), seconds=300)
    assert seen.used(steady) >= 0.97
    assert sum(seen.throttled) == 0


@pytest.mark.parametrize("name", SECONDS)
def test_a_known_limit_on_windows_of_a_second(name):
    """There jitter on the way is a good part of the window: 88 %."""
    seen = hour(Server(SECONDS[name](steady)), stated())
    assert seen.used(steady) >= 0.88
    assert seen.refused() <= 0.002


def test_a_rate_above_the_limit_is_seen(monkeypatch):
    """The control: who aims above the limit is refused here."""
    monkeypatch.setattr(step, "AIM", 1.05)
    seen = hour(Server(SERVERS["sliding 10 s"](steady)), stated(), seconds=300)
    assert sum(seen.throttled) > 0


@pytest.mark.parametrize("ratio", [0.8, 1.2])
@pytest.mark.parametrize("name", SERVERS)
def test_a_known_limit_of_tokens_with_wrong_estimates(name, ratio):
    """At least 94 % of the tokens, with estimates a fifth off, and different from text to text."""
    tokens = always(LIMIT * 100)

    def asked(rng):
        truth = rng.uniform(20, 180)
        return truth / ratio, round(truth)

    server = Server(tokens=SERVERS[name](tokens))
    rates = Rates(tokens_per_minute=60 * LIMIT * 100, concurrency=256)
    seen = hour(server, rates, seconds=600, tokens=asked)
    assert sum(seen.tokens) / (600 * LIMIT * 100) >= 0.94
    assert seen.refused() <= 0.0005


@pytest.mark.parametrize("told", [False, True], ids=["", "Retry-After"])
@pytest.mark.parametrize("name", SERVERS)
def test_an_unknown_limit_is_found_and_kept(name, told):
    """After ten minutes at least 94 % is used, with hardly any 429s; in all of it few."""
    seen = hour(Server(SERVERS[name](steady), retry_after=told), UNKNOWN, seconds=1800)
    assert seen.used(steady, 600) >= 0.94
    assert seen.refused(600) <= 0.0006
    assert seen.refused() <= 0.002
    assert seen.reached(steady) <= 60


def test_a_pacer_that_holds_too_much_is_seen(monkeypatch):
    """The control: who holds more than the server took is refused again and again."""
    monkeypatch.setattr(finding, "HOLD", 1.3)
    seen = hour(Server(SERVERS["bucket 1 s"](steady)), UNKNOWN, seconds=300)
    assert seen.refused() > 0.005


@pytest.mark.parametrize("name", SERVERS)
def test_a_limit_that_halves(name):
    """Nine tenths of what is left are used again within a minute."""

    def limit(now):
        return LIMIT / (2 if now >= 900 else 1)

    seen = hour(Server(SERVERS[name](limit)), UNKNOWN, seconds=1500)
    assert seen.reached(limit, 0.9, 900, over=20) <= 60
    assert seen.refused(900) <= 0.004


@pytest.mark.parametrize("name", SERVERS)
def test_a_limit_that_doubles(name):
    """Nine tenths of twice as much are used within twelve minutes."""

    def limit(now):
        return LIMIT * (2 if now >= 900 else 1)

    seen = hour(Server(SERVERS[name](limit)), UNKNOWN, seconds=1800)
    assert seen.reached(limit, 0.9, 900, over=20) <= 720


def test_a_limit_that_doubles_and_is_told():
    """With headers it is used at once."""

    def limit(now):
        return LIMIT * (2 if now >= 300 else 1)

    server = Server(SERVERS["bucket 60 s"](limit), headers=limit)
    seen = hour(server, UNKNOWN, seconds=600)
    assert seen.reached(limit, 0.9, 300) <= 10
    assert seen.refused() <= 0.001


@pytest.mark.parametrize(
    ("name", "count"), [*((name, False) for name in SERVERS), ("sliding 60 s", True)]
)
def test_a_limit_that_is_stated_twice_too_high(name, count):
    """The job says twice what the server allows: found out, and forgotten by nobody."""
    server = Server(SERVERS[name](steady), failures_count=count)
    seen = hour(server, stated(2 * LIMIT), seconds=3600)
    assert seen.refused() <= 0.001
    assert seen.used(steady) >= 0.94


def test_a_stranger_on_the_same_key():
    """Most of what the other leaves is used: whoever comes first is served first."""
    server = Server(SERVERS["sliding 60 s"](steady), stranger=0.4 * LIMIT)
    seen = hour(server, stated(), seconds=1800)
    assert seen.used(always(0.6 * LIMIT), 300) >= 0.8
    assert seen.refused() <= 0.005


def test_an_outage_of_an_hour():
    """At most 130 probes; the first answer within a minute of its end, the rate soon after."""

    def down(now):
        return 1.0 if 600 <= now < 4200 else 0.0

    seen = hour(Server(SERVERS["bucket 1 s"](steady), errors=down), stated(), seconds=4800)
    assert sum(seen.failed[620:4200]) <= 130
    first = next(second for second in range(4200, 4800) if seen.accepted[second])
    assert first <= 4260
    assert seen.reached(steady, 0.9, 4200) <= 75
    assert sum(seen.throttled) == 0


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_brown_out(share):
    """At least 95 % of what could be answered is."""
    seen = hour(
        Server(SERVERS["bucket 1 s"](steady), errors=lambda _now: share), stated(), seconds=900
    )
    assert seen.used(steady) >= 0.95 * (1 - share)


def test_four_workers_that_know_nothing_of_each_other():
    """Each was told the whole limit: together they keep it, with few 429s."""
    schemes = [Ours(stated(), random.Random(n)) for n in range(4)]
    server = Server(SERVERS["sliding 60 s"](steady), retry_after=True)
    seen = run_several(schemes, server, seconds=1800, seed=SEED)
    assert sum(s.used(steady) for s in seen) >= 0.9
    refused = sum(sum(s.throttled) for s in seen)
    assert refused / sum(sum(s.accepted) for s in seen) <= 0.005


def test_the_same_seed_is_the_same_hour():
    """Nothing but the seed decides."""
    seen = [hour(Server(SERVERS["fixed 10 s"](steady)), UNKNOWN, seconds=200) for _ in range(2)]
    assert seen[0].accepted == seen[1].accepted
    assert seen[0].throttled == seen[1].throttled
    other = hour(Server(SERVERS["fixed 10 s"](steady)), UNKNOWN, seconds=200, seed=1)
    assert other.accepted != seen[0].accepted
