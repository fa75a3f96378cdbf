"""A corpus that grows, shrinks or moves costs what is new, and gives what a fresh run gives."""

import json
import os
import random
import time

import pytest
from fakes import faults, running
from fakes.runs import HARMLESS, digests, manifest, rejects, texts, until, write

OLD = texts(400, seed=1)
NEW = texts(4, seed=2)
HOW = {"limits__texts_per_request": 16, "similarity": {"top_k": 3}}


def middle(old, new):
    return [*old[:200], *new, *old[200:]]


def shuffled(old, new):
    grown = [*old, *new]
    random.Random(5).shuffle(grown)
    return grown


GROWTHS = {
    "appended": (lambda old, new: [*old, *new], NEW),
    "prepended": (lambda old, new: [*new, *old], NEW),
    "in the middle": (middle, NEW),
    "deleted": (lambda old, _: old[::2], []),
    "deleted and appended": (lambda old, new: [*old[5:], *new], NEW),
    "reordered": (lambda old, _: old[::-1], []),
    "shuffled with new rows": (shuffled, NEW),
    "doubled": (lambda old, _: [*old, *old], []),
}


@pytest.mark.parametrize(
    ("growth", "dtype"),
    [*((growth, "float32") for growth in GROWTHS), ("in the middle", "float16")],
)
def test_a_changed_corpus_costs_what_is_new(place, server, growth, dtype):
    """Only new texts are sent, and the files are those of a fresh run, byte by byte."""
    change, expected = GROWTHS[growth]
    job = place(OLD, server=server, output__dtype=dtype, **HOW)
    job.run()
    paid = len(job.sent())
    job.fill(change(OLD, NEW))
    job.run()
    assert sorted(job.sent()[paid:]) == sorted(expected)
    assert job.wrong() == []
    fresh = place(change(OLD, NEW), name="fresh", server=server, output__dtype=dtype, **HOW)
    fresh.run()
    assert digests(job.out) == digests(fresh.out)


def test_a_finished_job_again_costs_nothing(place, server):
    """The second run sends nothing, ends quickly, and leaves the files alone."""
    job = place(OLD, server=server, **HOW)
    job.run()
    requests = server.bill.requests
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in job.out.rglob("*.arrow")}
    began = time.monotonic()
    summary = job.run("run", job.job, "--json").json
    assert time.monotonic() - began < 2
    assert server.bill.requests == requests
    assert (summary["reused"], summary["sent"], summary["to_send"]) == (400, 0, 0)
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in job.out.rglob("*.arrow")}


def test_a_corpus_written_anew_with_the_same_rows_costs_nothing(place, server):
    """New time stamps are no new texts."""
    job = place(OLD, server=server, **HOW)
    job.run()
    right = digests(job.out)
    job.fill(OLD)
    os.utime(job.corpus, (1, 1))
    job.run()
    assert sorted(job.sent()) == sorted(OLD)
    assert digests(job.out) == right


def test_equal_texts_are_sent_once(place, server):
    """A text that stands in many rows is paid for once and stands in all of them."""
    given = [*OLD[:50], *OLD[:50], *OLD[25:75], OLD[0]]
    job = place(given, server=server, **HOW)
    summary = job.run("run", job.job, "--json").json
    assert sorted(job.sent()) == sorted(OLD[:75])
    assert (summary["rows"], summary["distinct"], summary["sent"]) == (151, 75, 75)
    assert job.wrong() == []


def test_rejects_stay_rejects(place, server):
    """A finished run asks for no reject again; a grown one may, and pays for nothing twice."""
    given = [*OLD[:20], "this is POISON", *OLD[20:40], "", *OLD[40:60]]
    job = place(given, server=server, **HOW, limits__max_rejects=2)
    job.run(code=3)
    first = rejects(job.out)
    assert [(r["row"], r["reason"]) for r in first] == [(20, "refused"), (41, "empty_text")]
    requests = server.bill.requests
    job.run(code=3)
    assert server.bill.requests == requests
    job.fill([*given, NEW[0]])
    job.run(code=3)
    assert rejects(job.out) == first
    assert server.bill.paid_twice == {}


