"""Two runs on one directory: the second leaves at once, and a dead first is no hindrance."""

import json
import signal
import socket
import time

import pytest
from fakes import running
from fakes.faults import hang
from fakes.runs import files, texts, until

GIVEN = texts(40)


@pytest.fixture
def held(place):
    """A job whose first run waits for an answer that does not come."""
    with running(script=[None, hang()]) as server:
        job = place(GIVEN, server=server, limits__texts_per_request=4, limits__concurrency=1)
        command = job.start()
        until(lambda: server.bill.requests == 2)
        yield job, command
        command.kill()


def test_the_second_run_leaves_at_once(held):
    """It sends nothing, ends with 75 within a second, and says who holds the directory."""
    job, first = held
    sent, began = job.server.bill.requests, time.monotonic()
    ended = job.run(code=75)
    assert time.monotonic() - began < 1
    assert job.server.bill.requests == sent
    for told in ("another run holds", str(first.pid), socket.gethostname(), "since 20", "hint:"):
        assert told in ended.err, ended.err


def test_the_second_run_harms_nothing(held):
    """What the second run writes and removes on its way is nothing of the first."""
    job, first = held
    before = {path: path.stat().st_mtime_ns for path in sorted(job.out.rglob("*"))}
    job.run(code=75)
    after = {path: path.stat().st_mtime_ns for path in sorted(job.out.rglob("*"))}
    progress = job.out / "checkpoint" / "progress.json"
    changed = {p.name for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    assert changed <= {progress.name, "checkpoint"}  # the first one's own heartbeat
    assert json.loads(progress.read_text())["state"] != "stopped"
    assert not first.ends_within(0.01)


def test_status_sees_the_run(held):
    """From another terminal, `status` says that it runs."""
    job, _ = held
    assert job.run("status", "run", "--json").json["state"] == "running"


def test_after_kill_9_the_directory_is_free_at_once(held):
    """The hold dies with the process, whatever its file still says."""
    job, first = held
    assert first.kill().code == -9
    assert job.run("status", "run", "--json").json["state"] == "stopped"
    job.run()
    assert job.wrong() == []
    assert sorted(job.sent()) == sorted(GIVEN)


@pytest.mark.parametrize("stolen", [True, False])
def test_a_run_that_was_frozen_does_not_publish_over_another(place, stolen):
    """Frozen, and its lock deleted by somebody: it sends and publishes nothing more."""
    script = {"hangs": True}
    with running(script=lambda s: hang() if s.number == 1 and script["hangs"] else None) as server:
        job = place(GIVEN, server=server, limits__texts_per_request=4, limits__concurrency=1,
                    access__timeout="1s", limits__patience="1h")  # fmt: skip
        first = job.start()
        until(lambda: server.bill.requests == 2)
        first.send(signal.SIGSTOP)
        script["hangs"] = False
        if not stolen:
            assert "another run holds" in job.run(code=75).err
            first.send(signal.SIGCONT)
            assert first.wait().code == 0
            assert server.bill.paid_twice == {}
            return
        (job.out / ".lock").unlink()
        job.run()
        kept = lambda: {
            path: path.read_bytes()
            for path in files(job.out)
            if path.name not in ("progress.json", "history.json")  # of which nothing is promised
        }
        before = kept()
        sent = server.bill.requests
        first.send(signal.SIGCONT)
        ended = first.wait()
        assert ended.code == 75
        assert "taken away from this run" in ended.err
        assert server.bill.requests <= sent + 1, "one may have been on its way"
        assert kept() == before
        assert job.wrong() == []
        assert job.run("verify", "run", "--json").json["problems"] == []


def test_two_that_start_together(place, server):
    """Of runs that start in the same moment one wins, and every text is paid for once."""
    job = place(GIVEN, server=server, limits__texts_per_request=4)
    server.delay = 0.05
    ended = [command.wait() for command in [job.start() for _ in range(4)]]
    codes = sorted(e.code for e in ended)
    assert codes.count(0) >= 1
    assert set(codes) <= {0, 75}
    assert sorted(job.sent()) == sorted(GIVEN)
    assert job.wrong() == []
