"""Scores against brute force in float64 and scikit-learn; what is refused; what is left out."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchembed.errors import DamagedError, JobError
from batchembed.similarity import Grid, SimilaritySettings, compare, nearest

GRID = Grid(threads=2)


@dataclass
class Held:
    """Vectors in memory; `None` in place of a vector is a reject."""

    vectors: np.ndarray
    valid: np.ndarray | None = None
    ids: pa.Array | None = None
    role: str = "symmetric"
    name: str = "runs/held"
    reads: list = field(default_factory=list)

    def __post_init__(self):
        self.vectors = np.asarray(self.vectors, np.float32)
        self.rows, self.dimensions = self.vectors.shape
        self.valid = np.ones(self.rows, bool) if self.valid is None else self.valid
        if self.ids is None:
            self.ids = pa.array([f"row {row}" for row in range(self.rows)], pa.string())

    def read(self, start, stop):
        self.reads.append(stop - start)
        return self.vectors[start:stop], self.valid[start:stop]


def bytes_of(left, right=None, *, grid=GRID, keep=None, known=None, **asked):
    sink = io.BytesIO()
    asked = SimilaritySettings(**asked)
    compare(left, right, asked, write=sink, grid=grid, keep=keep, known=known)
    return sink.getvalue()


def table_of(left, right=None, *, grid=GRID, **asked):
    return pa.ipc.open_file(pa.BufferReader(bytes_of(left, right, grid=grid, **asked))).read_all()


def reference(left, right, metric):
    """Return all scores in float64, NaN where a row has no vector."""
    a, b = (np.where(s.valid[:, None], s.vectors, 0).astype(np.float64) for s in (left, right))
    scores = np.array([[float(np.dot(x, y)) for y in b] for x in a]).reshape(len(a), len(b))
    lengths = np.outer(np.sqrt((a * a).sum(1)), np.sqrt((b * b).sum(1)))
    lengths[lengths == 0] = np.nan
    return scores / lengths if metric == "cosine" else np.where(np.isnan(lengths), np.nan, scores)


def rows_of(held, ids):
    place = {name: row for row, name in enumerate(held.ids.to_pylist())}
    return [place[name] for name in ids]


def check_neighbors(table, left, right, k, metric="cosine"):
    """Every listed score is right, in order, ties by row; nobody better is missing."""
    scores = reference(left, right or left, metric)
    if right is None:
        np.fill_diagonal(scores, np.nan)
    far = 1e-6 * max(1.0, np.nanmax(np.abs(scores), initial=0.0))
    absent = ~left.valid | ~np.asarray(left.vectors).any(axis=1)
    assert table["id"].to_pylist() == left.ids.to_pylist()
    for row, found in enumerate(table["neighbors"].to_pylist()):
        if absent[row]:
            assert found is None
            continue
        there = np.flatnonzero(~np.isnan(scores[row]))
        assert len(found) == min(k, there.size)
        chosen = rows_of(right or left, [one["id"] for one in found])
        written = [one["score"] for one in found]
        assert len(set(chosen)) == len(chosen)
        assert np.allclose(written, scores[row, chosen], atol=far, rtol=0)
        assert sorted(zip([-s for s in written], chosen, strict=True)) == [
            (-s, c) for s, c in zip(written, chosen, strict=True)
        ]
        left_over = np.setdiff1d(there, chosen)
        if found and left_over.size:
            assert scores[row, left_over].max() <= written[-1] + far


def check_pairs(table, left, right, least, metric="cosine"):
    scores = reference(left, right or left, metric)
    if right is None:
        scores[np.tril_indices(len(scores))] = np.nan
    far = 1e-6 * max(1.0, np.nanmax(np.abs(scores), initial=0.0))
    pairs = list(
        zip(
            rows_of(left, table["left_id"].to_pylist()),
            rows_of(right or left, table["right_id"].to_pylist()),
            strict=True,
        )
    )
    assert pairs == sorted(set(pairs))
    for pair, score in zip(pairs, table["score"].to_pylist(), strict=True):
        assert abs(score - scores[pair]) <= far
        assert np.float32(score) >= np.float32(least)
    missing = {tuple(pair) for pair in np.argwhere(scores >= least + far).tolist()} - set(pairs)
    assert not missing


def check_dense(table, left, right, metric="cosine"):
    scores = reference(left, right or left, metric)
    far = 1e-6 * max(1.0, np.nanmax(np.abs(scores), initial=0.0))
    absent = ~left.valid | ~np.asarray(left.vectors).any(axis=1)
    for row, found in enumerate(table["scores"].to_pylist()):
        if absent[row]:
            assert found is None
            continue
        got = np.array([np.nan if score is None else score for score in found], np.float64)
        assert np.allclose(got, scores[row], atol=far, rtol=0, equal_nan=True)
        assert right is not None or metric != "cosine" or found[row] == 1.0


def random_side(seed, rows, dimensions, **given):
    """Return vectors with copies, near copies, zeros and rejects among them."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.3:  # few distinct values: ties everywhere
        vectors = rng.integers(-1, 2, (rows, dimensions)).astype(np.float32)
    else:
        vectors = rng.standard_normal((rows, dimensions)).astype(np.float32)
    for _ in range(rows // 4):
        source, target = rng.integers(rows, size=2)
        vectors[target] = vectors[source] * rng.choice([1.0, 1.0, 2.0, 3.0, 1.0 + 1e-7])
    vectors[rng.random(rows) < 0.05] = 0
    valid = rng.random(rows) > 0.05
    vectors[~valid] = np.nan
    return Held(vectors, valid, **given)


@dataclass
class Case:
    """Sides, a metric, and a cut of the work that must not matter."""

    seed: int
    rows: int
    columns: int | None
    dimensions: int
    metric: str
    grid: Grid

    def sides(self):
        left = random_side(self.seed, self.rows, self.dimensions)
        if self.columns is None:
            return left, None
        return left, random_side(self.seed + 1, self.columns, self.dimensions, name="docs")


grids = st.builds(
    Grid,
    tile=st.integers(1, 30),
    stripe=st.integers(1, 12),
    budget=st.sampled_from([0, 1000, 10**6]),
    hits=st.integers(1, 300),
    threads=st.integers(1, 3),
)
cases = st.builds(
    Case,
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 60),
    columns=st.none() | st.integers(0, 40),
    dimensions=st.integers(1, 9),
    metric=st.sampled_from(["cosine", "dot"]),
    grid=grids,
)
brief = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@brief
@given(k=st.integers(1, 70), case=cases)
def test_neighbors_are_those_of_brute_force(k, case):
    """The k nearest equal a float64 reference, and no cut of the work changes a byte."""
    left, right = case.sides()
    asked = {"top_k": k, "metric": case.metric}
    check_neighbors(table_of(left, right, **asked), left, right, k, case.metric)
    assert bytes_of(left, right, grid=case.grid, **asked) == bytes_of(left, right, **asked)


