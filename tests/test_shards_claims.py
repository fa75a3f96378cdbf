"""What binds the shards of a run: their number, corpus and budget, whoever comes first or dies."""

import fcntl
import multiprocessing
import os
import random
import traceback
from contextlib import closing, nullcontext
from dataclasses import dataclass

import pytest
from fakes import faults, running
from fakes.batches import BatchDesk
from fakes.runs import strays, texts, until

from batchembed import directory, load, preparing
from batchembed.clock import SystemClock
from batchembed.directory import claim_shard, parted
from batchembed.errors import RunHeldError, UsageError
from batchembed.lock import Hold, is_agreed
from batchembed.seal import sealed, unsealed
from batchembed.shard import SHARDS, Shard
from batchembed.store import Store

SEED = random.randrange(10**6)
GIVEN = texts(120)
SMALL = {"limits__texts_per_request": 4, "limits__concurrency": 2}
PRICE = {"price__per_million_tokens": 20.0, "price__currency": "EUR"}
AGREED = "checkpoint/shards/shards.json"


def command(job, number, of, *more):
    """What starts a shard."""
    return ("run", job.job, "--shard", f"{number}/{of}", *more)


def bound(tokens):
    """A bound on cost of so many tokens, at the price of these tests."""
    return ("--set", f"limits.max_cost={20 * tokens / 1e6}")


# -- money that was spent, or may be --------------------------------------------------------------


def test_a_batch_of_a_run_without_shards_holds_shards_off(place):
    """They would hand in the same texts: 2, the mend, nothing sent. That run lands them."""
    desk = BatchDesk()
    desk.looks = 10**6
    with running(batches=desk) as server:
        job = place(GIVEN, server=server, access__lane="batch", access__poll_every="10ms")
        one = job.start()
        until(lambda: len(desk.batches) == 1)
        one.kill()
        for words in (command(job, 0, 2), command(job, 0, 2, "--set", "access.lane=online")):
            ended = job.run(*words, code=2)
            assert "have not landed yet" in ended.err
            assert "without --shard" in ended.err
        assert len(desk.batches) == 1
        assert not (job.out / SHARDS).exists()
        desk.looks = 1
        job.run()
        assert sorted(job.sent()) == sorted(GIVEN)


def test_the_number_stays_while_a_shard_has_handed_in(place):
    """It has kept nothing yet, but its batch will be billed."""
    desk = BatchDesk()
    desk.looks = 10**6
    with running(batches=desk) as server:
        job = place(GIVEN, server=server, access__lane="batch", access__poll_every="10ms")
        one = job.start(*command(job, 0, 2))
        until(lambda: len(desk.batches) == 1)
        one.kill()
        assert "begun with `2` shards" in job.run(*command(job, 0, 3), code=2).err
        desk.looks = 1
        job.run(*command(job, 0, 2))
        assert len(desk.batches) == 1


def test_the_number_stays_once_anything_may_be_billed(place):
    """Requests were in flight when a shard was killed: they count for `max_cost` of these n."""
    with running(script=lambda _: faults.hang()) as server:
        job = place(GIVEN, server=server, **SMALL, **PRICE, limits__max_cost=1.0)
        one = job.start(*command(job, 0, 2))
        until(lambda: server.bill.requests > 0)
        one.kill()
        assert "begun with `2` shards" in job.run(*command(job, 0, 3), code=2).err


def test_a_shard_keeps_to_its_share_though_the_agreement_is_lost(place, server):
    """The file is deleted while it reads the corpus: it knows what it agreed to."""
    job = place(texts(400), server=server, **SMALL, **PRICE)
    lost = ["replace_in_phase", "reading", str(job.out / AGREED), "gone", ""]
    ended = job.run(*command(job, 0, 4, *bound(6000)), code=4, twists=[lost])
    assert "share of `limits.max_cost`, 1/4 of 0.12 EUR" in ended.err
    assert server.bill.tokens <= 1500


def test_without_the_file_the_parts_know_what_was_agreed(place, server):
    """Its number and its budget: each part has a copy."""
    job = place(texts(400), server=server, **SMALL, **PRICE)
    job.run(*command(job, 0, 4, *bound(6000)), code=4)
    (job.out / AGREED).unlink()
    told = job.run("status", "run", "--json").json
    assert told["shards"]["of"] == 4
    assert "begun with `4` shards" in job.run(*command(job, 1, 3), code=2).err
    for number in range(1, 4):
        job.run(*command(job, number, 4, *bound(6000)), code=4)
    assert server.bill.tokens <= 6000
    assert (job.out / AGREED).is_file()


