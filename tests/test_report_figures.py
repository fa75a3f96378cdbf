"""What a report draws, against oracles in float64: numpy, scipy, scikit-learn and brute force."""

import datetime as dt
import math
import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet, fcluster, leaves_list, linkage
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA

from batchembed.errors import UsageError
from batchembed.history import Execution, Point, Wait
from batchembed.report import colours
from batchembed.report.clusters import cluster, leaves, names, ward
from batchembed.report.colours import NONE, OTHER, SCALE, categories, colourings, scale
from batchembed.report.figures import SERIES_POINTS, bars, thinned
from batchembed.report.nearness import look
from batchembed.report.projection import pca, project


def unit(n, d, seed, *, centres=0):
    """Vectors of length 1, in clusters where asked."""
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((n, d))
    if centres:
        made = 0.4 * made + rng.standard_normal((centres, d))[rng.integers(0, centres, n)]
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


# -- the map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "d", "centres"), [(400, 64, 5), (30, 200, 3), (300, 7, 0), (50, 3, 2)]
)
def test_the_map_is_the_principal_components(n, d, centres):
    """Places and shares are those of scikit-learn's full decomposition, but for the direction."""
    vectors = unit(n, d, 1, centres=centres)
    oracle = PCA(n_components=2, svd_solver="full")
    places = oracle.fit_transform(vectors.astype(np.float64))
    found = pca(vectors, 0)
    for axis in range(2):
        direction = np.sign(found.places[:, axis] @ places[:, axis])
        np.testing.assert_allclose(found.places[:, axis], direction * places[:, axis], atol=2e-3)
    np.testing.assert_allclose(found.shares, oracle.explained_variance_ratio_, rtol=1e-4)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_map_holds_as_much_as_any_plane_can(n, d, seed):
    """Also for one row, one dimension, or rows that are all the same."""
    vectors = np.random.default_rng(seed).integers(-1, 2, (n, d)).astype(np.float32)
    found = pca(vectors, seed)
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    squares = np.linalg.svd(centred, compute_uv=False) ** 2
    held = float((found.places**2).sum())
    assert held == pytest.approx(float(squares[:2].sum()), abs=1e-5)
    assert found.places.shape == (n, 2)
    assert 0 <= sum(found.shares) <= 1 + 1e-9


def test_the_map_does_not_depend_on_the_seed_nor_flips():
    """Seeds only start the search; which way an axis points is decided by the axis."""
    vectors = unit(200, 40, 3, centres=4)
    np.testing.assert_allclose(pca(vectors, 1).places, pca(vectors, 2).places, atol=1e-4)


def test_umap_that_is_missing_is_an_error_with_the_line_that_installs_it(monkeypatch):
    """Nothing is drawn by another method in silence."""
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UsageError) as caught:
        project(unit(5, 5, 0), "umap", 0)
    assert "`umap`" in caught.value.message
    assert "pip install 'batchembed[umap]'" in caught.value.hint


# -- clusters --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_tree_is_wards(seed):
    """Each two rows meet where they meet in scipy's."""
    vectors = unit(250, 24, seed, centres=seed)
    oracle = linkage(vectors.astype(np.float64), "ward")
    found = np.array([[j.left, j.right, j.height, j.size] for j in ward(vectors)])
    np.testing.assert_allclose(found[:, 2], oracle[:, 2], atol=2e-4)
    np.testing.assert_allclose(cophenet(found), cophenet(oracle), atol=2e-4)


def test_equal_rows_make_a_tree_too():
    """Distances of zero, all alike: every row is joined once."""
    joins = ward(np.ones((20, 4), np.float32) / 2)
    assert len(joins) == 19
    assert joins[-1].size == 20
    assert sorted(leaves(joins, np.ones((20, 4), np.float32) / 2).tolist()) == list(range(20))


def test_the_order_keeps_every_join_together():
    """Rows of a join stand side by side, and ends that meet are nearer than in scipy's."""
    vectors = unit(300, 16, 5, centres=12)
    joins = ward(vectors)
    order = leaves(joins, vectors)
    place = np.argsort(order)
    members = [[row] for row in range(300)]
    for join in joins:
        members.append(members[join.left] + members[join.right])
        places = place[members[-1]]
        assert places.max() - places.min() + 1 == len(places)

    def steps(rows):
        return float(np.einsum("ij,ij->i", vectors[rows[:-1]], vectors[rows[1:]]).sum())

    assert steps(order) > steps(leaves_list(linkage(vectors, "ward")))


def test_clusters_are_the_trees_and_numbered_as_they_stand():
    """The same cut as scipy's; the first row in the order belongs to cluster 0."""
    vectors = unit(200, 16, 7, centres=6)
    found = cluster(vectors, None)
    oracle = fcluster(linkage(vectors.astype(np.float64), "ward"), 7, "maxclust")
    assert len({(a, b) for a, b in zip(found.of.tolist(), oracle.tolist(), strict=True)}) == 7
    numbers = found.of[found.order]
    assert (np.diff(numbers) >= 0).all()
    assert set(numbers.tolist()) == set(range(7))
    assert found.names == [f"cluster {n}" for n in range(1, 8)]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5])
def test_a_few_rows_are_one_cluster(n):
    """Nothing to cut."""
    found = cluster(unit(n, 4, 0) if n else np.zeros((0, 4), np.float32), ["a"] * n)
    assert sorted(found.order.tolist()) == list(range(n))
    assert found.of.tolist() == [0] * n


