"""What a merge publishes, tells and refuses, and what is left when something is cut off."""

import json
from dataclasses import replace

import pytest
from fakes import faults, running
from fakes.runs import HARMLESS, manifest, rejects, strays, texts

from batchembed.gathering import together

GIVEN = texts(120)
SMALL = {"limits__texts_per_request": 4, "limits__concurrency": 2}


def command(job, number, of, *more):
    """What starts a shard."""
    return ("run", job.job, "--shard", f"{number}/{of}", *more)


def sharded(job, of, *more):
    """Run all shards."""
    return [job.run(*command(job, number, of, "--json", *more), code=None) for number in range(of)]


# -- what is published -----------------------------------------------------------------------------


@pytest.mark.parametrize("last", ["merge", "run"])
def test_rejects_that_shards_asked_again_are_published(place, last):
    """Of a run that was complete: it has more by now, so it is not done."""
    script = {"refuses": True}
    faulty = GIVEN[5], GIVEN[77]

    def answers(seen):
        bad = script["refuses"] and any(text in faulty for text in seen.texts)
        return faults.Fault(status=400) if bad else None

    with running(script=answers) as server:
        job = place(GIVEN, server=server, **SMALL, limits__max_rejects=5)
        job.run(code=3)
        script["refuses"] = False
        sharded(job, 3, "--retry-rejects")
        assert job.run("status", "run", "--json").json["state"] == "stopped"
        job.run(last, job.job)
        assert rejects(job.out) == []
        assert job.wrong() == []
        assert strays(job.out) == []
        assert job.run("status", "run", "--json").json["state"] == "complete"
        assert server.bill.paid_twice.keys() <= {HARMLESS}


def test_the_manifest_tells_what_the_shards_embedded(place, server):
    """Of texts that were there before, and of those that are new: what was paid for is told."""
    job = place(GIVEN[:80], server=server, **SMALL)
    sharded(job, 3)
    job.run("merge", job.job)
    counts = manifest(job.out)["counts"]
    assert (counts["embedded"], counts["reused"], counts["distinct"]) == (80, 0, 80)
    job.fill(GIVEN)
    sharded(job, 3)
    job.run("merge", job.job)
    counts = manifest(job.out)["counts"]
    assert (counts["embedded"], counts["reused"], counts["distinct"]) == (40, 80, 120)


def test_a_merge_that_was_cut_off_does_not_tell_the_history_twice(place, server):
    """What shards did over time takes its place with all else, or not at all."""
    job = place(GIVEN, server=server, **SMALL)
    sharded(job, 2)
    trial, told = place(GIVEN, server=server, name="trial", **SMALL), job.folder / "steps"
    sharded(trial, 2)
    trial.run("merge", trial.job, twists=[["count_steps", str(trial.out), str(told)]])
    steps = int(told.read_text())
    for before_the_end in (45, 40, 35, 30, 25, 20):
        died = [["die_at_step", str(job.out), steps - before_the_end, False]]
        job.run("merge", job.job, code=None, twists=died)
    job.run("merge", job.job)
    history = json.loads((job.out / "checkpoint/history.json").read_text())["executions"]
    assert sum(one["to_send"] for one in history) == 120
    assert strays(job.out) == []


def test_limits_of_shards_of_which_few_run_at_once_are_not_added_up():
    """Each had a fifth of the whole, and twenty ran: the whole is five times what each had."""
    use = {"limit": 120.0, "told_by": "job", "used": 0.5}
    pace = {
        "attempts": 30,
        "throttled": 0.0,
        "failed": 0.0,
        "limits": {"requests_per_minute": use},
        "seconds_to_90": None,
        "waited": {},
    }
    limit = lambda told: told["limits"]["requests_per_minute"]["limit"]
    assert limit(together([pace] * 20, at_once=5)) == pytest.approx(600)
    assert limit(together([pace] * 3, at_once=5)) == pytest.approx(360)
    assert limit(together([pace] * 20)) == pytest.approx(2400)


def test_a_merged_run_tells_the_limit_of_the_job(place, server):
    """Also where the job says that fewer run at once than there are."""
    more = {"limits__requests_per_minute": 60_000, "limits__shards_at_once": 2}
    job = place(GIVEN, server=server, **SMALL, **more)
    sharded(job, 4)
    job.run("merge", job.job)
    limits = manifest(job.out)["pace"]["limits"]
    assert limits["requests_per_minute"]["limit"] == pytest.approx(60_000)