@brief
@given(least=st.floats(-1, 1), case=cases)
def test_pairs_are_those_of_brute_force(least, case):
    """The pairs equal a float64 reference, each once, in row order, however the work is cut."""
    left, right = case.sides()
    asked = {"min_score": least, "metric": case.metric}
    check_pairs(table_of(left, right, **asked), left, right, least, case.metric)
    assert bytes_of(left, right, grid=case.grid, **asked) == bytes_of(left, right, **asked)


@settings(brief, max_examples=25)
@given(case=cases)
def test_dense_scores_are_those_of_brute_force(case):
    """Dense scores equal a float64 reference; who has no vector has nulls, never NaN."""
    left, right = case.sides()
    asked = {"dense": True, "metric": case.metric}
    check_dense(table_of(left, right, **asked), left, right, case.metric)
    assert bytes_of(left, right, grid=case.grid, **asked) == bytes_of(left, right, **asked)


def test_many_rows_against_scikit_learn():
    """Over several tiles the neighbours and distances are those of scikit-learn."""
    neighbors = pytest.importorskip("sklearn.neighbors")
    vectors = np.random.default_rng(5).standard_normal((5000, 48)).astype(np.float32)
    table = table_of(Held(vectors, ids=pa.array(np.arange(5000))), top_k=7)
    search = neighbors.NearestNeighbors(n_neighbors=8, metric="cosine").fit(vectors)
    distances, rows = search.kneighbors(vectors.astype(np.float64))
    ids = np.array(table["neighbors"].combine_chunks().flatten().field("id")).reshape(5000, 7)
    scores = np.array(table["neighbors"].combine_chunks().flatten().field("score"))
    assert (ids == rows[:, 1:]).all()
    assert np.allclose(scores.reshape(5000, 7), 1 - distances[:, 1:], atol=1e-6, rtol=0)