def test_a_cluster_is_named_by_what_no_other_says():
    """Words of all texts name nothing; of one text alone, neither."""
    texts = [
        "the moon and planets",
        "the moon and orbits",
        "the bread and flour",
        "the bread and butter",
    ]
    assert names(np.array([0, 0, 1, 1]), texts) == ["moon", "bread"]
    assert names(np.array([0, 0]), ["12 34", "!!"]) == ["cluster 1"]


# -- who is near -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "seed"), [(1, 0), (2, 0), (40, 1), (600, 2)])
def test_nearest_pairs_and_groups_are_those_of_brute_force(n, seed):
    """In float64, over stripes and their borders."""
    vectors = unit(n, 6, seed, centres=5)
    vectors[n // 2 :] = vectors[: n - n // 2]  # half of them twice
    same = np.arange(n)
    same[n // 2 :] = same[: n - n // 2]
    found = look(vectors, same, k=8, pairs=20, least=0.97)
    scores = np.round(vectors.astype(np.float64) @ vectors.T.astype(np.float64), 5)
    k = min(8, n - 1)
    others = scores - 9 * np.eye(n)
    np.testing.assert_allclose(found.scores, -np.sort(-others, axis=1)[:, :k], atol=3e-5)
    rows = np.arange(n)[:, None]
    np.testing.assert_allclose(others[rows, found.near], found.scores, atol=3e-5)
    assert all(len(set(row)) == k for row in found.near.tolist())
    left, right = np.triu_indices(n, 1)
    different = same[left] != same[right]
    best = -np.sort(-scores[left, right][different])[:20]
    np.testing.assert_allclose([score for *_, score in found.pairs], best, atol=3e-5)
    assert all(same[a] != same[b] and a < b for a, b, _ in found.pairs)
    count, labels = connected_components(scores >= 0.97)
    sets = [set(np.flatnonzero(labels == c).tolist()) for c in range(count)]
    assert sorted(map(sorted, found.groups)) == sorted(sorted(s) for s in sets if len(s) > 1)
    assert [len(g) for g in found.groups] == sorted(map(len, found.groups), reverse=True)


def test_thousands_of_equal_rows_are_one_group():
    """No pair is counted out one by one."""
    vectors = np.tile(unit(1, 8, 0), (3000, 1))
    found = look(vectors, np.zeros(3000, np.int64), k=8, pairs=20, least=0.95)
    assert found.groups == [list(range(3000))]
    assert found.pairs == []


# -- colours, bars, time ---------------------------------------------------------------------------


def table(**columns):
    return pa.table(columns)


def test_columns_become_categories_or_scales():
    """By type; what all differ in colours nothing, nor do lists, bytes or nulls alone."""
    day = dt.date(2026, 1, 1)
    kept = table(
        id=[f"{n}" for n in range(100)],
        topic=["b", "a", None, "a"] * 25,
        coded=pa.array(["x", "y"] * 50).dictionary_encode(),
        flag=[True, False] * 50,
        stars=[3, 1, 2, 5] * 25,
        views=list(range(100)),
        price=[Decimal(n) / 4 for n in range(100)],
        day=[day + dt.timedelta(n) for n in range(100)],
        title=[f"title {n}" for n in range(100)],
        tags=[["a"]] * 100,
        raw=[b"x"] * 100,
        nothing=pa.nulls(100),
        empty=pa.nulls(100, pa.float64()),
    )
    found = {one.name: one for one in colourings(kept, ["id"])}
    assert list(found) == ["topic", "coded", "flag", "stars", "views", "price", "day"]
    assert found["topic"].values == ["a", "b"]
    assert found["topic"].codes[:4].tolist() == [1, 0, NONE, 0]
    assert found["flag"].values == ["no", "yes"]
    assert found["stars"].values == ["1", "2", "3", "5"]
    assert (found["views"].low, found["views"].high) == ("0", "99")
    assert (found["day"].low, found["day"].high) == ("2026-01-01", "2026-04-10")
    assert found["views"].codes[[0, 99]].tolist() == [0, SCALE]


def test_values_beyond_the_most_frequent_are_others():
    """Sixty are named."""
    values = [f"{n % 80:02d}" for n in range(8000)]
    found = categories("c", values)
    assert len(found.values) == colours.MOST_VALUES
    assert (found.codes == OTHER).sum() == 2000


@given(st.lists(st.one_of(st.none(), st.floats()), max_size=40))
def test_any_numbers_are_a_scale_or_nothing(values):
    """Infinity stands at the end, NaN nowhere."""
    found = scale("c", values)
    if found is None:
        assert not any(v is not None and np.isfinite(v) for v in values)
        return
    for value, code in zip(values, found.codes.tolist(), strict=True):
        assert (code == NONE) == (value is None or math.isnan(value))
        assert code == NONE or code <= SCALE


@given(st.lists(st.floats(-1e6, 1e6), max_size=200))
def test_bars_count_every_value(values):
    """Over the whole range; nothing is cut off."""
    found = bars(values)
    assert sum(found.counts) == len(values)
    assert len(found.edges) == len(found.counts) + 1
    if values:
        assert (found.least, found.greatest) == (min(values), max(values))


def test_a_long_history_is_thinned_for_a_screen():
    """Sums stay; the history itself is not touched."""
    one = Execution("then", 1, [Point(float(n), 1.0, 2) for n in range(600)], [Wait(0, 1, "", "")])
    two = Execution("later", 1, [Point(float(n), 1.0, 2) for n in range(100)])
    found = thinned([one, two])
    assert sum(len(e.points) for e in found) <= SERIES_POINTS
    assert [sum(p.texts for p in e.points) for e in found] == [1200, 200]
    assert (len(one.points), len(two.points)) == (600, 100)
