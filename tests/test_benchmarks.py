"""What the benchmarks measure with: the stand-in server answers, the peers read it right."""

import asyncio
import json
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pybase64
import pytest

from benchmarks import client_cpu, clients, corpora, floor, server
from benchmarks.measuring import FailedError, Scope, Table, Usage, child, goal, ratio

TEXTS = [f"text {n}" for n in range(300)]
BODIES = {
    "single": server.aleph_alpha(None, 128),
    "batch": server.aleph_alpha(100, 128),
    "float": server.openai(64, 1024, as_base64=False),
    "base64": server.openai(64, 1024, as_base64=True),
}


def plainly(name):
    """The vectors of an answer, read with nothing but the standard library's JSON."""
    told = json.loads(BODIES[name])
    if name == "single":
        return np.array([told["embedding"]], np.float32)
    if name == "batch":
        return np.array(told["embeddings"], np.float32)
    rows = [entry["embedding"] for entry in told["data"]]
    if name == "base64":
        rows = [np.frombuffer(pybase64.b64decode(row), np.float32) for row in rows]
    return np.array(rows, np.float32)


@pytest.fixture(params=["C", "Python"])
def stand_in(request, tmp_path, monkeypatch):
    if request.param == "Python":
        monkeypatch.setattr(server.shutil, "which", lambda _: None)
    elif not (shutil.which("cc") or shutil.which("gcc")):
        pytest.skip("no C compiler here")
    with server.running(BODIES, tmp_path) as found:
        assert found.language == request.param
        yield found


@pytest.mark.parametrize("name", BODIES)
def test_the_bare_client_reads_what_the_server_says(stand_in, name):
    """Every answer, of either server, holds the vectors that plain JSON reads in it."""
    way = clients.WAYS[name]
    texts = TEXTS[: way.texts * 3]
    found = asyncio.run(clients.bare(way, f"{stand_in.url}/{name}", texts, 2))
    assert len(found) == 3
    assert all((rows == plainly(name)).all() for rows in found)


def test_vectors_of_an_answer_differ():
    """A whole job takes no answer in which two texts have the same vector."""
    for name in BODIES:
        rows = plainly(name)
        assert len(np.unique(rows, axis=0)) == len(rows)


def test_no_server_is_left_behind(tmp_path):
    """The server ends with the block that started it, and until then tells its CPU."""
    with server.running(BODIES, tmp_path) as found:
        assert found.cpu() >= 0
    with pytest.raises(FileNotFoundError):
        found.cpu()


def test_texts_are_different_and_always_the_same(tmp_path):
    """A corpus has as many texts as asked for, about as long as asked for, each once."""
    upcoming = corpora.texts(54, seed=1)
    some = [next(upcoming) for _ in range(5000)]
    again = corpora.texts(54, seed=1)
    assert some == [next(again) for _ in range(5000)]
    assert len(set(some)) == 5000
    assert sum(map(len, some)) / 5000 == pytest.approx(54, rel=0.05)


def test_start_up_cancels_in_the_cost_of_a_text():
    """One second of start-up and 5 microseconds a text come out as 5 microseconds."""

    def took(rows):
        return [Usage(0.0, 1.0 + rows * 5e-6 + noise, 0.0, "") for noise in (0.3, 0.0, -0.1)]

    found = {"job, small": took(1000), "job, large": took(101_000)}
    assert client_cpu._marginal(found, "job", (1000, 101_000)) == pytest.approx(5.0)


def test_a_slow_round_cancels_in_a_ratio():
    """Rounds are compared within themselves."""
    assert ratio([2.0, 20.0, 2.2], [1.0, 10.0, 1.0]) == 2.0


@pytest.mark.parametrize(
    ("value", "bound", "words"),
    [
        (0.8, {"least": 0.8}, "≥ 0.8: met"),
        (0.79, {"least": 0.8}, "≥ 0.8: **missed**"),
        (1.5, {"most": 1.5}, "≤ 1.5: met"),
        (1.51, {"most": 1.5}, "≤ 1.5: **missed**"),
    ],
)
def test_a_goal_says_whether_it_is_met(value, bound, words):
    """A missed goal is as visible as one that is met."""
    assert goal(value, **bound) == words


def test_a_command_that_fails_is_not_a_figure():
    """What ends with an error is told, with its last words, and is no measurement."""
    with pytest.raises(FailedError, match="no such thing"):
        child([sys.executable, "-c", "raise SystemExit('no such thing')"])
    assert child([sys.executable, "-c", "print(len('four'))"]).output == "4\n"


def test_a_table_is_markdown():
    """Header, rule, rows and note."""
    told = Table("Title", ("a", "b"), (("1", "2"),), "Note.").markdown()
    assert told == "## Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nNote.\n"


def test_small_sizes_stay_apart(tmp_path):
    """With --quick there are still two sizes, or there would be nothing to subtract."""
    for case in client_cpu.CASES:
        for sizes in (case.rows, case.peer_rows):
            small, large = client_cpu._sizes(sizes, Scope(tmp_path, 1, quick=True))
            assert sizes[0] == small < large <= sizes[1]
            assert not small % clients.WAYS[case.name].texts
            assert not large % clients.WAYS[case.name].texts


def test_an_unknown_question_is_refused():
    """The message names what is known."""
    command = [sys.executable, "-m", "benchmarks", "speed"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "unknown: speed; known: local, memory" in found.stderr


@pytest.mark.parametrize("name", ["single", "base64"])
def test_the_least_durable_job_writes_what_the_server_says(stand_in, name, tmp_path, monkeypatch):
    """Whatever order answers come in: the whole corpus, each row with its vector."""
    corpus = corpora.make(tmp_path / "c.parquet", 320)
    kept, close = {}, floor.Sink.close

    def closed(sink):
        close(sink)
        kept["data"] = sink.path.read_bytes()

    monkeypatch.setattr(floor.Sink, "close", closed)
    floor.main(name, f"{stand_in.url}/{name}", str(corpus), "4")
    table = pa.ipc.open_file(kept["data"]).read_all()
    right, per_request = plainly(name), clients.WAYS[name].texts
    assert table["text"].to_pylist() == pq.read_table(corpus)["text"].to_pylist()
    found = np.array(table["v"].to_pylist(), np.float32)
    assert all((row == right[at % per_request]).all() for at, row in enumerate(found))
