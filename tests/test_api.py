"""What can be asked about a run, also where its surroundings have changed since."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fakes import faults, running
from fakes.runs import texts

from batchembed import api
from batchembed.errors import SpecChangedError, UsageError
from batchembed.job import load
from batchembed.parts import VOUCHER
from batchembed.similarity import SimilaritySettings

GIVEN = texts(20)
PROGRESS = "checkpoint/progress.json"


@pytest.fixture
def done(place, server):
    """A finished run with a comparison."""
    job = place(GIVEN, server=server, similarity={"top_k": 2})
    job.run()
    return job


@pytest.fixture
def stopped(place):
    """A run that was stopped when some of its answers were kept."""
    with running(script=lambda seen: faults.status(401) if seen.number > 2 else None) as server:
        more = {"limits__texts_per_request": 4, "limits__concurrency": 1}
        job = place(GIVEN, server=server, name="stopped", **more)
        job.run(code=4)
        yield job


def kept(job):
    """The segments of a run."""
    return list((job.out / "checkpoint").glob("*.segment"))


# -- glance ----------------------------------------------------------------------------------------


def test_a_glance_shows_rows_and_their_nearest(done):
    """By a text of each."""
    found = api.glance(done.out, 2)
    assert [near.left for near in found] == GIVEN[:2]
    assert all(near.right in GIVEN and near.right != near.left for near in found)


def test_a_glance_at_what_is_gone_is_empty(done):
    """A complete run does not fail for what was only to be looked at."""
    (done.out / "embeddings" / "part-00000.arrow").unlink()
    assert api.glance(done.out) == []


def test_a_complete_run_ends_well_after_the_other_one_moved(place, server):
    """The comparison is there; that its other side is not is no mistake of this run."""
    other = place(GIVEN, server=server, name="other")
    other.run()
    job = place(texts(5, seed=2), server=server, similarity={"top_k": 1, "against": str(other.out)})
    job.run()
    assert len(api.glance(job.out)) == 3
    other.out.rename(other.out.with_name("moved"))
    assert api.glance(job.out) == []


def test_a_glance_knows_ids_of_dictionary_type(place, server):
    """As they come from categories."""
    job = place(GIVEN, server=server, similarity={"top_k": 1})
    ids = job.table["id"].dictionary_encode()
    pq.write_table(job.table.set_column(0, "id", ids), job.corpus)
    job.run()
    assert [near.left for near in api.glance(job.out)] == GIVEN[:3]
    hits = job.run("search", "run", GIVEN[4], "--top-k", "1", "--json").json
    assert hits[0]["id"] == "id-000004"


# -- similarity, search ----------------------------------------------------------------------------


def test_a_comparison_says_at_once_where_it_cannot_be_written(done, monkeypatch):
    """Before anything is compared."""
    monkeypatch.setattr("batchembed.api.comparing.compare", lambda *_: pytest.fail("compared"))
    for out in (done.out, Path("/proc/near.arrow")):
        with pytest.raises(UsageError, match=str(out)) as caught:
            api.similarity(done.out, None, out, SimilaritySettings(top_k=2))
        assert caught.value.hint


@pytest.mark.parametrize("text", ["", " \n\t", "\ud800"])
def test_a_search_needs_a_text(tmp_path, text):
    """Nothing is looked up or sent for none."""
    with pytest.raises(UsageError, match="no text to search for") as caught:
        api.search(tmp_path, text)
    assert caught.value.hint


# -- status ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", ["[1]", "null", "7", '"x"', "{", '{"line": 1, "at": 2}'])
def test_a_status_bears_any_progress(done, stopped, progress):
    """That file is without promise."""
    for job, state in ((done, "complete"), (stopped, "stopped")):
        (job.out / PROGRESS).write_text(progress)
        assert api.status(job.out)["state"] == state
        assert state in job.run("status", job.out).out


def test_a_folder_of_something_else_has_no_status(tmp_path):
    """A usage error names it."""
    with pytest.raises(UsageError, match="not a run directory"):
        api.status(tmp_path)


def test_a_grown_run_that_was_stopped_is_stopped(place):
    """Its manifest is of before; when it has been run to its end it is complete again."""
    bad = []
    with running(script=lambda _: faults.status(401) if bad else None) as server:
        job = place(GIVEN, server=server, limits__texts_per_request=4, limits__concurrency=1)
        job.run()
        assert api.status(job.out)["state"] == "complete"
        (job.out / "checkpoint" / "000009.segment").write_bytes(b"")
        assert api.status(job.out)["state"] == "stopped"
        (job.out / "checkpoint" / "000009.segment").unlink()
        job.fill([*GIVEN, *texts(4, seed=3)])
        bad.append(True)
        job.run(code=4)
        bad.clear()
        job.run()
        assert api.status(job.out)["state"] == "complete"


@pytest.mark.parametrize(
    ("said", "at", "state"),
    [
        ("started", "2999-01-01T00:00:00+00:00", "stopped"),
        ("complete", "2999-01-01T00:00:00+00:00", "complete"),
        ("started", "1999-01-01T00:00:00+00:00", "complete"),
    ],
)
def test_progress_after_the_manifest_tells_of_a_later_run(done, said, at, state):
    """Unless that came to its end."""
    (done.out / PROGRESS).write_text(json.dumps({"state": said, "at": at}))
    assert api.status(done.out)["state"] == state


# -- plan ------------------------------------------------------------------------------------------


def planned(job, **more):
    """The plan of a job for its run directory."""
    return api.plan(load(job.job, out=str(job.out), **more))


def test_a_plan_knows_what_is_paid_for_without_a_manifest(done):
    """As a run does: the voucher names the parts."""
    (done.out / "manifest.json").unlink()
    assert (done.out / VOUCHER).is_file()
    found = planned(done)
    assert (found.paid, found.to_send) == (20, 0)


def test_a_plan_without_manifest_and_voucher_pays_again(done):
    """The control of the test before."""
    (done.out / "manifest.json").unlink()
    (done.out / VOUCHER).unlink()
    assert planned(done).to_send == 20


@pytest.mark.parametrize("which", ["done", "stopped"])
def test_a_plan_refuses_a_directory_of_another_spec(request, which):
    """In the words of the run, and with its exit code."""
    job = request.getfixturevalue(which)
    change = ("--set", "model.name=another")
    plan = job.run("plan", job.job, *change, code=2)
    run = job.run("run", job.job, *change, code=2)
    assert plan.err == run.err
    assert "another" in plan.err
    with pytest.raises(SpecChangedError):
        planned(job, overrides=["model.name=another"])


def test_a_plan_takes_a_directory_that_keeps_nothing(stopped):
    """Nor does one care for the dtype of the output before there is any."""
    assert planned(stopped, overrides=["output.dtype=float16"]).paid > 0
    for segment in kept(stopped):
        segment.unlink()
    assert planned(stopped, overrides=["model.name=another"]).to_send == 20


@pytest.mark.parametrize(("most", "excess"), [(0, 2), (1, 1), (2, 0), (9, 0)])
def test_a_plan_tells_of_more_rejects_than_the_job_allows(place, server, most, excess):
    """The run ends with 4 where the plan says so."""
    job = place([*GIVEN, "", None], server=server, limits__max_rejects=most)
    assert planned(job).excess == excess
    assert ("limits.max_rejects" in job.run("plan", job.job).out) == bool(excess)
    job.run(code=4 if excess else 3)


def test_the_columns_of_a_hit_are_those_of_the_corpus(done):
    """But the vector and the key."""
    hit = api.search(done.out, GIVEN[0], 1, environ={"OPENAI_API_KEY": "a-key"})[0]
    assert set(hit.columns) == set(done.table.column_names)


@pytest.mark.parametrize("name", ["near.csv", "near.PARQUET", "near.xlsx"])
def test_scores_are_not_written_under_the_name_of_another_form(done, tmp_path, name):
    """A spreadsheet that opens an Arrow file shows rubbish: the error says what makes one."""
    with pytest.raises(UsageError, match="would hold Arrow") as told:
        api.similarity(done.out, None, tmp_path / name, SimilaritySettings(top_k=1))
    assert "batchembed neighbors" in told.value.hint
    assert not (tmp_path / name).exists()
