"""SIGTERM and Ctrl-C: what is in flight lands, all is kept, and the same command goes on."""

import signal
import time

import pytest
from fakes import running
from fakes.faults import delay, hang, throttled
from fakes.places import Place
from fakes.runs import digests, strays, texts, until

GIVEN = texts(160)
HOW = {"limits__texts_per_request": 4, "limits__concurrency": 4}
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def check(job):
    """Run a stopped job again; it must give what a run gives that nothing disturbs."""
    job.run()
    assert strays(job.out) == []
    whole = Place(job.commands, job.folder / "whole", GIVEN, server=job.server, **HOW)
    paid = job.sent()
    job.server.script, job.server.delay = (), 0
    whole.run()
    assert digests(job.out) == digests(whole.out)
    return paid


@pytest.mark.parametrize("signum", CODES, ids=lambda s: s.name)
def test_a_signal_drains_and_the_same_command_goes_on(place, signum):
    """Stopped while embedding, a run lets its requests land, keeps them, and nothing is lost."""
    with running(delay=0.1) as server:
        job = place(GIVEN, server=server, **HOW)
        command = job.start()
        until(lambda: len(server.bill.answers) >= 8)
        began = time.monotonic()
        command.send(signum)
        ended = command.wait(10)
        assert time.monotonic() - began < 5
        assert ended.code == CODES[signum]
        assert f"stopped by {signum.name}" in ended.err
        assert "run the same command again" in ended.err
        assert "Traceback" not in ended.err
        assert 32 <= len(job.sent()) < len(GIVEN)
        assert sorted(check(job)) == sorted(GIVEN), "a drained run pays for nothing twice"


@pytest.mark.slow
def test_what_never_lands_is_let_go_within_ten_seconds(place):
    """A request that hangs does not hold the end up for longer than ten seconds."""
    script = [None] * 8 + [hang()] * 4
    with running(script=script) as server:
        job = place(GIVEN, server=server, **HOW)
        command = job.start()
        until(lambda: server.bill.requests >= 12)
        began = time.monotonic()
        command.send(signal.SIGTERM)
        assert command.wait(12).code == 143
        assert time.monotonic() - began < 10
        assert sorted(check(job)) == sorted(GIVEN), "what hung was never charged"


def test_a_second_ctrl_c_ends_at_once(place):
    """Whoever presses Ctrl-C twice need not wait; at most what is in flight is lost."""
    with running(script=lambda seen: delay(30) if 8 <= seen.number < 12 else None) as server:
        job = place(GIVEN, server=server, **HOW)
        command = job.start()
        until(lambda: server.bill.requests >= 12)
        command.send(signal.SIGINT)
        assert not command.ends_within(0.3)
        command.send(signal.SIGINT)
        began = time.monotonic()
        assert command.wait(5).code == 130
        assert time.monotonic() - began < 1
        paid = check(job)
        assert set(paid) == set(GIVEN)
        assert len(paid) <= len(GIVEN) + 4 * 4


@pytest.mark.parametrize("signum", CODES, ids=lambda s: s.name)
@pytest.mark.parametrize("phase", ["reading", "publishing", "comparing"])
def test_a_signal_before_and_after_the_requests(place, server, signum, phase):
    """A run that is reading or writing when the signal comes ends at once, and goes on later."""
    job = place(GIVEN, server=server, **HOW, similarity={"top_k": 2})
    ended = job.run(code=CODES[signum], twists=[["signal_in_phase", phase, int(signum)]])
    assert f"stopped by {signum.name}" in ended.err
    assert len(job.sent()) == (0 if phase == "reading" else len(GIVEN))
    job.run()
    assert sorted(job.sent()) == sorted(GIVEN)
    assert job.wrong() == []
    assert strays(job.out) == []


def test_waiting_for_a_throttled_server_ends_at_once(place):
    """A run that waits because the server said so does not wait on after a signal."""
    with running(script=lambda seen: throttled(3600) if seen.number else None) as server:
        job = place(GIVEN, server=server, **HOW)
        command = job.start()
        until(lambda: server.bill.statuses[429])
        command.send(signal.SIGTERM)
        assert command.wait(3).code == 143
