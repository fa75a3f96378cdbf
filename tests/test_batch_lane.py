"""The batch lane: the bytes of an online run at half the price, and nothing handed in twice."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from fakes import running, runs, vector
from fakes.batches import BatchDesk
from fakes.runs import digests, texts
from test_canaries import other_model

from batchembed.embed import canaries
from batchembed.providers import known

GIVEN = texts(500, seed=11)
FORMS = ("openai", "voyage", "mistral")
EVERY = pytest.mark.parametrize("desk", FORMS, indirect=True)


def lane_of(form):
    """The settings of a job that goes through a batch lane."""
    told = {"access__lane": "batch", "access__poll_every": "10ms"}
    return told | {"model__provider": form}


@pytest.fixture
def desk(request):
    """A batch lane that is quick; OpenAI's unless a test is for all."""
    return BatchDesk(form=getattr(request, "param", "openai"))


@pytest.fixture
def lane(desk):
    """The settings of a job that goes through it."""
    return lane_of(desk.form)


@pytest.fixture
def server(desk):
    """A stand-in with a batch lane."""
    with running(batches=desk) as server:
        yield server


def online(place, server, given=GIVEN, **more):
    """The output of an online run of the same texts."""
    form = server.batches.form
    job = place(given, server=server, name="online", model__provider=form, **more)
    job.run(code=None)
    return digests(job.out)


def stays(run):
    """What is left of submissions in a run directory."""
    return list((run / "checkpoint" / "batches").glob("*"))


@EVERY
def test_a_batch_gives_the_bytes_of_an_online_run(place, server, desk, lane):
    """In shuffled order, each text paid for once, at the price of the lane."""
    job = place([*GIVEN, *GIVEN[:50], None], server=server, **lane, price__per_million_tokens=10.0)
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


@EVERY
def test_texts_that_differ_little_and_share_a_vector_are_asked_again_alone(
    place, server, desk, lane
):
    """In a batch as online: a vector that is another text's is kept for neither, unproven."""
    given = ["Hello there", "hello there", *GIVEN[:20]]
    real = server._right

    def mixed_up(asked, total):
        told = real(asked, total)
        if {*given[:2]} <= {*asked.texts}:
            first, second = (asked.texts.index(text) for text in given[:2])
            rows = list(told.vectors)
            rows[second] = rows[first]
            told = replace(told, vectors=rows)
        return told

    server._right = mixed_up
    job = place(given, server=server, **lane, limits__texts_per_request=30)
    job.run()
    assert job.wrong() == []


@EVERY
def test_a_second_run_hands_nothing_in(place, server, desk, lane):
    """It is complete."""
    job = place(GIVEN, server=server, **lane)
    job.run()
    calls = len(desk.calls)
    job.run()
    assert len(desk.calls) == calls


@EVERY
def test_what_expired_is_sent_online(place, server, desk, lane):
    """What was answered in time is kept and billed once; the rest goes online, and is told."""
    late = set(GIVEN[250:260])
    desk.expires = lambda text: text in late
    job = place(GIVEN, server=server, **lane)
    ended = job.run()
    assert "have no answer from the batch lane; they are sent online" in ended.err
    assert server.bill.paid_twice == {}
    assert job.wrong() == []
    assert digests(job.out) == online(place, server)


@pytest.mark.parametrize("desk", ["voyage"], indirect=True)
def test_a_long_text_does_not_cost_its_neighbours_the_price_of_the_lane(place, server, desk, lane):
    """It has a line of its own, by the tokens that the model is known to read."""
    too_long = "salt " * 40_000
    desk.expires = lambda text: text == too_long
    given = [*GIVEN[:30], too_long, *GIVEN[30:60]]
    more = {"model__name": "voyage-4", "access__leftovers": "stop"}
    job = place(given, server=server, **lane, **more)
    ended = job.run(code=4)
    assert "1 texts have no answer" in ended.err
    assert set(server.bill.texts) == set(GIVEN[:60])


def test_what_was_left_over_can_end_the_run(place, server, desk, lane):
    """Where the job says so: nothing is lost, and the hint says how to go on."""
    desk.expires = lambda text: text == GIVEN[3]
    job = place(GIVEN, server=server, **lane, access__leftovers="stop")
    ended = job.run(code=4)
    assert "64 texts have no answer" in ended.err
    paid = server.bill.answered
    job.set()
    job.run()
    assert server.bill.paid_twice == {}
    assert server.bill.answered == paid + 64


@EVERY
def test_a_text_at_fault_costs_its_own_row(place, server, lane):
    """Its line is refused in the batch; online it is found by halving."""
    given = [*GIVEN[:200], "a POISON text", *GIVEN[200:]]
    job = place(given, server=server, **lane)
    job.run(code=3)
    assert job.wrong(unembedded=lambda text: "POISON" in text) == []
    assert {t for t in server.bill.paid_twice if t in set(GIVEN)} == set()