def test_exact_scores_are_rounded_float64():
    """A written score is the float64 cosine of the vectors as stored, rounded once."""
    held = Held(np.random.default_rng(1).standard_normal((300, 384)))
    table = table_of(held, top_k=5)
    scores = reference(held, held, "cosine")
    for row, found in enumerate(table["neighbors"].to_pylist()):
        for one in found:
            column = rows_of(held, [one["id"]])[0]
            assert abs(one["score"] - scores[row, column]) <= 3.1e-8


@pytest.mark.parametrize("metric", ["cosine", "dot"])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_are_enough(rows, metric):
    """No row, one row and two rows give tables of the right form."""
    held = Held(np.ones((rows, 3)))
    top = table_of(held, top_k=5, metric=metric)["neighbors"].to_pylist()
    assert [len(found) for found in top] == [rows - 1] * rows
    assert table_of(held, min_score=0.5, metric=metric).num_rows == rows * (rows - 1) // 2
    dense = table_of(held, dense=True, metric=metric)
    assert dense.num_rows == rows
    assert dense.schema.field("scores").type == pa.list_(pa.float32(), rows)


@pytest.mark.parametrize(("left_rows", "right_rows"), [(0, 4), (4, 0), (0, 0)])
def test_an_empty_side_gives_an_empty_answer(left_rows, right_rows):
    """Where one side has no rows the other's rows still stand in the table."""
    left, right = Held(np.ones((left_rows, 2))), Held(np.ones((right_rows, 2)))
    assert table_of(left, right, min_score=0.0).num_rows == 0
    assert table_of(left, right, top_k=3)["neighbors"].to_pylist() == [[]] * left_rows
    assert table_of(left, right, dense=True).num_rows == left_rows


def test_copies_fill_each_others_places_in_row_order():
    """Rows that are copies of one another come first in row order, without the row itself."""
    vectors = np.random.default_rng(2).standard_normal((9, 4))
    vectors[[1, 3, 4, 7]] = vectors[1]
    found = table_of(Held(vectors), top_k=3)["neighbors"].to_pylist()
    assert [one["id"] for one in found[4]] == ["row 1", "row 3", "row 7"]
    assert [one["score"] for one in found[4]] == [1.0, 1.0, 1.0]


def test_a_score_that_is_exactly_the_least_is_a_pair():
    """3/5, 4/5 and 1 are met exactly by vectors that score exactly so."""
    held = Held([[3, 4], [1, 0], [0, 1], [6, 8]])
    got = {
        least: [
            (pair["left_id"][-1], pair["right_id"][-1])
            for pair in table_of(held, min_score=least).to_pylist()
        ]
        for least in (0.6, 0.8, 1.0)
    }
    assert got[1.0] == [("0", "3")]
    assert got[0.8] == [("0", "2"), ("0", "3"), ("2", "3")]
    assert len(got[0.6]) == 5


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e25])
def test_the_length_of_a_vector_does_not_matter_to_cosines(scale):
    """Lengths whose squares leave float32's range give the same cosines."""
    vectors = np.random.default_rng(3).standard_normal((20, 8)).astype(np.float32)
    scaled = vectors.copy()
    scaled[::2] *= np.float32(scale)
    for asked in ({"top_k": 4}, {"min_score": 0.2}):
        check = check_neighbors if "top_k" in asked else check_pairs
        check(table_of(Held(scaled), **asked), Held(vectors), None, *asked.values())
    check_dense(table_of(Held(scaled), dense=True), Held(vectors), None)


def test_half_precision_scores():
    """Scores of dtype float16 are the float32 ones, rounded; the diagonal stays 1."""
    held = random_side(9, 50, 6)
    half = table_of(held, dense=True, dtype="float16")
    full = table_of(held, dense=True)
    assert half.schema.field("scores").type == pa.list_(pa.float16(), 50)
    for a, b in zip(half["scores"].to_pylist(), full["scores"].to_pylist(), strict=True):
        assert a == (b and [x if x is None else float(np.float16(x)) for x in b])


def test_dense_scores_stay_within_a_millionth():
    """Near copies with many dimensions, where float32 sums are worst, are within 1e-6."""
    rng = np.random.default_rng(4)
    for dimensions in (384, 1024):
        vectors = rng.standard_normal(dimensions) + 0.05 * rng.standard_normal((300, dimensions))
        held = Held(vectors)
        scores = np.array(table_of(held, dense=True)["scores"].to_pylist())
        unit = held.vectors.astype(np.float64)
        unit /= np.sqrt((unit * unit).sum(1))[:, None]
        exact = unit @ unit.T
        assert np.abs(scores - exact).max() < 1e-6
        assert np.abs(scores).max() <= 1.0
        assert (np.diag(scores) == 1.0).all()


