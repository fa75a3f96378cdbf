"""A disk that cannot take what is about to be bought: nothing is bought for it."""

import os
import subprocess

import pytest
from fakes import running
from fakes.places import Place
from fakes.runs import texts, until

GIVEN = texts(120)
HOW = {"limits__texts_per_request": 4, "limits__concurrency": 2}
PLENTY = 1 << 40


def check_stopped(ended):
    assert "has room for" in ended.err
    assert "hint: make room" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("free", [0, 1 << 20, (64 << 20) - 1])
def test_a_run_that_has_no_room_does_not_begin(place, server, free):
    """Nothing is sent, 75; with room, the same command goes on."""
    job = place(GIVEN, server=server, **HOW)
    told = job.folder / "free"
    told.write_text(str(free))
    check_stopped(job.run(code=75, twists=[["disk_free", str(told)]]))
    assert server.bill.requests == 0
    told.write_text(str(PLENTY))
    job.run(twists=[["disk_free", str(told)]])
    assert job.wrong() == []


def test_room_for_a_reserve_alone_is_not_enough(place, server):
    """What the vectors take counts as well, from the first answer on if not before."""
    job = place(GIVEN, server=server, model__dimensions=32, **HOW)
    told = job.folder / "free"
    told.write_text(str((64 << 20) + 120 * 4 * 32))  # the parts would not fit
    check_stopped(job.run(code=75, twists=[["disk_free", str(told)]]))
    assert server.bill.requests == 0


def test_a_disk_that_fills_while_texts_are_bought_stops_the_run(place):
    """What is in flight lands and is kept; nothing more is bought, and nothing twice."""
    with running(delay=0.05) as server:
        job = place(GIVEN, server=server, **HOW)
        told = job.folder / "free"
        told.write_text(str(PLENTY))
        command = job.start(twists=[["disk_free", str(told)]])
        until(lambda: len(server.bill.answers) >= 4)
        (job.folder / "less").write_text("1000")
        (job.folder / "less").rename(told)  # at once: the run looks at it all the time
        check_stopped(ended := command.wait())
        assert ended.code == 75
        assert len(job.sent()) < len(GIVEN)
        job.run()
        assert job.wrong() == []
        assert sorted(job.sent()) == sorted(GIVEN)


@pytest.mark.slow
def test_a_real_small_disk(commands, tmp_path):
    """A file system of 3 MB: the run stops with 75 at any size of the corpus, and goes on later."""
    if os.geteuid() != 0:
        pytest.skip("NOT PROVEN: a real small disk, as only root can mount one")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT PROVEN: a real small disk, as this container may not mount one")
    try:
        with running(dimensions=512) as server:
            job = Place(commands, tmp_path / "place", texts(1500), server=server,
                        output__path=str(disk / "run"), limits__texts_per_request=16)  # fmt: skip
            job.out = disk / "run"
            ended = job.run(code=75)
            assert "hint: make room" in ended.err
            assert server.bill.answered <= 16 * 16 * 4, "it stopped as soon as it knew"
            subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
            job.run()
            assert job.wrong() == []
            assert server.bill.paid_twice == {}
    finally:
        subprocess.run(["umount", str(disk)], check=True)