@EVERY
def test_a_batch_that_is_not_taken_ends_the_run(place, server, desk, lane):
    """It was not billed; nothing is sent online unasked, and the same command tries again."""
    desk.fail = ["billing_hard_limit_reached"]
    job = place(GIVEN, server=server, **lane)
    ended = job.run(code=4)
    assert "billing_hard_limit_reached" in ended.err
    assert server.bill.answered == 0
    job.run()
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


@EVERY
def test_a_submission_whose_answer_is_lost_is_found_again(place, server, desk, lane):
    """It is looked up by its identity before anything is handed in again."""
    desk.lose = 1
    job = place(GIVEN, server=server, **lane)
    job.run()
    assert len(desk.identities) == len(set(desk.identities)) == 1
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


@EVERY
def test_many_files_are_handed_in_and_all_land(place, server, desk, lane):
    """Each is within the limit of inputs."""
    job = place(GIVEN, server=server, **lane)
    job.run("run", job.job, twists=[["few_inputs", 200]])
    assert len(desk.batches) == 3
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


@EVERY
def test_more_batches_than_may_be_under_way_are_waited_for(place, server, desk, lane):
    """Told 429, none is tried again in the same turn; each is handed in when there is room."""
    desk.room, desk.looks = 1, 2
    job = place(GIVEN, server=server, **lane)
    job.run("run", job.job, twists=[["few_inputs", 200]])
    assert len(desk.batches) == 3
    uploads = desk.calls.count("POST files")
    assert uploads <= 3 + 3 * 7, "one try a turn, not one for each that waits"
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_a_role_is_told_beside_the_file(place):
    """Voyage: what the lines share stands once; texts of another role are another file."""
    desk = BatchDesk(form="voyage")
    with running(batches=desk) as server:
        for role in ("query", "document"):
            told = {"model__representation": role, "model__dimensions": 32}
            job = place(GIVEN, server=server, name=role, **lane_of("voyage"), **told)
            job.run()
            assert job.wrong(role=role) == []
        roles = [("query", "document")[n % 2] for n in range(len(GIVEN))]
        job = place(GIVEN, server=server, **lane_of("voyage"))
        table = job.table.append_column("role", pa.array(roles))
        runs.write(job.corpus, table)
        job.set(**lane_of("voyage"), model__representation={"column": "role"})
        count = len(desk.batches)
        job.run()
        assert len(desk.batches) == count + 2
        right = [vector(t, role=r).tolist() for t, r in zip(GIVEN, roles, strict=True)]
        assert runs.output(job.out)["embedding"].to_pylist() == right


def test_a_full_queue_is_waited_for(place, server, desk, lane):
    """What was not taken for want of room is handed in again when others have landed."""
    desk.fail = ["token_limit_exceeded"]
    job = place(GIVEN, server=server, **lane)
    job.run("run", job.job, twists=[["few_inputs", 256]])
    assert len(desk.identities) == 2
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_a_deadline_ends_the_waiting_and_the_same_command_goes_on(place, server, desk, lane):
    """What was handed in stays with the provider."""
    desk.looks = 40
    job = place(GIVEN, server=server, **lane, limits__deadline="100ms")
    job.run(code=75)
    assert stays(job.out)
    job.set(**lane)
    job.run()
    assert len(desk.batches) == 1
    assert server.bill.paid_twice == {}


def test_another_lane_takes_up_first_what_was_handed_in(place, server, desk, lane):
    """Else both lanes would be paid for the same texts."""
    desk.looks = 40
    job = place(GIVEN, server=server, **lane, limits__deadline="100ms")
    job.run(code=75)
    job.set(access__poll_every="10ms")
    told = job.run("plan", job.job, "--probe", "3", "--json").json
    assert told["probe"] is None
    job.run()
    assert server.bill.paid_twice == {}
    assert job.wrong() == []


def test_a_bound_that_a_batch_could_pass_is_refused_at_once(place, server, desk, lane):
    """It could not be stopped any more."""
    job = place(GIVEN, server=server, **lane, price__per_million_tokens=10.0, limits__max_cost=0.2)
    ended = job.run(code=4)
    assert "--set limits.max_cost=" in ended.err
    assert desk.calls == []
    assert stays(job.out) == []
    job.run("run", job.job, "--set", ended.err.partition("--set ")[2].partition(",")[0])
    assert job.wrong() == []


