"""Clusters of rows: against blobs whose clusters are known, and the subjects of the sample."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from fakes.runs import texts
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from test_docs_readme import ROOT
from test_similarity import Held, brief

from batchembed import api
from batchembed.errors import DamagedError, JobError, UsageError
from batchembed.job import from_dict
from batchembed.run import run
from batchembed.similarity import clustered, clustering, write_clusters


def blobs(sizes, dimensions=32, spread=0.2, seed=0):
    """Vectors around as many directions as there are sizes, in shuffled order, and of which."""
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((len(sizes), dimensions))
    of = draw.permutation(np.repeat(np.arange(len(sizes)), sizes))
    noise = draw.standard_normal((len(of), dimensions))
    lengths = draw.uniform(0.1, 10, (len(of), 1))
    return Held((centres[of] + spread * noise) * lengths), of


def written(held, found):
    sink = io.BytesIO()
    write_clusters(sink, found, held.ids, {"run": "held"})
    return pa.ipc.open_file(pa.BufferReader(sink.getvalue())).read_all()


def test_blobs_are_found_whatever_the_lengths_of_vectors():
    """Every blob is one cluster, the largest is 0, and each names its most central row."""
    held, of = blobs([300, 200, 100, 50])
    found = clustered(held, 4, seed=0)
    assert adjusted_rand_score(of, found.of) == 1.0
    assert found.sizes.tolist() == [300, 200, 100, 50]
    unit = held.vectors / np.linalg.norm(held.vectors, axis=1, keepdims=True)
    for number, row in enumerate(found.nearest.tolist()):
        mine = np.flatnonzero(found.of == number)
        centre = unit[mine].astype(np.float64).mean(axis=0)
        cosines = unit[mine] @ (centre / np.linalg.norm(centre))
        assert np.allclose(found.scores[mine], cosines, atol=1e-5)
        assert row == mine[found.scores[mine].argmax()]


@brief
@given(
    rows=st.integers(1, 60),
    count=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
    lost=st.floats(0, 0.9),
)
def test_every_row_with_a_vector_has_the_cluster_of_its_nearest_centre(rows, count, seed, lost):
    """Numbers count from 0 by falling size; what has no vector has neither cluster nor NaN."""
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((rows, 3))
    vectors[draw.random(rows) < lost / 2] = 0
    held = Held(vectors, draw.random(rows) >= lost / 2)
    there = held.valid & held.vectors.any(axis=1)
    if there.sum() < count:
        with pytest.raises(JobError, match="clusters of"):
            clustered(held, count, seed=seed)
        return
    found = clustered(held, count, seed=seed)
    table = written(held, found)
    assert table["id"].to_pylist() == held.ids.to_pylist()
    assert [number is not None for number in table["cluster"].to_pylist()] == there.tolist()
    assert table["score"].null_count == table["cluster"].null_count == rows - there.sum()
    sizes = found.sizes.tolist()
    assert sizes == sorted(sizes, reverse=True)
    assert 0 not in sizes
    assert sum(sizes) == there.sum()
    assert np.flatnonzero(table["nearest"].to_numpy()).tolist() == sorted(found.nearest.tolist())
    assert found.of[found.nearest].tolist() == list(range(len(sizes)))


def test_fewer_directions_give_fewer_clusters():
    """Ten rows of two directions are two clusters, however many are asked for."""
    held = Held(np.tile([[1.0, 0], [0, 2]], (5, 1)))
    found = clustered(held, 4)
    assert found.sizes.tolist() == [5, 5]
    assert found.of.tolist() == [0, 1] * 5


def test_centres_are_found_with_some_rows_and_every_row_has_a_label(monkeypatch):
    """Of more rows than are fitted, those that were not drawn have the right cluster as well."""
    monkeypatch.setattr(clustering, "FITTED_ROWS", 200)
    held, of = blobs([1500, 900, 100])
    found = clustered(held, 3, seed=1)
    assert found.fitted == 200
    assert adjusted_rand_score(of, found.of) == 1.0
    assert max(held.reads) <= 1024, "no more than a block is read at once"


def test_the_same_question_has_the_same_bytes():
    """Twice with a seed it is the same; another seed may begin elsewhere."""
    held, _ = blobs([60, 50, 40], spread=1.5)
    told = [written(held, clustered(held, 5, seed=3)) for _ in range(2)]
    assert told[0].equals(told[1])
    about = json.loads(told[0].schema.metadata[b"batchembed"])
    assert about["kind"] == "clusters"
    assert sum(about["sizes"]) == 150


def test_labels_by_position_alone_are_seen():
    """Planted: a label too early. The blobs tell."""
    held, of = blobs([30, 20])
    found = clustered(held, 2)
    assert adjusted_rand_score(of, np.roll(found.of, 1)) < 0.9


def test_a_vector_that_is_no_number_ends_it():
    """As in a comparison: the id is named."""
    held, _ = blobs([5, 5])
    held.vectors[3, 1] = np.nan
    with pytest.raises(DamagedError, match="row 3"):
        clustered(held, 2)


def test_without_scikit_learn_there_is_the_line_that_installs_it(monkeypatch):
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(JobError) as caught:
        clustered(blobs([5, 5])[0], 2)
    assert caught.value.hint == "pip install 'batchembed[cluster]'"


def test_subjects_of_the_sample_are_found(tmp_path):
    """Clusters of the English articles agree with their topics, which they were not told."""
    english = pl.read_parquet(ROOT / "sample_data" / "articles.parquet").filter(language="en")
    english.write_parquet(tmp_path / "en.parquet")
    corpus = {"path": str(tmp_path / "en.parquet"), "text": "text", "id": "id"}
    job = {
        "corpus": corpus,
        "model": {"provider": "local"},
        "output": {"path": str(tmp_path / "run")},
    }
    run(from_dict(job, where=tmp_path))
    topics = english["topic"].to_list()
    found = api.clusters(tmp_path / "run", len(set(topics)), tmp_path / "clusters.arrow")
    labels = pl.read_ipc(tmp_path / "clusters.arrow")
    assert labels["id"].to_list() == english["id"].to_list()
    assert normalized_mutual_info_score(topics, labels["cluster"].to_list()) > 0.8
    for one in found:
        assert english["id"][one.row] == one.id
        assert one.label == english["title"][one.row]
        assert labels["cluster"][one.row] == one.cluster


def test_the_command_prints_each_cluster_and_writes_arrow(place, server, tmp_path):
    """One line a cluster; --json has the same; another ending than Arrow's is refused."""
    job = place(texts(12), server=server)
    job.run()
    asked = ("clusters", "run", "--count", "3", "--out", "clusters.arrow")
    lines = job.run(*asked).out.splitlines()
    assert lines[-1].split() == ["written", "clusters.arrow"]
    found = json.loads(job.run(*asked, "--json").out)
    assert [int(line.split()[0]) for line in lines[:-1]] == [one["cluster"] for one in found]
    assert sum(one["rows"] for one in found) == 12
    wrong = job.run("clusters", "run", "--count", "3", "--out", "clusters.csv", code=2)
    assert "would hold Arrow" in wrong.err
    with pytest.raises(UsageError, match="not a complete run"):
        api.clusters(tmp_path, 3, tmp_path / "clusters.arrow")
