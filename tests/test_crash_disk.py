"""A disk that fails or loses what was not synced, at any step: nothing is lost but the last second.

The oracle is the stand-in's bill, and the SHA-256 of a run that nothing disturbed.
"""

import ctypes
import errno
import fcntl
import os
import random
import struct
import subprocess

import pyarrow as pa
import pytest
from fakes import power, running
from fakes.runs import digests, paid_texts, until
from test_crash import SEED, Case, Killed, unbroken

CODES = {errno.EIO: "EIO", errno.ENOSPC: "ENOSPC", errno.EMFILE: "EMFILE"}
HOWS = ("dropped", "named", "torn")
SHUTDOWN, NO_LOG = 0x8004587D, 2


def small(name="disk"):
    """A job of fifteen requests, two at a time."""
    case = Case(name)
    case.kind, case.similarity, case.suffix = "openai/base64", {"top_k": 2}, ".parquet"
    case.texts_per_request, case.concurrency, case.given = 4, 2, case.given[:60]
    return case


@pytest.fixture(scope="module")
def whole(commands, tmp_path_factory):
    """The small job run through: its server, its digests, and how many steps it takes."""
    case = small()
    with running() as server:
        right, _, steps = unbroken(commands, case, server, tmp_path_factory.mktemp("whole"))
        yield case, server, right, steps


def settled(job, right):
    """Run to the end; check the bytes."""
    job.finish()
    assert digests(job.run) == right


# -- the N-th step fails ---------------------------------------------------------------------------


def fail(commands, whole, folder, at, *twists):
    """Let one step fail, once or for ever, as `at` (step, code, forever) says; then go on."""
    case, server, right, _ = whole
    job = Killed(commands, case, server, folder)
    before = len(job.bill())
    ended = job.start(*twists, ["fail_at_step", str(job.run), *at]).wait()
    assert ended.code in (0, 1, 2, 3, 75), ended
    assert "Traceback" not in ended.err, ended
    if ended.code not in (0, 3):
        assert "hint:" in ended.err, ended
    if ended.code == 2:
        assert len(job.bill()) == before, "2 means that nothing was sent"
    lost = job.check_after_kill(before)
    settled(job, right)
    return ended.code, lost


def fail_at(commands, whole, folder, points, *twists):
    """Let steps fail; return what is to be told, and how often answers were lost."""
    failed, lost = [], 0
    for number, at in enumerate(points):
        try:
            lost += fail(commands, whole, folder / str(number), at, *twists)[1]
        except AssertionError as error:
            failed.append((at, str(error)[:400]))
    print(f"{len(points)} I/O faults, {len(failed)} not mended, {lost} answers lost, 0 paid twice")
    assert failed == []


def test_a_step_that_fails_costs_nothing(commands, whole, tmp_path):
    """Eight of them, drawn by chance: once or for ever, with any of three errors."""
    rng = random.Random(SEED)
    print("seed", SEED)
    points = [
        (rng.randint(1, whole[3]), rng.choice(list(CODES)), rng.random() < 0.5) for _ in range(8)
    ]
    fail_at(commands, whole, tmp_path, points)


@pytest.mark.slow
@pytest.mark.parametrize("code", CODES, ids=CODES.values())
@pytest.mark.parametrize("forever", [False, True], ids=["once", "for ever"])
def test_any_step_may_fail(commands, whole, tmp_path, code, forever):
    """From the first to the last with EIO; every sixth with the others."""
    stride = 1 if code == errno.EIO else 6
    points = [(n, code, forever) for n in range(1, whole[3] + 1, stride)]
    fail_at(commands, whole, tmp_path, points)


def test_errors_that_are_not_heard_are_seen(commands, whole, tmp_path):
    """Planted: what the disk does not take counts as written."""
    points = [(number, errno.EIO, True) for number in range(20, 60, 4)]
    with pytest.raises(AssertionError, match="more answers are lost"):
        fail_at(commands, whole, tmp_path, points, ["deaf_to_errors"])


# -- the power goes --------------------------------------------------------------------------------


def lose_power(commands, whole, folder, at, *twists):
    """Cut the power at a step, then all must come right; return how many answers were lost."""
    number, how = at
    case, server, right, _ = whole
    rng = random.Random(f"{SEED}/{at}")
    job = Killed(commands, case, server, folder)
    before, shadow = len(job.bill()), folder / "shadow"
    twists = [["power", str(job.run), str(shadow)], ["sync_often", 0.02], *twists]
    ended = job.start(*twists, ["die_at_step", str(job.run), number, False]).wait()
    assert ended.code in (-9, 3), ended
    lines = job.bill()[before:]
    written = paid_texts(job.run, case.distinct) if job.run.exists() else set()
    power.cut(job.run, shadow, how, rng)
    for stray in job.temporary.iterdir():
        stray.unlink()
    job.kept = paid_texts(job.run, case.distinct) if job.run.exists() else set()
    assert job.kept <= written
    settled(job, right)
    return len([line for line in lines if not job.kept.issuperset(line)])