# -- what is refused -------------------------------------------------------------------------------


def test_a_merge_where_no_run_began_makes_nothing(place, server):
    """A misspelt --out: 2, the name of the folder, and no folder."""
    job = place(GIVEN, server=server, **SMALL)
    ended = job.run("merge", job.job, "--out", "runn", code=2)
    assert "`runn` is not a run directory" in ended.err
    assert "hint: give the --out of the shards" in ended.err
    assert not (job.folder / "runn").exists()


def test_a_merge_before_any_shard_says_what_is_missing(place, server):
    """Of a run that is there and whose corpus grew: 75, its shards may yet come."""
    job = place(GIVEN[:100], server=server, **SMALL)
    job.run()
    job.fill(GIVEN)
    assert "no shard was begun: 20 texts are missing" in job.run("merge", job.job, code=75).err


def test_a_shard_ends_when_the_model_answers_with_another_size(place):
    """It knows the size of what the others have: 4, and nothing of the other size is kept."""
    script = {"other": False}
    answers = lambda _: faults.dimension(8) if script["other"] else None
    with running(script=answers) as server:
        job = place(GIVEN, server=server, **SMALL)
        job.run(*command(job, 0, 2))
        script["other"] = True
        job.run(*command(job, 1, 2), code=4)
        assert server.bill.requests < 40
        script["other"] = False
        job.run(*command(job, 1, 2))
        job.run("merge", job.job)
        assert job.wrong() == []


def test_parts_of_different_sizes_are_named_by_the_merge(place):
    """Shards that began at once know nothing of each other: 4, who has what, and the mend works."""
    script = {"other": False}
    answers = lambda _: faults.dimension(8) if script["other"] else None
    with running(script=answers) as server:
        job = place(GIVEN, server=server, **SMALL)
        aside = job.folder / "aside"
        job.run(*command(job, 0, 2))
        (job.out / "checkpoint/shards/00000").rename(aside)
        script["other"] = True
        job.run(*command(job, 1, 2))
        aside.rename(job.out / "checkpoint/shards/00000")
        script["other"] = False
        for words in (("merge", job.job), ("run", job.job)):
            ended = job.run(*words, code=4)
            assert "vectors of different sizes" in ended.err
            assert "shard 1 (`run/checkpoint/shards/00001`)" in ended.err
        for path in sorted((job.out / "checkpoint/shards/00001").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (job.out / "checkpoint/shards/00001").rmdir()
        job.run(*command(job, 1, 2))
        job.run("merge", job.job)
        assert job.wrong() == []


# -- what is left ----------------------------------------------------------------------------------


def test_a_late_shard_that_is_killed_leaves_a_complete_run(place, server):
    """It had only looked: `status` says what holds, and the next run leaves nothing of it."""
    job = place(GIVEN, server=server, **SMALL, suffix=".csv")
    job.run()
    died = [["die_at_step", str(job.out), 5, False]]
    assert job.run(*command(job, 1, 3), code=None, twists=died).code == -9
    assert (job.out / "checkpoint/shards/00001").exists()
    assert job.run("status", "run", "--json").json["state"] == "complete"
    job.run()
    assert strays(job.out) == []


def moved(right):
    """What another model answers that calls itself the same."""
    return replace(right, vectors=[-vector for vector in right.vectors])


def test_of_shards_that_begin_at_once_one_has_the_baseline_of_canary_texts(place):
    """Another model answers the one that is later: it is stopped, though it saw no baseline."""
    script = {"other": False}
    answers = lambda _: faults.edited(moved) if script["other"] else None
    with running(script=answers) as server:
        job = place(GIVEN, server=server, **SMALL, limits__canaries="always")
        job.run(*command(job, 0, 2))
        baseline, script["other"] = job.out / "checkpoint/canaries.json", True
        aside = baseline.rename(job.folder / "aside.json")
        meanwhile = ["replace_in_phase", "embedding", str(baseline), "longer", str(aside)]
        ended = job.run(*command(job, 1, 2), code=4, twists=[meanwhile])
        assert "the provider's model is another by now" in ended.err
        assert baseline.read_bytes() == aside.read_bytes()