def test_what_an_earlier_version_agreed_on_holds(place, server):
    """Its file says nothing of the corpus, and the parts have no copy of it."""
    job = place(GIVEN, server=server, **SMALL)
    job.run(*command(job, 0, 2))
    told = unsealed((job.out / AGREED).read_bytes())
    del told["corpus"]
    (job.out / AGREED).write_bytes(sealed(told))
    (job.out / SHARDS / "00000/shards.json").unlink()
    assert "begun with `2` shards" in job.run(*command(job, 0, 3), code=2).err
    job.run(*command(job, 1, 2))
    job.run("merge", job.job)
    assert job.wrong() == []
    assert sorted(job.sent()) == sorted(GIVEN)


# -- another corpus --------------------------------------------------------------------------------


def test_another_corpus_in_one_shard_is_refused(place, server):
    """2, what differs, nothing sent; the merge of it too."""
    job = place(GIVEN, server=server, **SMALL)
    other = place(texts(50, seed=2), server=server, name="other")
    job.run(*command(job, 0, 2))
    sent = server.bill.requests
    how = ("--set", f"corpus.path={other.corpus}")
    for words in (command(job, 1, 2, *how), ("merge", job.job, "--force", *how)):
        ended = job.run(*words, code=2)
        assert "another corpus" in ended.err
        assert f"corpus.path: `{job.corpus}` -> `{other.corpus}`" in ended.err
    assert server.bill.requests == sent
    job.run(*command(job, 1, 2))
    job.run("merge", job.job)
    assert job.wrong() == []


def test_a_corpus_that_grows_between_shards_is_no_other(place, server):
    """Files may come and go: what is missing then is seen, and is of the same shards."""
    job = place(GIVEN[:90], server=server, **SMALL)
    job.run(*command(job, 0, 2))
    job.fill(GIVEN)
    job.run(*command(job, 1, 2))
    assert "shard 0 of 2 is not done" in job.run("merge", job.job, code=75).err
    job.run(*command(job, 0, 2))
    job.run("merge", job.job)
    assert job.wrong() == []
    assert sorted(job.sent()) == sorted(GIVEN)


# -- another number --------------------------------------------------------------------------------


def test_all_shards_of_another_number_may_start_at_once(place):
    """A first try that failed binds nobody, however many of the next begin beside each other."""
    script = {"key": False}
    with running(script=lambda _: None if script["key"] else faults.Fault(status=401)) as server:
        job = place(GIVEN, server=server, **SMALL)
        for number in range(3):
            job.run(*command(job, number, 3), code=4)
        script["key"] = True
        ended = [one.wait() for one in [job.start(*command(job, n, 4)) for n in range(4)]]
        assert [one.code for one in ended] == [0] * 4, ended
        job.run("merge", job.job)
        assert job.wrong() == []


@pytest.mark.parametrize("told", ["0/4", "1/4"])
def test_while_a_shard_runs_another_number_is_refused(place, told):
    """Also with the very number whose part is held: it is wrong, and waiting would not help."""
    script = {"hangs": True}
    with running(script=lambda _: faults.hang() if script["hangs"] else None) as server:
        job = place(GIVEN, server=server, **SMALL)
        one = job.start(*command(job, 1, 3))
        until(lambda: server.bill.requests > 0)
        ended = job.run("run", job.job, "--shard", told, code=2)
        assert "begun with `3` shards" in ended.err
        one.kill()
        script["hangs"] = False
        job.run("run", job.job, "--shard", told)


@dataclass
class Racer:
    """A process that claims a shard, tells how that ended, and holds it until it is told to end."""

    shard: Shard
    process: multiprocessing.Process
    pipe: object

    def ended(self):
        """How it ended: `in`, an exit code, or a traceback."""
        assert self.pipe.poll(30), f"{self.shard} says nothing"
        return self.pipe.recv()


def racer(store, shard, job, gate):
    """Start one; it waits at the gate first."""
    ours, theirs = multiprocessing.Pipe()
    given = (store, shard, job, gate, theirs)
    process = multiprocessing.Process(target=_race, args=given, daemon=True)
    process.start()
    theirs.close()
    return Racer(shard, process, ours)


