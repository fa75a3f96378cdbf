"""What is refused before anything is sent leaves everything as it was."""

import os

import polars as pl
import pytest
from fakes import faults, running

import batchembed
from batchembed.errors import ActionNeededError, BatchembedError, CorpusError, JobError


def job(folder, texts, *, out="run", **more):
    """A job on `local` over the texts, written to a CSV file."""
    path = folder / "corpus.csv"
    pl.DataFrame({"id": [f"r{n}" for n in range(len(texts))], "text": texts}).write_csv(path)
    tables = {
        "corpus": {"path": str(path), "text": "text", "id": "id"},
        "model": {"provider": "local"},
        "output": {"path": str(folder / out)},
    }
    for table, settings in more.items():
        tables[table] = tables.get(table, {}) | settings
    return batchembed.from_dict(tables, where="the test")


def everything(folder):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def test_a_folder_of_others_is_not_touched(tmp_path):
    """Not even one that has names which we use, too."""
    scratch = tmp_path / "run" / "checkpoint" / "scratch"
    scratch.mkdir(parents=True)
    (scratch / "model.bin").write_text("precious")
    (tmp_path / "run" / "README").write_text("mine")
    made = job(tmp_path, ["one", "two"])
    before = everything(tmp_path)
    with pytest.raises(JobError, match="not a run directory"):
        batchembed.run(made)
    assert everything(tmp_path) == before


def test_a_mistake_in_the_corpus_leaves_no_directory(tmp_path):
    """The mended job may have the directory, whatever its spec."""
    with pytest.raises(CorpusError, match="txt"):
        batchembed.run(job(tmp_path, ["one"], corpus={"text": "txt"}))
    assert not (tmp_path / "run").exists()
    batchembed.run(job(tmp_path, ["one"], model={"dimensions": 64}))


def test_a_corpus_without_a_text_is_the_corpus_at_fault(tmp_path):
    """Nothing was sent, so it is 2."""
    for texts in ([], ["", " "]):
        with pytest.raises(CorpusError, match="no row"):
            batchembed.run(job(tmp_path, texts, limits={"max_rejects": "100%"}))


def test_the_run_to_compare_with_is_looked_at_first(tmp_path):
    """Before a text is paid for, not after."""
    wanted = {"top_k": 1, "against": str(tmp_path / "other")}
    with pytest.raises(JobError, match="not a complete run"):
        batchembed.run(job(tmp_path, ["one", "two"], similarity=wanted))
    batchembed.run(job(tmp_path, ["one", "two"], out="other", model={"dimensions": 64}))
    with pytest.raises(JobError, match="another spec"):
        batchembed.run(job(tmp_path, ["one", "two"], similarity=wanted))
    assert not (tmp_path / "run").exists()


def test_a_comparison_follows_the_other_run(tmp_path):
    """When the documents grew, the neighbours are found anew, and nothing is sent."""
    wanted = {"top_k": 1, "against": str(tmp_path / "documents")}
    batchembed.run(job(tmp_path, ["a red bicycle"], out="documents"))
    queries = lambda: job(tmp_path, ["where do planets form"], similarity=wanted)
    batchembed.run(queries())
    file = tmp_path / "run" / "similarity" / "top_k.arrow"
    nearest = lambda: pl.scan_ipc(file).collect()["neighbors"][0][0]["id"]
    assert nearest() == "r0"
    batchembed.run(job(tmp_path, ["a red bicycle", "planets form from dust"], out="documents"))
    assert batchembed.run(queries()).requests == 0
    assert nearest() == "r1"


def test_the_rejects_of_earlier_runs_count(tmp_path):
    """The same command again does not get a fresh allowance."""
    texts = [f"text {n}" + (" POISON" if n % 4 == 0 else "") for n in range(80)]
    with running() as server:
        made = job(
            tmp_path,
            texts,
            model={"provider": "openai", "name": "m", "base_url": f"{server.url}/v1"},
            limits={"max_rejects": 5, "texts_per_request": 4, "concurrency": 1},
        )
        with pytest.raises(ActionNeededError, match="max_rejects"):
            batchembed.run(made)
        requests = server.bill.requests
        with pytest.raises(ActionNeededError, match="rejected before"):
            batchembed.run(made)
        assert server.bill.requests == requests


def test_a_comparison_alone_keeps_what_is_paid_and_unpublished(tmp_path):
    """Going back to the old corpus for a while does not throw away the new one's vectors."""
    old, new = [f"old {n}" for n in range(20)], [f"new {n}" for n in range(40)]
    with running() as server:
        place = {"provider": "openai", "name": "m", "base_url": f"{server.url}/v1"}
        limits = {"texts_per_request": 4, "concurrency": 1}
        make = lambda texts, **more: job(tmp_path, texts, model=place, limits=limits, **more)
        batchembed.run(make(old))
        path = tmp_path / "corpus.csv"
        was, when = path.read_bytes(), path.stat()
        fails = [f"new {n}" for n in (30, 31)]
        server.script = lambda seen: faults.status(401) if set(fails) & set(seen.texts) else None
        with pytest.raises(BatchembedError):
            batchembed.run(make(old + new))
        server.script = ()
        path.write_bytes(was)
        os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
        paid = dict(server.bill.texts)
        back = make_again(tmp_path, place, limits)
        assert batchembed.run(back).requests == 0
        batchembed.run(make(old + new))
        assert {t: n for t, n in server.bill.texts.items() if n > 1 and t in paid} == {}


def make_again(folder, place, limits):
    """The job over the corpus as it stands, with a comparison."""
    return batchembed.from_dict(
        {
            "corpus": {"path": str(folder / "corpus.csv"), "text": "text", "id": "id"},
            "model": place,
            "limits": limits,
            "output": {"path": str(folder / "run")},
            "similarity": {"top_k": 2},
        },
        where="the test",
    )