@pytest.mark.parametrize("published", [True, False])
def test_rejects_can_be_taken_up_again(place, server, published):
    """With --retry-rejects they are asked once more, and nothing else is; what passes now stays."""
    bad = [OLD[n] for n in (7, 20, 33)]
    given = [*OLD[:40], ""]
    still = bad[:1]
    script = {"bad": set(bad), "down": not published}

    def answers(seen):
        if script["down"] and OLD[39] in seen.texts:
            return faults.status(401)
        return faults.status(400) if script["bad"] & set(seen.texts) else None

    server.script = answers
    job = place(given, server=server, **HOW, limits__max_rejects=5, limits__concurrency=1)
    job.run(code=3 if published else 4)
    paid, script["bad"], script["down"] = len(job.sent()), set(still), False
    if published:
        job.run(code=3)
        assert len(job.sent()) == paid, "without the flag they stay rejects"
    job.run("run", job.job, "--retry-rejects", code=3)
    assert job.wrong(unembedded=lambda text: text in still) == []
    assert set(bad[1:]) <= set(job.sent()[paid:])
    assert {t for t, n in server.bill.texts.items() if n > 1} <= {HARMLESS}
    assert [r["reason"] for r in rejects(job.out)] == ["refused", "empty_text"]
    requests = server.bill.requests
    job.run(code=3)
    assert server.bill.requests == requests, "what was taken up is no reject any more"


def test_an_unfinished_run_goes_on_with_a_grown_corpus(place):
    """What an interrupted run has paid for is kept when the corpus is another by then."""
    with running(delay=0.05) as server:
        job = place(OLD, server=server, **HOW, limits__concurrency=2)
        command = job.start()
        until(lambda: len(server.bill.answers) >= 8)
        command.kill()
        until(lambda: server.bill.now_open == 0)
        job.fill([*NEW, *OLD[:300]])
        job.run()
        lost = sum(n - 1 for n in server.bill.texts.values())
        assert lost <= 2 * 16
        assert job.wrong() == []


