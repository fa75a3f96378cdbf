"""Rows 6, 23, 26 and 31 of the catalogue of faults: memory, permissions, slow disks, clocks."""

import os

import pytest
from fakes.runs import digests, texts

GIVEN = texts(80)
HOW = {"limits__texts_per_request": 4, "limits__concurrency": 2}


def test_6_no_memory_ends_with_a_word_and_goes_on(place, server):
    """What was paid for by then is kept; the same command goes on."""
    job = place(GIVEN, server=server, **HOW)
    ended = job.run(code=None, twists=[["no_memory_in_phase", "publishing"]])
    assert ended.code == 1
    assert "memory" in ended.err.lower()
    job.run()
    assert sorted(job.sent()) == sorted(GIVEN)
    assert job.wrong() == []


def test_23_a_place_that_cannot_be_written(place, server):
    """It is said before anything is sent: 2 for a wrong path, 75 for a disk that takes nothing."""
    job = place(GIVEN, server=server, **HOW, output__path="/proc/here/run")
    ended = job.run(code=2)
    assert "/proc/here" in ended.err
    assert "hint:" in ended.err
    assert server.bill.requests == 0
    if os.geteuid() == 0:
        return  # root may write anywhere
    job = place(GIVEN, name="closed", server=server, **HOW)
    job.out.mkdir(mode=0o500)
    assert job.run(code=None).code in (2, 75)
    assert server.bill.requests == 0


def test_26_a_slow_disk_does_not_hold_the_sender(place, server):
    """Answers do not wait for fsync: one sync is for many of them, however long it takes."""
    job = place(GIVEN, server=server, **HOW)
    told = job.folder / "syncs"
    job.run(twists=[["slow_sync", 0.5, str(told)]])
    assert server.bill.requests == 20
    assert 1 <= int(told.read_text()) < 10, "each answer waited for a sync of its own"
    assert job.wrong() == []


@pytest.mark.parametrize("step", [-3600, 366 * 86400])
def test_31_a_clock_that_steps_under_way_changes_nothing(place, server, step):
    """Pacing and time-outs count with a clock that only goes on; the bytes are the same."""
    job = place(GIVEN, server=server, **HOW, limits__requests_per_minute=60_000)
    job.run(twists=[["clock_steps", step]])
    other = place(GIVEN, name="other", server=server, **HOW)
    other.run()
    assert digests(job.out) == digests(other.out)
    assert job.wrong() == []
