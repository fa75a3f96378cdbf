"""The batch lane: the bytes of an online run at half the price, and nothing handed in twice."""

import json

import pytest
from fakes import running
from fakes.batches import BatchDesk
from fakes.runs import digests, texts

GIVEN = texts(500, seed=11)
LANE = {"access__lane": "batch", "access__poll_every": "10ms"}


@pytest.fixture
def desk():
    """A batch lane that is quick."""
    return BatchDesk()


@pytest.fixture
def server(desk):
    """A stand-in with a batch lane."""
    with running(batches=desk) as server:
        yield server


def online(place, server, given=GIVEN, **more):
    """The output of an online run of the same texts."""
    job = place(given, server=server, name="online", **more)
    job.run(code=None)
    return digests(job.out)


def stays(run):
    """What is left of submissions in a run directory."""
    return list((run / "checkpoint" / "batches").glob("*"))


def test_a_batch_gives_the_bytes_of_an_online_run(place, server, desk):
    """In shuffled order, each text paid for once, at the price of the lane."""
    job = place([*GIVEN, *GIVEN[:50], None], server=server, **LANE, price__per_million_tokens=10.0)
    told = job.run("run", job.job, "--json", code=3).json
    assert len(desk.batches) == 1
    assert server.bill.paid_twice == {}
    assert set(server.bill.texts) == set(GIVEN)
    assert told["cost"] == pytest.approx(server.bill.tokens * 1e-5)
    assert told["tokens"] == server.bill.tokens
    assert job.wrong() == []
    assert stays(job.out) == []
    assert "POST /v1/embeddings" not in desk.calls
    assert digests(job.out) == online(place, server, [*GIVEN, *GIVEN[:50], None])


def test_a_second_run_hands_nothing_in(place, server, desk):
    """It is complete."""
    job = place(GIVEN, server=server, **LANE)
    job.run()
    calls = len(desk.calls)
    job.run()
    assert len(desk.calls) == calls


def test_what_expired_is_sent_online(place, server, desk):
    """What was answered in time is kept and billed once; the rest goes online, and is told."""
    late = set(GIVEN[250:260])
    desk.expires = lambda text: text in late
    job = place(GIVEN, server=server, **LANE)
    ended = job.run()
    assert "have no answer from the batch lane; they are sent online" in ended.err
    assert server.bill.paid_twice == {}
    assert job.wrong() == []
    assert digests(job.out) == online(place, server)


def test_what_was_left_over_can_end_the_run(place, server, desk):
    """Where the job says so: nothing is lost, and the hint says how to go on."""
    desk.expires = lambda text: text == GIVEN[3]
    job = place(GIVEN, server=server, **LANE, access__leftovers="stop")
    ended = job.run(code=4)
    assert "64 texts have no answer" in ended.err
    paid = server.bill.answered
    job.set()
    job.run()
    assert server.bill.paid_twice == {}
    assert server.bill.answered == paid + 64


def test_a_text_at_fault_costs_its_own_row(place, server):
    """Its line is refused in the batch; online it is found by halving."""
    given = [*GIVEN[:200], "a POISON text", *GIVEN[200:]]
    job = place(given, server=server, **LANE)
    job.run(code=3)
    assert job.wrong(unembedded=lambda text: "POISON" in text) == []
    assert {t for t in server.bill.paid_twice if t in set(GIVEN)} == set()