def test_polars_reads_what_was_written():
    """All three forms arrive in polars with their types, values and nulls."""
    held = random_side(11, 30, 5, ids=pa.array(np.arange(30) * 10**17))
    top = pl.read_ipc(bytes_of(held, top_k=2))
    assert top.schema["neighbors"] == pl.List(pl.Struct({"id": pl.Int64, "score": pl.Float32}))
    assert top.rows() == [tuple(row.values()) for row in table_of(held, top_k=2).to_pylist()]
    pairs = pl.read_ipc(bytes_of(held, min_score=0.1))
    assert pairs.columns == ["left_id", "right_id", "score"]
    assert pairs.rows(named=True) == table_of(held, min_score=0.1).to_pylist()
    dense = pl.read_ipc(bytes_of(held, dense=True))
    assert dense.schema["scores"] == pl.Array(pl.Float32, 30)
    assert [None if row is None else list(row) for row in dense["scores"].to_list()] == table_of(
        held, dense=True
    )["scores"].to_pylist()


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([2**63 - 1, -(2**63), 0], pa.int64()),
        pa.array([2**64 - 1, 1, 0], pa.uint64()),
        pa.array(["ä" * 70_000, "", "𝄞"], pa.large_string()),
        pa.array(["b", None, "b"], pa.string()),
        pa.array([b"\x00", b"\xff" * 16, b""], pa.binary()),
    ],
    ids=lambda ids: str(ids.type),
)
def test_ids_keep_their_type_and_value(ids):
    """Ids of any type, long or null, come out as they went in."""
    held = Held(np.eye(3) + 1, ids=ids)
    top = table_of(held, top_k=2)
    assert top["id"].type == ids.type
    assert top["id"].to_pylist() == ids.to_pylist()
    named = [[one["id"] for one in found] for found in top["neighbors"].to_pylist()]
    told = ids.to_pylist()
    assert named == [[told[1], told[2]], [told[0], told[2]], [told[0], told[1]]]
    pairs = table_of(held, min_score=0.0)
    assert pairs["right_id"].to_pylist() == [told[1], told[2], told[2]]


def test_a_side_of_queries_and_one_of_documents_keep_their_own_ids():
    """Queries against documents name the queries left and the documents right."""
    queries = Held([[1, 0], [0, 1]], ids=pa.array(["q", "r"]), role="query", name="runs/q")
    documents = Held([[2, 1], [0, 3]], ids=pa.array([7, 8]), role="document", name="runs/d")
    top = table_of(queries, documents, top_k=1)
    assert [found[0]["id"] for found in top["neighbors"].to_pylist()] == [7, 8]
    told = json.loads(top.schema.metadata[b"batchembed"])
    assert (told["left"], told["right"], told["symmetric"]) == ("runs/q", "runs/d", False)
    assert told["rows"] == {"left": 2, "right": 2}


def test_metadata_names_what_was_compared():
    """The schema's metadata is JSON: kind, metric, sources, rows and what was left out."""
    held = Held([[1, 0], [0, 0], [1, 1]], np.array([True, True, False]))
    table = table_of(held, min_score=0.25, metric="dot")
    told = json.loads(table.schema.metadata[b"batchembed"])
    assert told.pop("batchembed")
    assert len(told.pop("vectors")["left"]) == 64
    assert len(told.pop("ids")["left"]) == 64
    assert told == {
        "kind": "min_score",
        "metric": "dot",
        "symmetric": True,
        "left": "runs/held",
        "right": "runs/held",
        "min_score": 0.25,
        "rows": {"left": 3},
        "left_out": {"left": {"null": 1, "zero": 1}},
    }


def test_what_is_left_out_is_counted():
    """The summary counts rows, scores, rejects and zero vectors of both sides."""
    left = Held([[1, 0], [0, 0], [1, 1]], np.array([True, True, False]))
    right = Held([[1, 0], [3, 1]], name="runs/d")
    told = compare(left, right, SimilaritySettings(dense=True), write=io.BytesIO())
    assert (told.left_rows, told.right_rows, told.scores) == (3, 2, 2)
    assert (told.left_out.null, told.left_out.zero) == (1, 1)
    assert (told.right_left_out.null, told.right_left_out.zero) == (0, 0)
    assert told.seconds >= 0