def lose_power_at(commands, whole, folder, points, *twists):
    failed, lost = [], 0
    for number, at in enumerate(points):
        try:
            lost += lose_power(commands, whole, folder / str(number), at, *twists)
        except (AssertionError, pa.ArrowInvalid) as error:
            failed.append((at, str(error)[:400]))
    print(f"{len(points)} power cuts, {len(failed)} not mended, {lost} answers to ask again")
    assert failed == []


def test_a_power_cut_costs_what_was_not_synced(commands, whole, tmp_path):
    """Six of them, drawn by chance: with names dropped, with names ahead of bytes, torn."""
    rng = random.Random(SEED)
    print("seed", SEED)
    points = [(rng.randint(1, whole[3]), how) for how in HOWS for _ in range(2)]
    lose_power_at(commands, whole, tmp_path, points)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS)
def test_the_power_may_go_at_any_step(commands, whole, tmp_path, how):
    """From the first to the last, each in one of the three ways."""
    points = range(1 + HOWS.index(how), whole[3] + 1, len(HOWS))
    lose_power_at(commands, whole, tmp_path, [(n, how) for n in points])


def test_what_is_older_than_the_last_sync_survives(commands, tmp_path):
    """With a sync each 20 ms, the first of six answers, a second old or nearly, is not lost."""
    with running(delay=0.2) as server:
        job = Killed(commands, small(), server, tmp_path / "slow")
        shadow = tmp_path / "shadow"
        command = job.start(["power", str(job.run), str(shadow)], ["sync_often", 0.02])
        until(lambda: len(server.bill.answers) >= 6)
        assert command.kill().code == -9
        power.cut(job.run, shadow, "dropped", random.Random(1))
        job.kept = paid_texts(job.run, job.case.distinct)
        assert len(job.kept) >= 4, "what was answered long before the cut is there"
        job.finish()


def test_names_before_bytes_are_seen(commands, whole, tmp_path):
    """Planted: a file takes its name before it is synced."""
    points = [(number, "named") for number in range(whole[3] - 1, whole[3] // 2, -8)]
    with pytest.raises(AssertionError):
        lose_power_at(commands, whole, tmp_path, points, ["rename_before_fsync"])


@pytest.fixture
def disk(tmp_path):
    """An ext4 file system on a loop device, and a function that cuts its power."""
    if os.geteuid() != 0:
        pytest.skip("NOT PROVEN: power cuts of a real file system, as only root can mount one")
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(96 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", image], capture_output=True, check=False)
    mount = ["mount", "-o", "loop", str(image), str(folder)]
    if made.returncode or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT PROVEN: power cuts of a real file system, as none can be mounted here")

    def cut(command):
        file = os.open(folder, os.O_RDONLY)
        fcntl.ioctl(file, SHUTDOWN, struct.pack("I", NO_LOG))
        os.close(file)
        command.kill()
        subprocess.run(["umount", "-l", str(folder)], check=True)
        subprocess.run(mount, check=True)

    yield folder, cut
    subprocess.run(["umount", "-l", str(folder)], check=False)
    ctypes.CDLL(None).sync()


@pytest.mark.slow
def test_power_cuts_of_a_real_file_system(commands, whole, disk, tmp_path):
    """ext4, shut down without its log at random moments: no answer older than a second is lost."""
    folder, cut = disk
    rng, lost = random.Random(SEED), 0
    case, server, right, _ = whole
    for number in range(40):
        job = Killed(commands, case, server, folder / str(number))
        job.temporary = tmp_path / f"tmp-{number}"
        job.temporary.mkdir()
        os.sync()  # the corpus and the job are somebody else's
        before, server.delay = len(job.bill()), 0.02
        command = job.start(["sync_often", 0.05])
        command.ends_within(rng.uniform(0, 0.5))
        cut(command)
        server.delay = 0
        job.kept = paid_texts(job.run, case.distinct) if job.run.exists() else set()
        lines = job.bill()[before:]
        lost += len([line for line in lines if not job.kept.issuperset(line)])
        for stray in job.temporary.iterdir():
            stray.unlink()
        settled(job, right)
    print(f"40 power cuts of ext4, {lost} answers of the last moment to ask again")