def _race(store, shard, job, gate, pipe):
    identity, corpus = preparing.identity(job, job.spec()), preparing.corpus_of(job)
    gate.wait(30)
    hold = None
    try:
        clock = SystemClock()
        try:
            hold = Hold(store.root, directory.holder(clock, shard), shard)
            claim_shard(store, shard, identity, corpus, clock, hold=hold)
            pipe.send("in")
            pipe.recv()
        except RunHeldError:
            directory.check_number(store, shard)
            raise
    except UsageError as error:
        pipe.send((error.exit_code, error.message))
    except RunHeldError as error:
        pipe.send((error.exit_code, error.message))
    except BaseException:  # noqa: BLE001 - whatever it is, the test is told
        pipe.send(traceback.format_exc())
    finally:
        if hold is not None:
            hold.release(leave_nothing=False)


@pytest.fixture
def a_job(place, server):
    """A job to race for."""
    return load(place(["a text"], server=server).job)


def raced(tmp_path, job, rng, *, rounds):
    """Race claims of several numbers; yield in each round who came in, and how others ended."""
    for number in range(rounds):
        store = Store(tmp_path / f"run-{number}")
        numbers = rng.sample(range(2, 7), 3)
        shards = [Shard(n, of) for of in numbers for n in range(of)]
        shards += rng.sample(shards, 3)
        rng.shuffle(shards)
        gate = multiprocessing.Barrier(len(shards))
        racers = [racer(store, shard, job, gate) for shard in shards]
        try:
            ended = [(one, one.ended()) for one in racers]
            yield store, ended
            for one, how in ended:
                if how == "in":
                    one.pipe.send("end")
                one.process.join(30)
                assert one.process.exitcode == 0
        finally:  # also when what came is wrong: none may outlive the test
            for one in racers:
                one.process.kill()
                one.process.join()


def check_raced(tmp_path, a_job, rounds):
    """All that came in have one number; others were refused for it, or for a shard held twice."""
    rng = random.Random(SEED)
    print("seed", SEED)
    with closing(raced(tmp_path, a_job, rng, rounds=rounds)) as races:
        check_races(races)


def check_races(races):
    """Look at each round."""
    for store, ended in races:
        came = [one.shard for one, how in ended if how == "in"]
        of = {shard.of for shard in came}
        assert len(of) == 1, ended
        assert directory.agreed(store).of in of
        assert len(set(came)) == len(came), "a shard runs twice"
        assert is_agreed(store.path(AGREED))
        for one, how in ended:
            if how == "in":
                continue
            assert how[0] in (2, 75), how
            if how[0] == 2:
                assert one.shard.of not in of, how
            else:  # the part was held by a process that had not agreed, or had, to the same
                assert "another run holds" in how[1], how


