"""Shards beside all else: the batch lane, canary texts, plans, rejects asked again, metrics."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from fakes import faults, running
from fakes.batches import BatchDesk
from fakes.runs import digests, manifest, rejects, strays, texts, until

GIVEN = texts(120)
SMALL = {"limits__texts_per_request": 4, "limits__concurrency": 2}


def command(job, number, of, *more):
    """What starts a shard."""
    return ("run", job.job, "--shard", f"{number}/{of}", *more)


def test_shards_in_the_batch_lane(place):
    """One that was killed while its batch was made holds up the merge, and lands it later."""
    desk = BatchDesk()
    with running(batches=desk) as server:
        right = place(GIVEN, server=server, name="right")
        right.run()
        before = server.bill.texts.copy()
        job = place(GIVEN, server=server, access__lane="batch", access__poll_every="10ms")
        job.run(*command(job, 0, 2))
        desk.looks = 10**6
        one = job.start(*command(job, 1, 2))
        until(lambda: len(desk.batches) == 2)
        one.kill()
        desk.looks = 1
        for words in (("merge", job.job), ("run", job.job), ("plan", job.job, "--probe", "3")):
            ended = job.run(*words, code=75)
            assert "shard 1 is not done: texts in the batch lane" in ended.err
        job.run(*command(job, 1, 2))
        job.run("merge", job.job)
        assert len(desk.batches) == 2
        assert server.bill.texts - before == Counter(GIVEN)
        assert digests(job.out) == digests(right.out)
        assert strays(job.out) == []


def moved(right):
    """What another model answers that calls itself the same."""
    rng = np.random.default_rng(1)
    other = [v + 0.05 * rng.standard_normal(len(v)).astype(np.float32) for v in right.vectors]
    return replace(right, vectors=[v / np.linalg.norm(v) for v in other])


def test_canary_texts_have_one_baseline_for_all_shards(place):
    """A shard that another model answers is stopped by what the first shard saw."""
    script = {"other": False}
    answers = lambda _: faults.edited(moved) if script["other"] else None
    with running(script=answers) as server:
        job = place(GIVEN, server=server, **SMALL, limits__canaries="always")
        job.run(*command(job, 0, 2))
        assert (job.out / "checkpoint/canaries.json").exists()
        script["other"] = True
        ended = job.run(*command(job, 1, 2), code=4)
        assert "the provider's model is another by now" in ended.err
        script["other"] = False
        job.run(*command(job, 1, 2))
        job.run("merge", job.job)
        assert job.wrong() == []


def test_a_plan_knows_what_shards_paid_for(place, server):
    """What is to be sent is what no shard has."""
    job = place(GIVEN, server=server, **SMALL)
    sent = job.run(*command(job, 0, 3), "--json").json["sent"]
    told = job.run("plan", job.job, "--json").json
    assert (told["paid"], told["to_send"]) == (sent, 120 - sent)
    requests = server.bill.requests
    probed = job.run("plan", job.job, "--probe", "3", "--json").json
    assert probed["paid"] == sent + 3
    assert server.bill.requests > requests
    for number in (1, 2):
        job.run(*command(job, number, 3))
    job.run("merge", job.job)
    assert sorted(job.sent()) == sorted(GIVEN)


def test_rejects_are_asked_again_by_their_shard(place):
    """`--retry-rejects`: those of the shard alone, and what passes is a reject no more."""
    script = {"refuses": True}
    faulty = GIVEN[5], GIVEN[77]

    def answers(seen):
        bad = script["refuses"] and any(text in faulty for text in seen.texts)
        return faults.Fault(status=400) if bad else None

    with running(script=answers) as server:
        job = place(GIVEN, server=server, **SMALL, limits__max_rejects=5)
        before = [job.run(*command(job, n, 3), "--json", code=None).json for n in range(3)]
        assert sum(one["rejected"] for one in before) == 2
        script["refuses"] = False
        again = [job.run(*command(job, n, 3, "--retry-rejects"), "--json").json for n in range(3)]
        assert [one["sent"] for one in again] == [one["rejected"] for one in before]
        job.run("merge", job.job)
        assert rejects(job.out) == []
        assert job.wrong() == []
        assert server.bill.paid_twice.keys() <= {"The quick brown fox jumps over the lazy dog."}


def test_each_shard_has_a_file_of_metrics(place, server):
    """Side by side, and told apart by the label `run`."""
    job = place(GIVEN, server=server, **SMALL, metrics__textfile="embed.prom")
    for number in range(2):
        job.run(*command(job, number, 2))
    names = sorted(path.name for path in job.folder.glob("*.prom"))
    assert names == ["embed-00000.prom", "embed-00001.prom"]
    for name in names:
        assert f'run="run/checkpoint/shards/{name[6:11]}"' in (job.folder / name).read_text()
    job.run("merge", job.job)
    assert 'run="run"' in (job.folder / "embed.prom").read_text()


def test_json_lines_and_quiet(place, server):
    """A shard says what a run does: nothing when it is to be quiet, JSON where that is asked."""
    job = place(GIVEN, server=server, **SMALL)
    ended = job.run(*command(job, 0, 2, "--quiet"))
    assert (ended.out, ended.err) == ("", "")
    told = job.run(*command(job, 1, 2, "--json")).json
    assert told["state"] == "shard done"
    assert told["sent"] == told["distinct"]
    assert told["path"] == "run"
    assert "batchembed merge" in job.run(*command(job, 1, 2)).out


def test_the_report_of_a_merged_run_has_what_the_shards_did(place, server):
    """Executions that went on at once are one, and the figures are of all."""
    job = place(GIVEN, server=server, **SMALL, limits__requests_per_minute=60_000)
    ended = [one.wait() for one in [job.start(*command(job, n, 4)) for n in range(4)]]
    assert {one.code for one in ended} == {0}
    job.run("merge", job.job)
    history = json.loads((job.out / "checkpoint/history.json").read_text())
    assert sum(one["to_send"] for one in history["executions"]) == 120
    pace = manifest(job.out)["pace"]
    assert pace["attempts"] == server.bill.requests
    assert pace["limits"]["requests_per_minute"]["limit"] == pytest.approx(60_000)
    job.run("report", "run")
    assert (job.out / "report.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True], ids=["before", "torn"])
def test_a_shard_killed_at_every_step(place, server, torn):
    """Before each change of the disk, from the first lock on: run again, the same bytes."""
    given, told = GIVEN[:40], None
    whole = place(given, server=server, name="whole", **SMALL)
    whole.run()
    right = digests(whole.out)
    trial = place(given, server=server, name="trial", **SMALL)
    told = trial.folder / "steps"
    trial.run(*command(trial, 0, 2), twists=[["count_steps", str(trial.out), str(told)]])
    steps = int(told.read_text())
    for step in range(1, steps + 1):
        job = place(given, server=server, name=f"at-{step}", **SMALL)
        died = [["die_at_step", str(job.out), step, torn]]
        before = Counter(server.bill.texts)
        assert job.run(*command(job, 0, 2), code=None, twists=died).code in (-9, 0)
        job.run(*command(job, 1, 2))
        job.run(*command(job, 0, 2))
        job.run("merge", job.job)
        until(lambda: server.bill.now_open == 0)
        times = Counter(server.bill.texts) - before
        again = sum(times.values()) - len(given)
        assert again <= 8, f"step {step}: two requests of four texts may have been in flight"
        assert digests(job.out) == right, step
        assert strays(job.out) == [], step
    print(f"{steps} steps")
