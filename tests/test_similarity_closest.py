"""Pairs to look at, against brute force in float64; and what the command prints."""

from __future__ import annotations

import json

import numpy as np
import pytest
from fakes.runs import texts
from hypothesis import given
from hypothesis import strategies as st
from test_similarity import brief, random_side, reference

from batchembed import api
from batchembed.errors import UsageError
from batchembed.similarity import closest, duplicates, nearest_to

seeds = st.integers(0, 2**32 - 1)


def by_brute_force(held):
    """Return the (row, row) pairs and float64 cosines of all rows that have a vector."""
    scores = reference(held, held, "cosine")
    rows, others = np.triu_indices(held.rows, 1)
    there = ~np.isnan(scores[rows, others])
    return rows[there], others[there], scores[rows[there], others[there]]


def check(found, held, ranks, count):
    """The pairs found have the best ranks there are, and their own scores."""
    rows, others, scores = by_brute_force(held)
    assert len(found) == len({pair[:2] for pair in found}) == min(count, rows.size)
    by_pair = dict(zip(zip(rows.tolist(), others.tolist(), strict=True), scores, strict=True))
    mine = np.array([by_pair[pair[:2]] for pair in found])
    assert np.allclose([pair[2] for pair in found], mine, atol=1e-6, rtol=0)
    best = np.sort(ranks(scores))[: len(found)]
    assert np.allclose(np.sort(ranks(mine)), best, atol=1e-6, rtol=0)


@brief
@given(seed=seeds, rows=st.integers(0, 50), count=st.integers(1, 30), least=st.booleans())
def test_the_closest_and_the_farthest_pairs(seed, rows, count, least):
    """No pair with a better score is missing, each comes once, in order."""
    held = random_side(seed, rows, 4)
    found = closest(held, count, least=least)
    check(found, held, (lambda s: s) if least else (lambda s: -s), count)
    scores = [pair[2] for pair in found]
    assert scores == sorted(scores, reverse=not least)


@brief
@given(seed=seeds, rows=st.integers(0, 50), count=st.integers(1, 30), score=st.floats(-1, 1))
def test_the_pairs_nearest_to_a_score(seed, rows, count, score):
    """No pair whose score is nearer is missing; they are told by their scores."""
    held = random_side(seed, rows, 4)
    found = nearest_to(held, score, count)
    check(found, held, lambda s: np.abs(s - score), count)
    scores = [pair[2] for pair in found]
    assert scores == sorted(scores, reverse=True)


def test_near_duplicates_of_vectors():
    """Copies and near copies are one group, whose first row is the one to keep."""
    held = random_side(1, 40, 6)
    held.vectors[20] = held.vectors[30] = held.vectors[10] = np.arange(6) + 1
    held.valid[[10, 20, 30]] = True
    groups = {group.keep: group.rows for group in duplicates(held, 0.999)}
    assert set(groups[10]) >= {10, 20, 30}


@pytest.fixture
def job(place, server):
    """A finished run, in the folder of its job."""
    job = place(texts(12), server=server)
    job.run()
    return job


def test_pairs_from_the_command_line(job):
    """The command prints a line a pair; as data it tells rows, ids, words and the score."""
    told = json.loads(job.run("pairs", "run", "--count", "3", "--json").out)
    assert len(told) == 3
    assert set(told[0]) == {
        *("left_row", "right_row", "left_id", "right_id", "left", "right", "score"),
    }
    printed = job.run("pairs", "run", "--near", "0.0", "--count", "2").out.splitlines()
    assert len(printed) == 2
    assert all("  ~  " in line for line in printed)
    assert job.run("pairs", "run", "--least", "--near", "0.5", code=2).out == ""


def test_pairs_and_groups_of_a_run(job):
    """From Python: pairs with their words, and groups of rows."""
    found = api.pairs(job.out, 2)
    assert [len(found), found[0].left_row < found[0].right_row] == [2, True]
    assert found[0].score >= found[1].score
    assert api.near_duplicates(job.out, 0.999) == []
    with pytest.raises(UsageError, match=r"`0\.5`"):
        api.pairs(job.out, least=True, near=0.5)