def test_a_provider_without_the_lane_is_refused(place):
    """Before anything is read, and those that have one are told; so `providers` tells of them."""
    job = place(GIVEN, access__lane="batch")
    assert "`local` has no batch lane; these have: openai, voyage, mistral" in job.run(code=2).err
    assert {p.name for p in known() if p.lane} == set(FORMS) == {p.name for p in known() if p.jobs}


@EVERY
def test_the_plan_says_what_the_lane_is(place, server, desk, lane):
    """Its price and how long it may take; nothing is handed in."""
    told = place(GIVEN, server=server, **lane)
    notes = told.run("plan", told.job, "--json").json["notes"]
    assert any(note.startswith("handed in as batches: ") for note in notes)
    assert desk.calls == []


WATCHED = {"limits__canaries": "always", "limits__on_model_change": "stop"}


@EVERY
def test_canaries_are_a_line_of_each_file(place, server, desk, lane):
    """They are billed, are no rows, and give the baseline that online runs compare with."""
    job = place(GIVEN, server=server, **lane, **WATCHED)
    told = job.run("run", job.job, "--json", twists=[["few_inputs", 200]]).json
    assert {server.bill.texts[text] for text in canaries.TEXTS} == {3}
    assert told["tokens"] == server.bill.tokens
    assert job.wrong() == []
    assert (job.out / "checkpoint" / "canaries.json").exists()
    assert digests(job.out) == online(place, server)


def test_a_model_whose_vectors_moved_is_found_before_a_row_is_kept(place, server, desk, lane):
    """Answers stay with the provider; with leave they land, and are not handed in again."""
    job = place(GIVEN[:100], server=server, **lane, **WATCHED)
    job.run()
    job.fill(GIVEN)
    real, right = server._right, server.bill.answered
    server._right = lambda asked, total: other_model(real(asked, total))
    ended = job.run(code=4)
    assert "the provider's model is another by now" in ended.err
    assert stays(job.out)
    paid = server.bill.answered
    assert paid == right + 400 + len(canaries.TEXTS)
    assert job.run(code=4).err == ended.err
    ended = job.run("run", job.job, "--set", "limits.on_model_change=go_on")
    assert "warning: the provider's model is another" in ended.err
    assert server.bill.answered == paid
    assert len(desk.identities) == 2
    assert stays(job.out) == []


@EVERY
def test_another_version_in_a_batch_is_not_kept(place, server, desk, lane):
    """Without canaries the name is looked at, as online; with leave both stand in the manifest."""
    job = place(GIVEN[:100], server=server, **lane)
    job.run()
    job.fill(GIVEN)
    server.model_version = "fake-2"
    ended = job.run(code=4)
    assert "`fake-2`" in ended.err
    assert "`fake-1`" in ended.err
    paid = server.bill.answered
    job.run("run", job.job, "--set", "limits.on_model_change=go_on")
    assert runs.manifest(job.out)["model_versions"] == ["fake-1", "fake-2"]
    assert server.bill.answered == paid
    assert job.wrong() == []


def steps_of(place, server):
    """How many steps on the disk a run has."""
    job = place(GIVEN, server=server, name="counted", **lane_of(server.batches.form))
    told = job.folder / "steps"
    job.run("run", job.job, twists=[["count_steps", str(job.out), str(told)]])
    return int(told.read_text())


SOME = [(form, n) for form in FORMS[:1] for n in (0.2, 0.35, 0.5, 0.6, 0.7, 0.8)]
OTHERS = [(form, n) for form in FORMS[1:] for n in (0.4, 0.65)]
MANY = [pytest.param(form, n, marks=pytest.mark.slow) for form in FORMS for n in range(40)]


@pytest.mark.parametrize(("form", "share"), [*SOME, *OTHERS, *MANY])
def test_killed_at_any_step_nothing_is_handed_in_or_paid_twice(place, form, share):
    """`kill -9` before a change of the disk; the same command then gives the same bytes."""
    desk, lane = BatchDesk(form=form), lane_of(form)
    with running(batches=desk) as server:
        whole = steps_of(place, server)
        before = dict(server.bill.texts)
        number = share if isinstance(share, int) else int(share * whole)
        if not 1 <= number <= whole:
            number = number * whole // 40 + 1
        job = place(GIVEN, server=server, **lane)
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


@pytest.mark.parametrize("form", FORMS)
def test_a_lane_that_never_looks_is_seen(place, form):
    """The control: without the look, a lost answer is paid for twice."""
    desk, lane = BatchDesk(lose=1, form=form), lane_of(form)
    with running(batches=desk) as server:
        job = place(GIVEN, server=server, **lane)
        job.run("run", job.job, twists=[["blind_lane"]])
        assert len(desk.identities) == 2
        assert server.bill.paid_twice != {}
