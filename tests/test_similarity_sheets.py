"""Nearest rows with their columns: every neighbour, on the right row, and no formula."""

from __future__ import annotations

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.runs import texts

from batchembed import api
from batchembed.api.sheets import _cell, _safe
from batchembed.errors import UsageError

DANGEROUS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]


@pytest.fixture
def job(place, server):
    """A finished run with a comparison, in the folder of its job."""
    job = place([*texts(9), "=cmd|' /C calc'!A0"], server=server, similarity={"top_k": 3})
    job.run()
    return job


def test_every_neighbor_stands_beside_its_row(job, tmp_path):
    """The table has each list's entries in order, with the columns of both rows."""
    nearest = job.out / "similarity" / "top_k.arrow"
    count = api.neighbors_table(nearest, job.out, tmp_path / "near.parquet")
    table = pq.read_table(tmp_path / "near.parquet").to_pylist()
    lists = pa.ipc.open_file(pa.memory_map(str(nearest))).read_all().to_pylist()
    assert count == len(table) == 30
    flat = [(row["id"], rank, one) for row in lists for rank, one in enumerate(row["neighbors"], 1)]
    names = {row["id"]: row for row in table}
    for row, (name, rank, one) in zip(table, flat, strict=True):
        assert (row["id"], row["rank"], row["score"]) == (name, rank, one["score"])
        assert row["neighbor_id"] == one["id"]
        other = names[one["id"]]
        for column in other:
            if f"neighbor_{column}" in row:
                assert row[f"neighbor_{column}"] == other[column]
    assert not {"embedding", "embedding_key"} & set(table[0])


def test_no_cell_of_a_csv_file_is_a_formula(job, tmp_path):
    """The same table as CSV: texts that look like formulas begin with a quote."""
    out = tmp_path / "near.csv"
    told = job.run("neighbors", "run/similarity/top_k.arrow", "--of", "run", "--out", out, "--json")
    assert json.loads(told.out)["rows"] == 30
    with out.open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 31
    assert any(cell.startswith("'=cmd") for row in rows for cell in row)
    assert not any(cell[:1] in ("=", "@") for row in rows for cell in row)


def test_what_looks_like_a_formula_is_quoted():
    """Each beginning that a spreadsheet obeys; other texts, numbers and nulls stay."""
    cells = _cell(pa.chunked_array([[*DANGEROUS, "a=1", "", None]])).to_pylist()
    assert cells == [*(f"'{text}" for text in DANGEROUS), "a=1", "", None]
    assert _cell(pa.chunked_array([[-1.5, None]])).to_pylist() == [-1.5, None]
    assert _cell(pa.chunked_array([pa.array(["=1"]).dictionary_encode()])).to_pylist() == ["'=1"]
    assert _cell(pa.chunked_array([[["=1"], None]])).to_pylist() == ['["=1"]', None]
    assert _safe(["=a", "b"]) == ["'=a", "b"]


def test_what_cannot_be_joined_is_refused(job, place, server, tmp_path):
    """Another ending, another form, runs of other sizes: each is an error with a hint."""
    nearest = job.out / "similarity" / "top_k.arrow"
    other = place(texts(4), name="other", server=server)
    other.run()
    for args, words in (
        ((nearest, job.out, tmp_path / "near.xlsx"), "neither"),
        ((nearest, other.out, tmp_path / "near.csv"), "rows"),
        ((tmp_path / "none", job.out, tmp_path / "near.csv"), "no file"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            api.neighbors_table(*args)
        assert caught.value.hint
    assert list(tmp_path.glob("near*")) == []