@pytest.fixture
def forked():
    """Processes are forks of this one: quick."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("fork", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


FORKS = (
    pytest.mark.usefixtures("forked"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
)


def forks(test):
    """A test that forks."""
    for mark in FORKS:
        test = mark(test)
    return test


@forks
def test_of_racing_numbers_one_is_first(tmp_path, a_job):
    """A dozen processes of three numbers claim at once: those that come in are of one number."""
    check_raced(tmp_path, a_job, 4)


@pytest.mark.slow
@forks
def test_of_racing_numbers_one_is_first_often(tmp_path, a_job):
    """The same in many rounds."""
    check_raced(tmp_path, a_job, 60)


@forks
def test_claims_that_do_not_wait_for_each_other_are_seen(tmp_path, a_job, monkeypatch):
    """Planted: nobody waits for his turn. Shards of two numbers come in sooner or later."""
    monkeypatch.setattr(parted, "turn", lambda _: nullcontext())
    with pytest.raises(AssertionError):
        check_raced(tmp_path, a_job, 30)


# -- who may write -------------------------------------------------------------------------------


def _come_and_go(root, shard, times, gate, pipe):
    gate.wait(30)
    met = []
    for _ in range(times):
        try:
            Hold(root, {"process": os.getpid()}, shard).release(leave_nothing=True)
        except RunHeldError:
            met.append(75)
        except BaseException:  # noqa: BLE001 - whatever it is, the test is told
            met.append(traceback.format_exc())
            break
    pipe.send(met)


def come_and_go(root, *, processes, times):
    """Let processes take the right to write and leave nothing behind, over and over; what they met.

    Every other one is a shard.
    """
    gate, pipes, started = multiprocessing.Barrier(processes), [], []
    for number in range(processes):
        ours, theirs = multiprocessing.Pipe()
        shard = Shard(number, processes) if number % 2 else None
        given = (root, shard, times, gate, theirs)
        one = multiprocessing.Process(target=_come_and_go, args=given, daemon=True)
        one.start()
        pipes.append(ours)
        started.append(one)
    try:
        assert all(pipe.poll(60) for pipe in pipes), "one of them hangs"
        return [how for pipe in pipes for how in pipe.recv()]
    finally:
        for one in started:
            one.kill()
            one.join()


@forks
def test_those_that_come_and_go_meet_none_but_each_other(tmp_path):
    """One makes the folder that another is about to remove: that is no mistake of the command."""
    met = come_and_go(tmp_path / "run", processes=6, times=60)
    assert set(met) <= {75}, next(how for how in met if how != 75)
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").rglob("*.json"))


@pytest.mark.slow
@forks
def test_those_that_come_and_go_often(tmp_path):
    """The same, more often."""
    met = come_and_go(tmp_path / "run", processes=6, times=400)
    assert set(met) <= {75}, next(how for how in met if how != 75)


HOLDER = {"process": 4711}


def test_a_shard_that_was_alone_holds_what_it_held(tmp_path):
    """Its part too, which was deleted meanwhile: others are kept off it, and from the whole."""
    store = Store(tmp_path)
    hold = Hold(tmp_path, HOLDER, Shard(0, 2))
    with hold.alone():
        with pytest.raises(RunHeldError):
            Hold(tmp_path, HOLDER, Shard(1, 2))
        store.delete(SHARDS)
    hold.check()
    for shard in (None, Shard(0, 2)):
        with pytest.raises(RunHeldError, match="process 4711"):
            Hold(tmp_path, HOLDER, shard)
    Hold(tmp_path, HOLDER, Shard(1, 2)).release()
    hold.release(leave_nothing=True)
    assert not tmp_path.exists()


def test_a_shard_that_cannot_be_alone_keeps_what_it_held(tmp_path):
    """The try would cost it the lock: a run of the whole could come while it still writes."""
    first, second = (Hold(tmp_path, HOLDER, Shard(number, 2)) for number in range(2))
    with pytest.raises(RunHeldError, match="other shards"), first.alone():
        raise AssertionError("it is not alone")
    second.release()
    first.check()
    with pytest.raises(RunHeldError):
        Hold(tmp_path, HOLDER)
    first.release()


def test_a_shard_that_another_run_came_before_does_not_go_on(tmp_path, monkeypatch):
    """From alone to shared, a lock is lost for a moment: what was not had again is not held."""
    hold = Hold(tmp_path, HOLDER, Shard(0, 2))
    real = fcntl.flock

    def beaten(file, how):
        if how == fcntl.LOCK_SH | fcntl.LOCK_NB:
            real(file, fcntl.LOCK_UN)
            raise BlockingIOError
        real(file, how)

    with pytest.raises(RunHeldError), hold.alone():
        monkeypatch.setattr(fcntl, "flock", beaten)
    monkeypatch.undo()
    assert not hold.is_ours()
    hold.leave()
    Hold(tmp_path, HOLDER).release()


def test_a_shard_that_finishes_a_publication_goes_on(place, server):
    """What publishes deletes the parts of all shards: its lock was among them, and it was ended."""
    job = place(GIVEN[:90], server=server, **SMALL)
    told = job.folder / "steps"
    trial = place(GIVEN[:90], server=server, name="trial", **SMALL)
    for number in range(2):
        trial.run(*command(trial, number, 2))
        job.run(*command(job, number, 2))
    trial.run("merge", trial.job, twists=[["count_steps", str(trial.out), str(told)]])
    step = int(told.read_text()) - 12
    job.run("merge", job.job, code=-9, twists=[["die_at_step", str(job.out), step, False]])
    assert (job.out / "checkpoint/next/manifest.json").exists()
    job.fill(GIVEN)
    for number in range(2):
        job.run(*command(job, number, 2))
    job.run("merge", job.job)
    assert job.wrong() == []
    assert strays(job.out) == []