def test_progress_ends_at_its_total():
    """Progress never falls and ends at the total, for every form and both kinds of sides."""
    held = random_side(13, 50, 4)
    for asked in ({"top_k": 3}, {"min_score": 0.5}, {"dense": True}):
        for right in (None, random_side(14, 20, 4)):
            told = []
            compare(
                held,
                right,
                SimilaritySettings(**asked),
                write=io.BytesIO(),
                progress=lambda done, total, told=told: told.append((done, total)),
                grid=Grid(tile=8, threads=2),
            )
            assert told == sorted(told)
            assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_named(value):
    """NaN and infinity end the comparison, name the id, and nothing is written."""
    vectors = np.ones((5, 2), np.float32)
    vectors[3, 1] = value
    sink = io.BytesIO()
    with pytest.raises(DamagedError, match="`row 3`"):
        compare(Held(vectors), None, SimilaritySettings(top_k=1), write=sink)
    assert sink.getvalue() == b""


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({}, "exactly one"),
        ({"top_k": 3, "dense": True}, "exactly one"),
        ({"top_k": 0}, "`0`"),
        ({"min_score": 1.5}, "`1.5`"),
        ({"min_score": float("nan")}, "`nan`"),
        ({"min_score": float("inf"), "metric": "dot"}, "`inf`"),
        ({"top_k": 1, "metric": "euclidean"}, "`euclidean`"),
        ({"dense": True, "dtype": "int8"}, "`int8`"),
        ({"top_k": 1, "dtype": "float16"}, "`float16`"),
    ],
)
def test_impossible_settings_are_refused(asked, word):
    """Each impossible setting is an error that names its value and has a hint."""
    with pytest.raises(JobError, match=word) as caught:
        bytes_of(Held(np.ones((2, 2))), **asked)
    assert caught.value.hint


def test_queries_with_queries_are_refused_unless_forced():
    """Queries are compared with queries only by force; with documents freely."""
    queries = Held(np.ones((2, 2)), role="query")
    for right in (None, queries):
        with pytest.raises(JobError, match="queries"):
            bytes_of(queries, right, top_k=1)
        assert bytes_of(queries, right, top_k=1, force=True)
    assert bytes_of(queries, Held(np.ones((2, 2)), role="document"), top_k=1)


def test_too_large_a_dense_file_is_refused_unless_forced():
    """More than 10 GB of dense scores needs force, and half precision counts half."""

    class Huge(Held):
        def read(self, start, stop):
            raise InterruptedError

    huge = Huge(np.empty((0, 2)))
    huge.rows = 60_000
    with pytest.raises(JobError, match="14 GB"):
        bytes_of(huge, dense=True)
    for asked in ({"dtype": "float16"}, {"force": True}):
        with pytest.raises(InterruptedError):
            bytes_of(huge, dense=True, **asked)


def test_sides_of_unequal_dimensions_are_refused():
    """Two specs' vectors are not compared."""
    with pytest.raises(JobError, match="2 dimensions"):
        bytes_of(Held(np.ones((1, 2))), Held(np.ones((1, 3))), top_k=1)


@pytest.mark.parametrize(("dtype", "value"), [("float32", 1e20), ("float16", 300.0)])
def test_dot_products_that_leave_the_range_are_refused(dtype, value):
    """A dot product that the dtype cannot hold is an error, not infinity."""
    held = Held(np.full((2, 2), value))
    with pytest.raises(JobError, match="too large"):
        bytes_of(held, dense=True, metric="dot", dtype=dtype)
    assert bytes_of(held, dense=True, dtype=dtype)


@brief
@given(k=st.integers(1, 70), case=cases)
def test_nearest_agrees_with_the_neighbors_of_one_row(k, case):
    """The search for one vector finds what a comparison with one query finds."""
    held = random_side(case.seed, case.rows, case.dimensions, ids=pa.array(np.arange(case.rows)))
    rng = np.random.default_rng(case.seed + 1)
    query = rng.standard_normal((1, case.dimensions)).astype(np.float32)
    table = table_of(Held(query), held, top_k=k, metric=case.metric)
    found = [(one["id"], one["score"]) for one in table["neighbors"].to_pylist()[0]]
    assert nearest(held, query[0], k, metric=case.metric) == found


def test_nearest_refuses_what_cannot_be_compared():
    """A query that is zero, not finite, or of other dimensions is refused."""
    held = Held(np.ones((2, 2)))
    for query in ([0, 0], [np.nan, 1], [1, 2, 3]):
        with pytest.raises(JobError):
            nearest(held, np.array(query, np.float32), 1)