def test_a_batch_that_is_not_taken_ends_the_run(place, server, desk):
    """It was not billed; nothing is sent online unasked, and the same command tries again."""
    desk.fail = ["billing_hard_limit_reached"]
    job = place(GIVEN, server=server, **LANE)
    ended = job.run(code=4)
    assert "billing_hard_limit_reached" in ended.err
    assert server.bill.answered == 0
    job.run()
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_a_submission_whose_answer_is_lost_is_found_again(place, server, desk):
    """It is looked up by its identity before anything is handed in again."""
    desk.lose = 1
    job = place(GIVEN, server=server, **LANE)
    job.run()
    assert len(desk.identities) == len(set(desk.identities)) == 1
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_many_files_are_handed_in_and_all_land(place, server, desk, monkeypatch):
    """Each is within the limit of inputs."""
    job = place(GIVEN, server=server, **LANE)
    job.run("run", job.job, twists=[["few_inputs", 128]])
    assert len(desk.batches) == 4
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_a_full_queue_is_waited_for(place, server, desk):
    """What was not taken for want of room is handed in again when others have landed."""
    desk.fail = ["token_limit_exceeded"]
    job = place(GIVEN, server=server, **LANE)
    job.run("run", job.job, twists=[["few_inputs", 256]])
    assert len(desk.identities) == 2
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_a_deadline_ends_the_waiting_and_the_same_command_goes_on(place, server, desk):
    """What was handed in stays with the provider."""
    desk.looks = 40
    job = place(GIVEN, server=server, **LANE, limits__deadline="100ms")
    job.run(code=75)
    assert stays(job.out)
    job.set(**LANE)
    job.run()
    assert len(desk.batches) == 1
    assert server.bill.paid_twice == {}


def test_another_lane_takes_up_first_what_was_handed_in(place, server, desk):
    """Else both lanes would be paid for the same texts."""
    desk.looks = 40
    job = place(GIVEN, server=server, **LANE, limits__deadline="100ms")
    job.run(code=75)
    job.set(access__poll_every="10ms")
    told = job.run("plan", job.job, "--probe", "3", "--json").json
    assert told["probe"] is None
    job.run()
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_a_bound_that_a_batch_could_pass_is_refused_before_it_is_handed_in(place, server, desk):
    """It could not be stopped any more."""
    job = place(GIVEN, server=server, **LANE, price__per_million_tokens=10.0, limits__max_cost=0.2)
    ended = job.run(code=4)
    assert "--set limits.max_cost=" in ended.err
    assert desk.calls == []
    assert stays(job.out) == []
    job.run("run", job.job, "--set", ended.err.partition("--set ")[2].partition(",")[0])
    assert job.wrong() == []


def test_a_provider_without_the_lane_is_refused(place):
    """Before anything is read."""
    job = place(GIVEN, access__lane="batch")
    assert "`local` has no batch lane" in job.run(code=2).err


def steps_of(place, server):
    """How many steps on the disk a run has."""
    job = place(GIVEN, server=server, name="counted", **LANE)
    told = job.folder / "steps"
    job.run("run", job.job, twists=[["count_steps", str(job.out), str(told)]])
    return int(told.read_text())


MANY = [pytest.param(n, marks=pytest.mark.slow) for n in range(40)]


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.6, 0.7, 0.8, *MANY])
def test_killed_at_any_step_nothing_is_handed_in_or_paid_twice(place, share):
    """`kill -9` before a change of the disk; the same command then gives the same bytes."""
    desk = BatchDesk()
    with running(batches=desk) as server:
        whole = steps_of(place, server)
        before = dict(server.bill.texts)
        number = share if isinstance(share, int) else int(share * whole)
        if not 1 <= number <= whole:
            number = number * whole // 40 + 1
        job = place(GIVEN, server=server, **LANE)
        ended = job.run("run", job.job, code=None, twists=[["die_at_step", str(job.out), number]])
        assert ended.code in (-9, 0)
        job.run()
        paid = {t: n - before.get(t, 0) for t, n in server.bill.texts.items()}
        assert set(paid.values()) <= {1}, number
        assert len(desk.identities) == 2
        assert job.wrong() == []
        assert stays(job.out) == []
        bill = json.loads((job.out / "manifest.json").read_bytes())["bill"]
        assert bill["tokens"] == server.bill.tokens // 2


def test_a_lane_that_never_looks_is_seen(place):
    """The control: without the look, a lost answer is paid for twice."""
    desk = BatchDesk(lose=1)
    with running(batches=desk) as server:
        job = place(GIVEN, server=server, **LANE)
        job.run("run", job.job, twists=[["blind_lane"]])
        assert len(desk.identities) == 2
        assert server.bill.paid_twice != {}
