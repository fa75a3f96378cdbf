"""Several vectors a row: whole runs at /embed, from the ledger to columns and back."""

import json

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from fakes import faults, running, vector
from fakes.runs import digests, manifest, output, texts

GIVEN = texts(40)
LAYERS = {
    "model__layers": [-1, 0],
    "model__pooling": ["mean", "max"],
    "limits__max_rejects": 5,
    "limits__concurrency": 2,
}
OUTPUTS = ["layer_40_mean", "layer_40_max", "layer_0_mean", "layer_0_max"]
COLUMNS = [f"embedding_{name}" for name in OUTPUTS]


def right(text, name, **told):
    _, layer, pooling = name.removeprefix("embedding_").split("_", 2)
    return vector(text, more=(int(layer), pooling), **told)


def wrong(run, given, **told):
    """Return what is wrong with the vectors of a run, column by column."""
    table = output(run)
    assert table.column_names[-5:] == [*COLUMNS, "embedding_key"]
    half = pa.types.is_float16(table.schema.field(COLUMNS[0]).type.value_type)
    bad = []
    for name in COLUMNS:
        for row, (text, found) in enumerate(zip(given, table[name].to_pylist(), strict=True)):
            expected = None if text is None or "POISON" in text else right(text, name, **told)
            if expected is not None and half:
                expected = expected.astype(np.float16)
            if found != (expected if expected is None else expected.tolist()):
                bad.append((row, name))
    return bad


@pytest.fixture
def layered(place, server):
    def make(given=GIVEN, **more):
        return place(given, server=server, provider="aleph-alpha", **(LAYERS | more))

    return make


def test_each_layer_and_pooling_is_a_column(layered):
    """Named after the layer's own number; the schema says what was asked for."""
    given = [*GIVEN, None, "a POISON text"]
    job = layered(given)
    job.run(code=3)
    assert wrong(job.out, given) == []
    told = manifest(job.out)
    assert (told["outputs"], told["dimensions"]) == (OUTPUTS, 32)
    about = json.loads(output(job.out).schema.metadata[b"batchembed"])
    assert about["dimensions"] == 32
    assert about["outputs"][1] == {
        "column": "embedding_layer_40_max",
        "output": "layer_40_max",
        "layer": -1,
        "pooling": "max",
    }
    frame = pl.scan_ipc(job.out / "embeddings" / "*.arrow").collect()
    assert frame[COLUMNS[2]].dtype == pl.Array(pl.Float32, 32)
    assert job.run("verify", "run", "--sample", "9", "--json").json["problems"] == []


def test_one_layer_and_pooling_is_the_column_that_all_know(layered):
    """`embedding`, as from any other model; the schema says which layer it is."""
    job = layered(model__layers=[-1], model__pooling=["mean"])
    job.run()
    table = output(job.out)
    assert table.column_names[-2:] == ["embedding", "embedding_key"]
    assert table["embedding"].to_pylist() == [right(t, "layer_40_mean").tolist() for t in GIVEN]
    about = json.loads(table.schema.metadata[b"batchembed"])
    assert [each["output"] for each in about["outputs"]] == ["layer_40_mean"]
    assert job.run("search", "run", GIVEN[3], "--json").json[0]["row"] == 3


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_corpus_that_grew_pays_for_what_is_new_alone(layered, dtype):
    """Published columns are joined again, row by row, with what is new between them."""
    job = layered(output__dtype=dtype, output__part_rows=7)
    job.run()
    paid, new = len(job.sent()), texts(3, seed=5)
    given = [new[0], *GIVEN[20:], new[1], *GIVEN[:20], new[2]]
    job.fill(given)
    job.run()
    assert sorted(job.sent()[paid:]) == sorted(new)
    assert wrong(job.out, given) == []
    assert job.run("verify", "run", "--json").json["problems"] == []


def test_a_killed_run_goes_on(layered):
    """Nothing that was answered is sent again, and the bytes are those of a run at one go."""
    job = layered()
    job.run("run", job.job, "--out", "whole")
    once = len(job.sent())
    killed = job.start(twists=[["die_at_step", str(job.out), 60]]).wait()
    assert killed.code == -9
    job.run()
    again = job.sent()[once:]
    assert len(again) <= len(GIVEN) + 2  # those in flight
    assert digests(job.out) == digests(job.folder / "whole")
    assert wrong(job.out, GIVEN) == []


