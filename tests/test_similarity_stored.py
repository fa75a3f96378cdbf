"""Stored pairs at a higher score, what a comparison will take, and both from the command line."""

from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from fakes.runs import texts
from hypothesis import given
from hypothesis import strategies as st
from test_similarity import Held, brief, bytes_of, random_side

import batchembed
from batchembed.errors import RunHeldError, UsageError
from batchembed.lock import Hold
from batchembed.monitor import Monitor
from batchembed.monitor.telling import line
from batchembed.similarity import (
    SimilaritySettings,
    choosing,
    estimate,
    estimating,
    output,
    rethreshold,
)
from batchembed.store import Writer


@pytest.fixture
def job(place, server):
    """A finished run, in the folder of its job."""
    job = place(texts(20), server=server)
    job.run()
    return job


@pytest.fixture
def run_of_texts(job):
    return job.out


def filtered(path, least):
    sink = io.BytesIO()
    count = rethreshold(path, least, write=sink)
    data = sink.getvalue()
    assert count == pa.ipc.open_file(pa.py_buffer(data)).read_all().num_rows
    return data


@brief
@given(seed=st.integers(0, 2**32 - 1), scores=st.tuples(st.floats(-1, 1), st.floats(-1, 1)))
def test_a_higher_score_gives_the_bytes_of_a_comparison(seed, scores, tmp_path_factory):
    """Filtering stored pairs gives the very file that comparing again would."""
    held, low, high = random_side(seed, 40, 3), *sorted(scores)
    path = tmp_path_factory.mktemp("stored") / "pairs.arrow"
    path.write_bytes(bytes_of(held, min_score=low))
    assert filtered(path, high) == bytes_of(held, min_score=high)


def test_batches_stay_even(monkeypatch, tmp_path):
    """Whatever is filtered out, all batches but the last are full."""
    monkeypatch.setattr(output, "PAIRS_IN_BATCH", 32)
    held = Held(np.random.default_rng(0).standard_normal((80, 3)))
    path = tmp_path / "pairs.arrow"
    path.write_bytes(bytes_of(held, min_score=0.0))
    data = filtered(path, 0.5)
    assert data == bytes_of(held, min_score=0.5)
    file = pa.ipc.open_file(pa.py_buffer(data))
    sizes = [len(file.get_batch(n)) for n in range(file.num_record_batches)]
    assert len(sizes) > 3
    assert set(sizes[:-1]) == {32}


