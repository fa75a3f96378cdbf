"""Groups of near duplicates, against scipy's connected components."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from test_similarity import Held, brief, bytes_of, random_side, rows_of, table_of

from batchembed.errors import JobError
from batchembed.similarity.groups import connected, groups_of


def by_scipy(pairs, rows):
    """Return the first row of each row's component."""
    if not pairs:
        return np.arange(rows)
    left, right = np.array(pairs).T
    graph = coo_matrix((np.ones(len(pairs)), (left, right)), shape=(rows, rows))
    _, labels = connected_components(graph, directed=False)
    return np.array([np.flatnonzero(labels == label)[0] for label in labels])


@brief
@given(
    rows=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 80),
    cut=st.integers(1, 30),
)
def test_what_is_connected_is_one_group(rows, seed, count, cut):
    """Through any number of pairs, in whatever pieces they come, rows find their first row."""
    pairs = np.random.default_rng(seed).integers(rows, size=(count, 2))
    pieces = [
        (part[:, 0], part[:, 1], np.ones(len(part)))
        for part in np.split(pairs, range(cut, count, cut))
    ]
    found = connected(iter(pieces), rows)
    expected = by_scipy(pairs.tolist(), rows)
    assert found.tolist() == expected.tolist()
    groups = [group.rows for group in groups_of(found)]
    assert groups == [
        tuple(np.flatnonzero(expected == first).tolist())
        for first in np.unique(expected)
        if (expected == first).sum() > 1
    ]
    assert all(group.keep == min(group.rows) for group in groups_of(found))


def test_a_long_chain_is_one_group():
    """A row that is connected through all others finds the first."""
    order = np.random.default_rng(0).permutation(3000)
    first = connected(iter([(order[:-1], order[1:], np.ones(2999))]), 3000)
    assert not first.any()


@pytest.mark.parametrize("seed", range(4))
def test_groups_of_a_run_are_those_of_its_pairs(seed):
    """The file names every row that has company, with the row to keep and the group's size."""
    held = random_side(seed, 120, 3)
    pairs = table_of(held, min_score=0.97)
    expected = by_scipy(
        list(
            zip(
                rows_of(held, pairs["left_id"].to_pylist()),
                rows_of(held, pairs["right_id"].to_pylist()),
                strict=True,
            )
        ),
        120,
    )
    table = table_of(held, min_score=0.97, groups=True)
    rows = rows_of(held, table["id"].to_pylist())
    assert sorted(rows) == [r for r in range(120) if (expected == expected[r]).sum() > 1]
    assert table["keep"].to_pylist() == [expected[row] == row for row in rows]
    assert table["rows"].to_pylist() == [int((expected == expected[row]).sum()) for row in rows]
    numbers = table["group"].to_pylist()
    assert numbers == sorted(numbers)
    assert len({expected[row] for row in rows}) == len(set(numbers)) == max(numbers, default=-1) + 1


def test_no_groups_are_an_empty_table():
    """Where no two rows score enough the table has its columns and no row."""
    table = table_of(Held(np.eye(3), ids=pa.array([1, 2, 3])), min_score=0.5, groups=True)
    assert table.num_rows == 0
    assert table.column_names == ["group", "id", "keep", "rows"]


def test_groups_need_a_score_and_one_run():
    """Groups without a score, or of two runs, are refused."""
    held = Held(np.eye(3))
    with pytest.raises(JobError, match="need a score"):
        bytes_of(held, top_k=1, groups=True)
    with pytest.raises(JobError, match="within one run"):
        bytes_of(held, held, min_score=0.5, groups=True)
