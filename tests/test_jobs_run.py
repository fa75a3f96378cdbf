"""Every job file of jobs/ runs as its own words say, in the order of its steps."""

import re
import shutil

import pyarrow as pa
import pytest
from fakes import running, vector
from fakes.batches import BatchDesk
from fakes.commands import ROOT
from fakes.runs import manifest, output, strays

LOCAL = ("quickstart", "symmetric", "documents", "queries", "offers", "wish", "amplified")
ALEPH_ALPHA = (
    *("symmetric", "documents", "queries", "offers", "wish", "amplified"),
    *("images", "layers", "instruction"),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The job files and the corpora, away from the repository."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("jobs", "sample_data"):
        shutil.copytree(ROOT / name, folder / name)
    return folder


def scores(folder, run):
    """The rows of a run's comparison."""
    (path,) = (folder / "runs" / run / "similarity").iterdir()
    with pa.ipc.open_file(path.read_bytes()) as reader:
        return reader.read_all().to_pylist()


def best(folder, run):
    """What is nearest to the one row of a run."""
    (row,) = scores(folder, run)
    return [neighbor["id"] for neighbor in row["neighbors"]]


def test_no_job_file_is_forgotten():
    """Each job file is run by some test below."""
    found = {
        path.relative_to(ROOT / "jobs").with_suffix("").as_posix()
        for path in ROOT.glob("jobs/**/*.toml")
    }
    known = {*LOCAL, *(f"aleph-alpha/{name}" for name in ALEPH_ALPHA)}
    known |= {"openai-compatible", "openai-batch"}
    assert found == known


def test_each_job_says_how_it_is_called():
    """The line to copy stands in each file, and is that of this very file."""
    for path in ROOT.glob("jobs/**/*.toml"):
        name = path.relative_to(ROOT).as_posix()
        assert re.search(rf"(?m)^#     batchembed run {re.escape(name)}$", path.read_text()), name


@pytest.fixture(scope="module")
def local(commands, copy):
    """All jobs of the model on this machine, run in order; how each ended."""
    return {
        name: commands.run("run", f"jobs/{name}.toml", "--json", cwd=copy).json for name in LOCAL
    }


@pytest.mark.parametrize("name", LOCAL)
def test_the_local_jobs_run(local, copy, name):
    """Each is complete, free, without rejects, and leaves nothing lying about."""
    told = local[name]
    assert (told["state"], told["exit_code"], told["rejected"]) == ("complete", 0, 0)
    assert told["cost"] == 0
    assert told["sent"] == told["distinct"] > 0
    assert strays(copy / "runs" / name) == []


def test_the_quickstart_gives_the_table_back(local, copy):
    """All columns of the corpus, an embedding a row, and five neighbors of each."""
    found = output(copy / "runs" / "quickstart")
    assert len(found) == 420
    assert found.column_names[-2:] == ["embedding", "embedding_key"]
    assert {"id", "title", "text", "topic", "language"} <= set(found.column_names)
    assert [len(row["neighbors"]) for row in scores(copy, "quickstart")] == [5] * 420


def test_questions_that_ask_the_same_are_found(local, copy):
    """Of the pairs above the score, those that ask the same come first."""
    pairs = sorted(scores(copy, "symmetric"), key=lambda row: -row["score"])
    same = {(f"q{n:02d}", f"q{n + 1:02d}") for n in range(1, 13, 2)}
    found = {tuple(sorted((row["left_id"], row["right_id"]))) for row in pairs}
    assert len(found) == len(pairs), "each pair stands there once"
    assert tuple(sorted((pairs[0]["left_id"], pairs[0]["right_id"]))) in same
    assert len(found & same) >= 4
    assert len(found - same) <= 2


def test_the_attention_of_the_founding_jobs(local, copy):
    """As it stands the wish is nearest to the television; amplified, to the console."""
    assert best(copy, "wish") == ["television", "console"]
    assert best(copy, "amplified") == ["console", "television"]


@pytest.fixture(scope="module")
def stood_in(commands, copy):
    """All jobs of Aleph Alpha, at the stand-in."""
    with running(dimensions=128, key="a-token") as server:
        ended = {}
        for name in ALEPH_ALPHA:
            before = len(server.bill.answers)
            argv = ("run", f"jobs/aleph-alpha/{name}.toml", "--json")
            argv += ("--set", f"model.base_url={server.url}", "--set", "access.key_env=AA_TOKEN")
            done = commands.run(*argv, cwd=copy, env={"AA_TOKEN": "a-token"})
            ended[name] = (done, server.last, server.bill.answers[before:])
        yield ended


@pytest.mark.parametrize("name", ALEPH_ALPHA)
def test_the_aleph_alpha_jobs_run(stood_in, copy, name):
    """Each is complete; what went out is the corpus, once."""
    ended, last, answers = stood_in[name]
    assert ended.code == 0, ended
    told = manifest(copy / "runs" / "aleph-alpha" / name)
    assert told["dimensions"] == 128
    assert told["bill"]["texts"] == sum(map(len, answers)) == told["counts"]["distinct"]
    path = {"layers": "/embed", "instruction": "/instructable_embed"}
    assert last["path"].endswith(path.get(name, "/batch_semantic_embed"))


def test_the_aleph_alpha_controls_go_out(stood_in, copy):
    """The amplified word is controlled at its place, and the vector is that of the control."""
    text = output(copy / "runs" / "aleph-alpha" / "wish")["text"][0].as_py()
    found = output(copy / "runs" / "aleph-alpha" / "amplified")["embedding"][0].as_py()
    at = text.index("play")
    told = {"role": "query", "model": "luminous-base", "dimensions": 128}
    assert found == vector(text, controls=[(at, 4, 7.0)], **told).tolist()
    plain = output(copy / "runs" / "aleph-alpha" / "wish")["embedding"][0].as_py()
    assert plain == vector(text, **told).tolist()


def test_the_job_of_the_batch_lane_runs(commands, copy):
    """With its address put to the stand-in; each text is paid for once."""
    desk = BatchDesk()
    with running(batches=desk) as server:
        argv = ("run", "jobs/openai-batch.toml", "--set", f"model.base_url={server.openai_url}")
        ended = commands.run(*argv, "--set", "access.poll_every=10ms", cwd=copy)
        assert ended.code == 0, ended
        assert len(desk.batches) == 1
        assert server.bill.paid_twice == {}


def test_the_job_for_servers_of_ones_own_runs(commands, copy):
    """With its address put to the stand-in it runs, prefixes and all."""
    with running() as server:
        argv = (
            "run",
            "jobs/openai-compatible.toml",
            "--set",
            f"model.base_url={server.openai_url}",
        )
        ended = commands.run(*argv, cwd=copy)
        assert ended.code == 0, ended
        texts = list(server.bill.texts)
        assert len(texts) == 420
        assert all(text.startswith("passage: ") for text in texts)
        assert max(server.bill.sizes) == 32