CHANGES = {
    "name": ({"model__name": "another-model"}, ("fake-model", "another-model")),
    "dimensions": ({"model__dimensions": 16}, ("not set", "16")),
    "normalize": ({"model__normalize": False}, ("True", "False")),
    "representation": ({"model__representation": "query"}, ("symmetric", "query")),
    "controls": ({"model__controls": [{"match": "salt", "factor": 2}]}, ("salt",)),
    "dtype": ({"output__dtype": "float16"}, ("float32", "float16")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_spec_needs_another_directory(place, server, change):
    """A directory never mixes vectors: the message names the old and the new value."""
    provider = "openai" if change in {"name", "dimensions", "dtype"} else "aleph-alpha"
    job = place(OLD[:20], server=server, provider=provider)
    job.run()
    before, requests = digests(job.out), server.bill.requests
    more, told = CHANGES[change]
    job.set(**more)
    ended = job.run(code=2)
    for word in (*told, "--out", change):
        assert word in ended.err, ended.err
    assert server.bill.requests == requests
    assert digests(job.out) == before
    job.run("run", job.job, "--out", "elsewhere")
    job.set()
    job.run()
    assert digests(job.out) == before


def test_another_comparison_alone_sends_nothing(place, server):
    """Only the scores are made again when only they are asked for in another way."""
    job = place(OLD[:60], server=server, similarity={"top_k": 3})
    job.run()
    parts = {p: p.stat().st_mtime_ns for p in (job.out / "embeddings").iterdir()}
    requests = server.bill.requests
    for kind in ({"top_k": 5}, {"min_score": 0.2}, {"dense": True}):
        job.set(similarity=kind)
        job.run()
        fresh = place(OLD[:60], name="fresh", server=server)
        fresh.set(similarity=kind)
        fresh.out = fresh.folder / f"run-{len(str(kind))}" / "run"
        fresh.run("run", fresh.job, "--out", fresh.out)
        assert digests(job.out) == digests(fresh.out), kind
    assert parts == {p: p.stat().st_mtime_ns for p in (job.out / "embeddings").iterdir()}
    assert set(job.sent()[:60]) == set(OLD[:60])
    assert requests == 1


def test_a_comparison_stays_while_its_vectors_do(place, server):
    """A job without one leaves it there; when rows come it is of others than these, and is told."""
    job = place(OLD[:60], server=server, similarity={"top_k": 3})
    job.run()
    before = digests(job.out)
    job.run("embed", job.corpus, "--text", "text", "--id", "id", "--out", "run", "--provider",
            "openai", "--model", "fake-model", "--base-url", server.openai_url)  # fmt: skip
    assert digests(job.out) == before
    assert manifest(job.out)["compared"]["top_k"] == 3
    job.fill(OLD[:70])
    job.set()
    ended = job.run()
    assert "note: similarity/top_k.arrow is of the rows before, and is removed" in ended.err
    assert manifest(job.out)["compared"] is None
    assert job.run("verify", "run", "--json").json["problems"] == []


def test_another_corpus_does_not_drop_what_is_paid_for(place, server):
    """Another column, or another file, in the same directory: 2, nothing sent, and the mend."""
    job = place(OLD[:40], server=server)
    job.run()
    requests, before = server.bill.requests, digests(job.out)
    kept = (job.out / "job.toml").read_bytes()
    other = place(OLD[40:60], name="other", server=server)
    embed = ("embed", other.corpus, "--text", "text", "--out", job.out, "--provider", "openai",
             "--model", "fake-model", "--base-url", server.openai_url)  # fmt: skip
    for words in (
        embed,
        ("run", job.job, "--set", "corpus.text=id"),
        ("run", other.job, "--out", job.out),
        ("run", other.job, "--out", job.out, "--shard", "0/1"),
        ("plan", other.job, "--out", job.out, "--probe", "2"),
    ):
        ended = job.run(*words, code=2)
        assert "another corpus: 40 of 40 texts that are paid for" in ended.err
        assert "--out" in ended.err
        assert "--force" in ended.err
    assert (server.bill.requests, digests(job.out)) == (requests, before)
    assert (job.out / "job.toml").read_bytes() == kept
    ended = job.run(*embed, "--force")
    assert "note: 40 of 40 texts that are paid for" in ended.err
    assert manifest(job.out)["counts"] == {
        "rows": 20, "distinct": 20, "embedded": 20, "reused": 0, "rejected": 0
    }  # fmt: skip
    job.run(*embed)


def test_rows_that_leave_the_corpus_are_told(place, server):
    """The same job goes on without a word from anybody, however many rows are gone."""
    job = place(OLD[:40], server=server)
    job.run()
    job.fill(OLD[35:50])
    ended = job.run()
    assert "note: 35 of 40 texts that are paid for in `run` are in no row any more" in ended.err


def test_a_corpus_of_another_name_is_the_same_corpus(place, server):
    """What most rows have in common is no other corpus, whatever the job says of it."""
    job = place(OLD[:40], server=server)
    job.run()
    other = place(OLD[:60], name="other", server=server)
    job.run("run", other.job, "--out", job.out)
    half = place(OLD[31:61], name="half", server=server)
    ended = job.run("run", half.job, "--out", job.out, code=2)
    assert "31 of 60" in ended.err
    half.fill(OLD[30:61])
    ended = job.run("run", half.job, "--out", job.out)
    assert "30 of 60" in ended.err


@pytest.mark.parametrize("phase", ["embedding", "publishing"])
@pytest.mark.parametrize("how", ["touched", "longer", "gone"])
def test_a_corpus_that_changes_during_the_run_is_noticed(place, server, phase, how):
    """Rows are read several times; a file that is another by then is an error, not a mixture."""
    job = place(OLD[:60], server=server)
    other = write(job.folder / "other.parquet", place(OLD[:80], name="other").table)
    twist = ["replace_in_phase", phase, str(job.corpus), how, str(other)]
    ended = job.run(code=2 if phase == "embedding" else 75, twists=[twist])  # 75: texts were sent
    assert str(job.corpus) in ended.err
    assert "hint:" in ended.err
    assert "Traceback" not in ended.err
    assert not (job.out / "manifest.json").exists()
    job.fill(OLD[:80])
    job.run()
    assert job.wrong() == []
    assert sorted(job.sent()) == sorted(OLD[:80])


def test_the_bill_counts_all_runs(place, server):
    """The manifest's bill is what was paid over all runs of the directory."""
    job = place(OLD[:32], server=server, limits__texts_per_request=16)
    job.run()
    job.fill([*OLD[:32], *NEW])
    job.run()
    bill = json.loads((job.out / "manifest.json").read_text())["bill"]
    assert (bill["requests"], bill["texts"]) == (3, 36)
    assert bill["tokens"] == server.bill.tokens