def test_what_cannot_be_filtered_is_refused(tmp_path):
    """A lower score, NaN, another form, no comparison, no file: each is an error with a hint."""
    held = Held(np.eye(3))
    pairs, top, other = (tmp_path / name for name in ("pairs", "top", "other"))
    pairs.write_bytes(bytes_of(held, min_score=0.5))
    top.write_bytes(bytes_of(held, top_k=1))
    other.write_bytes(b"something else")
    for path, score, words in (
        (pairs, 0.4, "from 0.5 on"),
        (pairs, float("nan"), "`nan`"),
        (top, 0.9, "`top_k`"),
        (other, 0.9, "not a comparison"),
        (tmp_path / "none", 0.9, "no file"),
        (tmp_path, 0.9, "no"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            rethreshold(path, score, write=io.BytesIO())
        assert caught.value.hint


def test_an_estimate_grows_with_the_work(monkeypatch):
    """Seconds grow with rows, halve for a run with itself; dense scores cost the disk's time."""
    monkeypatch.setattr(estimating, "probe", lambda *_: 1e-9)
    monkeypatch.setattr(estimating, "cores", lambda: 2)
    top, dense = SimilaritySettings(top_k=10), SimilaritySettings(dense=True)
    own = estimate(1000, None, 64, top)
    both = estimate(1000, 1000, 64, top)
    assert (own.scores, both.scores) == (10**6, 10**6)
    assert both.seconds == pytest.approx(2 * own.seconds)
    assert estimate(2000, None, 64, top).seconds == pytest.approx(4 * own.seconds)
    written = estimate(10**5, None, 64, dense)
    assert written.bytes == 4 * 10**10
    assert written.seconds == pytest.approx(40)
    assert estimate(10, None, 64, SimilaritySettings(min_score=0.1)).bytes is None


def test_a_long_comparison_says_so_before_it_starts(run_of_texts, monkeypatch, tmp_path):
    """Where much is to be compared, people are told about how long it takes; and then the ETA."""
    monkeypatch.setattr("batchembed.api.comparing._WORTH_TELLING", 0.0)
    stream = io.StringIO()
    asked = SimilaritySettings(top_k=2)
    monitor = Monitor("lines", stream=stream)
    batchembed.similarity(run_of_texts, None, tmp_path / "near.arrow", asked, monitor=monitor)
    assert "comparing takes about" in stream.getvalue()
    assert not (tmp_path / "near.arrow.unfinished").exists()
    monitor.phase("comparing")
    monitor.reach(50, 100)
    assert "50 %" in line(monitor.progress())


@pytest.mark.parametrize("asked", [{"top_k": 2}, {"dense": True}])
def test_two_comparisons_do_not_write_one_file(run_of_texts, asked, tmp_path):
    """The second leaves at once with 75 and names the first; then nothing is left over."""
    out, asked = tmp_path / "near.arrow", SimilaritySettings(**asked)
    first = Hold(tmp_path / "near.arrow.unfinished", {"process": 17})
    with pytest.raises(RunHeldError, match=r"another comparison writes `.*`: process 17") as caught:
        batchembed.similarity(run_of_texts, None, out, asked)
    assert caught.value.exit_code == 75
    assert not out.exists()
    first.release()
    batchembed.similarity(run_of_texts, None, out, asked)
    assert [path.name for path in tmp_path.iterdir() if "near" in path.name] == ["near.arrow"]


def test_a_killed_comparison_leaves_its_file_in_one_folder(run_of_texts, monkeypatch, tmp_path):
    """Nothing lies about beside FILE but FILE.unfinished, and in the end nothing but FILE."""
    out, asked = tmp_path / "near.arrow", SimilaritySettings(top_k=2)
    monkeypatch.setattr(Writer, "__exit__", lambda *_: None)  # as killed: nobody cleans up
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            batchembed.similarity(run_of_texts, None, out, asked)
    near = lambda: {path.name for path in tmp_path.iterdir() if path != run_of_texts.parent}
    assert near() == {"near.arrow.unfinished"}
    assert list((tmp_path / "near.arrow.unfinished").glob(".tmp-*"))
    batchembed.similarity(run_of_texts, None, out, asked)
    assert near() == {"near.arrow"}


def interrupted(_):
    raise KeyboardInterrupt


def test_a_run_that_was_compared_before_is_taken_up(run_of_texts, monkeypatch, tmp_path):
    """The same command again finds all scores in its own file, and writes the same bytes."""
    out = tmp_path / "near.arrow"
    asked = SimilaritySettings(top_k=2)
    batchembed.similarity(run_of_texts, None, out, asked)
    before = out.read_bytes()
    made = []
    plain = choosing.Float32.stripes
    monkeypatch.setattr(
        choosing.Float32, "stripes", lambda product, *told: made.append(1) or plain(product, *told)
    )
    asked_again = batchembed.similarity(run_of_texts, None, out, asked)
    assert out.read_bytes() == before
    assert made in ([], [1] * 4)  # the estimate's trial alone
    assert asked_again.scores > 0


def test_rethreshold_from_the_command_line(job):
    """The command writes the file and tells how many pairs it holds; --json as data."""
    job.run("similarity", "run", "--min-score", "0.0", "--out", "low.arrow")
    told = job.run(
        "rethreshold", "low.arrow", "--min-score", "0.1", "--out", "high.arrow", "--json"
    )
    table = pa.ipc.open_file(pa.memory_map(str(job.out.parent / "high.arrow"))).read_all()
    assert json.loads(told.out)["pairs"] == table.num_rows
    assert all(score >= np.float32(0.1) for score in table["score"].to_pylist())


def test_a_run_that_grew_compares_only_what_is_new(place, server):
    """A job with a comparison, run again over a longer corpus, gives the bytes of a fresh run."""
    job = place(texts(20), server=server, similarity={"top_k": 2})
    job.run()
    fresh = place(texts(25), name="fresh", server=server, similarity={"top_k": 2})
    fresh.run()
    job.corpus.write_bytes(fresh.corpus.read_bytes())
    job.run()
    name = "similarity/top_k.arrow"
    mine, theirs = (
        pa.ipc.open_file(pa.memory_map(str(one.out / name))).read_all() for one in (job, fresh)
    )
    assert mine.equals(theirs)
    assert not (job.out / "checkpoint" / "comparing").exists()
