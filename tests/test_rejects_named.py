"""A run that ends for too many rejects names the first rows of them, however it came to that."""

import re

import pytest
from fakes import faults, running
from fakes.batches import BatchDesk
from fakes.runs import rejects, strays

GOOD = [f"text {number} of some length" for number in range(20)]


def test_rows_without_a_text_are_named(place):
    """Before anything is sent: by file, row and reason."""
    with running() as server:
        job = place([*GOOD[:3], None, *GOOD[3:], "", "  "], server=server, limits__max_rejects=2)
        ended = job.run(code=4)
        assert server.bill.requests == 0
    assert "`corpus.parquet`, row 4: null_text" in ended.err.replace(f"{job.folder}/", "")
    assert "row 22: empty_text" in ended.err
    assert "row 23: blank_text" in ended.err


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_refused_rows_are_named(place, suffix):
    """While texts are sent: those that the server refuses."""
    texts = [*GOOD, "poison one of some length", "poison two of some length"]

    def script(seen):
        bad = any("poison" in text for text in seen.texts)
        return faults.status(400, '{"error": {"message": "bad text"}}') if bad else None

    with running(script=script) as server:
        job = place(
            texts, server=server, suffix=suffix, limits__max_rejects=1, limits__concurrency=1
        )
        ended = job.run(code=4)
    assert "`limits.max_rejects` allows `1`" in ended.err
    named = re.findall(r"row (\d+)[^:]*: refused", ended.err)
    assert named == ["21", "22"]
    assert "poison" not in ended.err
    assert "look at `run/rejects.arrow`" in ended.err
    left = [(row["row"], row["id"], row["status"]) for row in rejects(job.out)]
    assert left == [(20, "id-000020", 400), (21, "id-000021", 400)]
    assert not (job.out / "checkpoint/next").exists()


def test_at_most_three_are_named(place):
    """The rest is counted."""
    job = place([*GOOD, None, None, None, None, None], provider="local", limits__max_rejects=1)
    ended = job.run(code=4)
    assert len(re.findall(r"row \d+[^:;]*: null_text", ended.err)) == 3
    assert "`5` rows were rejected" in ended.err


def test_all_rejects_by_then_are_left_to_look_at(place):
    """Rows without a text too; a run that is mended then has its own file, or none."""
    refuses = {"poison": True}

    def script(seen):
        bad = refuses["poison"] and any("poison" in text for text in seen.texts)
        return faults.status(400, '{"error": {"message": "bad text"}}') if bad else None

    texts = [*GOOD, None, "poison one of some length", "poison two of some length"]
    with running(script=script) as server:
        job = place(texts, server=server, limits__max_rejects=2, limits__concurrency=1)
        job.run(code=4)
        reasons = [(row["row"], row["reason"]) for row in rejects(job.out)]
        assert reasons == [(20, "null_text"), (21, "refused"), (22, "refused")]
        refuses["poison"] = False
        job.run("run", job.job, "--retry-rejects", code=3)
        assert [row["row"] for row in rejects(job.out)] == [20]
        assert job.wrong() == []
        assert strays(job.out) == []


def test_what_is_published_stays(place):
    """A complete run that grew keeps the file that its manifest tells of."""
    with running(script=lambda _: None) as server:
        job = place([*GOOD, None], server=server, limits__max_rejects=1)
        job.run(code=3)
        before = (job.out / "rejects.arrow").read_bytes()
        job.fill([*GOOD, None, None, None])
        job.run(code=4)
        assert (job.out / "rejects.arrow").read_bytes() == before


def test_rejects_of_the_batch_lane_and_after_it_are_left(place):
    """What is sent online after a batch is rejected into the same file."""
    texts = [*GOOD, "poison one of some length", "poison two of some length"]

    def script(seen):
        bad = any("poison" in text for text in seen.texts)
        return faults.status(400, '{"error": {"message": "bad text"}}') if bad else None

    with running(script=script, batches=BatchDesk(expires=lambda t: "poison" in t)) as server:
        job = place(
            texts,
            server=server,
            limits__max_rejects=1,
            access__lane="batch",
            access__poll_every="10ms",
            access__leftovers="online",
        )
        job.run(code=4)
        assert [row["row"] for row in rejects(job.out)] == [20, 21]