def test_vectors_of_another_length_are_made_1_each(layered):
    """`normalize` holds for every vector of a row, not for the row as a whole."""
    thrice = faults.edited(
        lambda reply: faults.replace(reply, vectors=[v * 3 for v in reply.vectors])
    )
    with running(script=[thrice] * len(GIVEN)) as server:
        job = layered(model__base_url=server.url)
        job.run()
    for name in COLUMNS:
        rows = np.array(output(job.out)[name].to_pylist())
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_other_layers_than_before_end_the_run(layered, monkeypatch):
    """A model that grew a layer has the same dimension and means something else."""
    job = layered()
    job.run()
    job.fill([*GIVEN, "one more", "and another"])
    monkeypatch.setattr("fakes.wire.LAYERS", 41)
    ended = job.run(code=4)
    assert "`layer_41_mean, layer_41_max, layer_0_mean, layer_0_max`" in ended.err
    assert "other layers" in ended.err
    assert len(job.sent()) == len(GIVEN) + 1, "the first answer told"


def test_a_column_must_be_named_where_there_are_several(layered):
    """The error names those that there are; one that is named is used."""
    job = layered()
    job.run()
    for command in (
        ("search", "run", GIVEN[3]),
        ("similarity", "run", "--top-k", "2", "--out", "near.arrow"),
    ):
        ended = job.run(*command, code=2)
        assert "several columns of vectors" in ended.err
        assert all(name in ended.err for name in COLUMNS)
        assert "embedding_layer_9" in job.run(*command, "--column", "embedding_layer_9", code=2).err
    near = job.run("search", "run", GIVEN[3], "--column", COLUMNS[2], "--json").json
    assert near[0]["row"] == 3
    assert near[0]["score"] == pytest.approx(1, abs=1e-6)
    assert set(near[0]["columns"]) == {"id", "text", "number"}
    job.run("similarity", "run", "--top-k", "2", "--column", COLUMNS[1], "--out", "near.arrow")
    best = pa.ipc.open_file((job.folder / "near.arrow").read_bytes()).read_all()
    rows = np.array([right(t, COLUMNS[1]) for t in GIVEN], np.float64)
    scores = rows @ rows.T
    np.fill_diagonal(scores, -2)
    assert [n[0]["id"] for n in best["neighbors"].to_pylist()] == [
        f"id-{at:06d}" for at in scores.argmax(axis=1)
    ]


def test_a_job_compares_the_column_it_names(layered):
    """[similarity] column; without it the error comes before the first request."""
    job = layered(similarity={"top_k": 1, "column": COLUMNS[0]})
    summary = job.run("run", job.job, "--json").json
    assert summary["columns"] == COLUMNS
    assert summary["similarity"] == ["similarity/top_k.arrow"]
    paid = len(job.sent())
    job.set(**LAYERS, similarity={"top_k": 1}, output__path="other")
    ended = job.run(code=2)
    assert "similarity.column" in ended.err
    assert len(job.sent()) == paid


def test_a_search_needs_the_instruction_of_the_other_role(place, server):
    """Queries are searched by documents; nothing is sent under an instruction that nobody gave."""
    told = {"provider": "aleph-alpha", "model__representation": "query"}
    job = place(GIVEN, server=server, model__instruction={"query": "find"}, **told)
    job.run()
    assert "`document`" in job.run("search", "run", "words", code=2).err
    assert len(job.sent()) == len(GIVEN)
    both = {"query": "find", "document": ""}
    job.set(model__instruction=both, model__representation="query", output__path="both")
    job.run()
    near = job.run("search", "both", GIVEN[3], "--json").json
    assert len(near) == 5


def test_a_kept_column_may_not_have_the_name_of_one_of_vectors(layered):
    """Found out before anything is paid, though the layer's number is not known yet."""
    job = layered()
    table = job.table.append_column("embedding_layer_40_max", [["x"] * len(GIVEN)])
    pl.from_arrow(table).write_parquet(job.corpus)
    ended = job.run(code=2)
    assert "embedding_layer_40_max" in ended.err
    assert job.sent() == []
    job.set(**LAYERS, corpus__keep=["text"])
    job.run()
