"""Run directories that earlier versions wrote: opened, continued, verified; newer ones refused."""

import json
import shutil
from pathlib import Path

import pytest
from fakes.places import Place
from fakes.runs import digests, output, rejects

RUNS = Path(__file__).parent / "testdata" / "runs"
FORMATS = sorted(path.name for path in RUNS.iterdir() if path.is_dir())


@pytest.fixture
def old(commands, tmp_path):
    """Copy a stored run: `old("format-1", "finished")`."""

    def make(form, kind):
        folder = tmp_path / f"{form}-{kind}"
        shutil.copytree(RUNS / form / kind, folder)
        place = Place.__new__(Place)
        place.commands, place.folder, place.server = commands, folder, None
        place.out, place.job = folder / "run", folder / "job.toml"
        return place

    return make


def test_every_format_has_a_finished_and_an_unfinished_run():
    """Up to the newest that there is."""
    from batchembed.parts import FORMAT

    assert [f"format-{n}" for n in range(1, FORMAT + 1)] == FORMATS
    for form in FORMATS:
        told = json.loads((RUNS / form / "finished/run/manifest.json").read_text())
        assert f"format-{told['format']}" == form
        assert not (RUNS / form / "unfinished/run/manifest.json").exists()
        assert list((RUNS / form / "unfinished/run/checkpoint").glob("*.segment"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_finished_run_is_read_and_verified(old, form):
    """By every command that reads one."""
    job = old(form, "finished")
    found = job.run("verify", "run", "--json", "--sample", "5").json
    assert found["problems"] == []
    assert (found["rows"], found["asked"]) == (24, 5)
    assert found["cosine_least"] > 0.999999
    assert job.run("status", "run", "--json").json["state"] == "complete"
    text = output(job.out)["text"].to_pylist()[3]
    assert job.run("search", "run", text, "--json").json[0]["id"] == "r03"
    job.run("similarity", "run", "--out", "x.arrow", "--top-k", "1")


@pytest.mark.parametrize("form", FORMATS)
def test_a_finished_run_again_costs_nothing_and_changes_nothing(old, form):
    """The parts are byte for byte those that the old version wrote."""
    job = old(form, "finished")
    before = digests(job.out)
    summary = job.run("run", "job.toml", "--json", code=3).json
    assert (summary["sent"], summary["reused"]) == (0, 23)
    kept = output(job.out)["embedding"].to_pylist()
    shutil.copytree(RUNS / form / "finished/run/embeddings", job.folder / "theirs/embeddings")
    assert output(job.folder / "theirs")["embedding"].to_pylist() == kept
    assert set(digests(job.out)) == set(before)
    assert job.run("verify", "run", "--json").json["problems"] == []


@pytest.mark.parametrize("form", FORMATS)
def test_a_finished_run_grows(old, form):
    """Only the new row is sent; the old vectors are those that were paid for then."""
    job = old(form, "finished")
    with (job.folder / "corpus.csv").open("a") as file:
        file.write("r99,a new row of the river,en\n")
    summary = job.run("run", "job.toml", "--json", code=3).json
    assert (summary["sent"], summary["reused"]) == (1, 23)
    assert job.run("verify", "run", "--json").json["problems"] == []


@pytest.mark.parametrize("form", FORMATS)
def test_an_unfinished_run_is_gone_on_with(old, form):
    """What its segments hold is not asked again, and the end is that of the finished one."""
    job = old(form, "unfinished")
    summary = job.run("run", "job.toml", "--json", code=3).json
    assert summary["reused"] > 0
    assert summary["sent"] > 0
    assert summary["sent"] + summary["reused"] == 23
    assert [r["id"] for r in rejects(job.out)] == ["r05"]
    assert job.run("verify", "run", "--json").json["problems"] == []
    theirs = old(form, "finished")
    assert output(job.out)["embedding"].to_pylist() == output(theirs.out)["embedding"].to_pylist()


def test_a_run_in_shards_is_gone_on_with(old):
    """The third shard sends what is its own, and the merge ends with the vectors of one run."""
    job = old("format-1", "sharded")
    assert "shard 1 of 3 is not done" in job.run("merge", "job.toml", code=75).err
    told = job.run("run", "job.toml", "--shard", "1/3", "--json").json
    assert 0 < told["sent"] < 23
    summary = job.run("merge", "job.toml", "--json", code=3).json
    assert (summary["sent"], summary["reused"]) == (0, 23)
    assert job.run("verify", "run", "--json").json["problems"] == []
    theirs = old("format-1", "finished")
    assert output(job.out)["embedding"].to_pylist() == output(theirs.out)["embedding"].to_pylist()


@pytest.mark.parametrize("kind", ["finished", "unfinished"])
def test_a_newer_format_is_refused_with_a_clear_word(old, kind):
    """Exit code 2, both numbers, what to do; and nothing is touched."""
    job = old(FORMATS[-1], kind)
    name = "manifest.json" if kind == "finished" else "checkpoint/run.json"
    told = json.loads((job.out / name).read_text())
    newer = told["format"] + 1
    (job.out / name).write_text(json.dumps(told | {"format": newer, "unheard": "of"}))
    if kind == "finished":
        (job.out / "checkpoint/published.json").unlink()
    before = {p: p.read_bytes() for p in sorted(job.out.rglob("*.[as]*")) if p.is_file()}
    commands = [("run", "job.toml")]
    commands += [("verify", "run"), ("search", "run", "x")] if kind == "finished" else []
    for argv in commands:
        ended = job.run(*argv, code=2)
        for word in (f"`{newer}`", f"`{newer - 1}`", "hint: use the batchembed that wrote it"):
            assert word in ended.err, ended
    assert {p: p.read_bytes() for p in sorted(job.out.rglob("*.[as]*")) if p.is_file()} == before
