"""Rows sorted into buckets come back whole, in order, and in bounded memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.buckets import BUCKETS, Buckets

DTYPE = np.dtype([("key", "<u8"), ("value", "<i8")])


def opened():
    """How many files this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def rows(values):
    made = np.zeros(len(values), DTYPE)
    made["value"] = values
    return made


def oracle(batches):
    found = {}
    for values, numbers in batches:
        for value, number in zip(values, numbers, strict=True):
            found.setdefault(number, []).append(value)
    return dict(sorted(found.items()))


def added(join, batches):
    for values, numbers in batches:
        join.add(rows(values), np.array(numbers, np.uint8))


BATCHES = st.lists(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, 127, 254, 255])),
        max_size=12,
    ).map(lambda pairs: ([v for v, _ in pairs], [n for _, n in pairs])),
    max_size=8,
)


@given(batches=BATCHES, in_memory=st.sampled_from([0, 1, 5, 1000]))
@settings(max_examples=60, deadline=None)
def test_every_row_comes_back_under_its_number_in_the_order_of_adding(batches, in_memory):
    """Spilled or not, `numbered` gives what a plain dict of lists gives."""
    with Buckets(DTYPE, in_memory=in_memory) as join:
        added(join, batches)
        found = {number: some["value"].tolist() for number, some in join.numbered()}
    assert found == oracle(batches)
    assert list(found) == sorted(found)


@given(batches=BATCHES, in_memory=st.sampled_from([0, 5]))
@settings(max_examples=40, deadline=None)
def test_iterating_gives_each_bucket_whole(batches, in_memory):
    """No bucket is ever divided between two arrays, and nothing is lost or doubled."""
    with Buckets(DTYPE, in_memory=in_memory) as join:
        added(join, batches)
        found = [some["value"].tolist() for some in join]
    spilled = list(oracle(batches).values())
    unspilled = [[value for values, _ in batches for value in values]]
    if sum(len(values) for values, _ in batches) > in_memory:
        assert found == spilled
    else:
        assert found in (unspilled, [])


def test_iterating_twice_gives_the_same():
    """What was spilled can be read again."""
    with Buckets(DTYPE, in_memory=3) as join:
        added(join, [([1, 2, 3, 4], [9, 8, 9, 8]), ([5], [9])])
        first = [some["value"].tolist() for some in join]
        assert [some["value"].tolist() for some in join] == first == [[2, 4], [1, 3, 5]]


def test_the_scratch_folder_is_used_and_removed(tmp_path):
    """Spilled rows stand below `scratch`, and leave nothing behind, also after an error."""

    def fail():
        with Buckets(DTYPE, scratch=tmp_path, in_memory=1) as join:
            added(join, [([1, 2, 3], [1, 2, 3])])
            assert len(list(tmp_path.rglob("*"))) == 1 + 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_few_rows_stay_in_memory(tmp_path):
    """Below the bound no file is made."""
    with Buckets(DTYPE, scratch=tmp_path) as join:
        added(join, [([1, 2, 3], [1, 2, 3])])
        list(join)
        assert list(tmp_path.iterdir()) == []


def test_nothing_gives_nothing():
    """Without rows there are no buckets."""
    with Buckets(DTYPE) as join:
        assert list(join) == []
        assert list(join.numbered()) == []


def test_no_file_stays_open(tmp_path):
    """A join has 512 buckets; a process may often open 1,024 files, on some systems 256."""
    before = opened()
    with Buckets(DTYPE, scratch=tmp_path, in_memory=0) as join:
        join.add(rows(range(BUCKETS)), np.arange(BUCKETS, dtype=np.uint8))
        for _ in join:
            assert opened() <= before + 2


def peak(in_memory):
    """The most bytes in use while 400,000 rows (6.4 MB) go in and come out."""
    rng = np.random.default_rng(1)
    tracemalloc.start()
    try:
        with Buckets(DTYPE, in_memory=in_memory) as join:
            for _ in range(40):
                join.add(rows(range(10_000)), rng.integers(0, BUCKETS, 10_000).astype(np.uint8))
            total = sum(len(some) for some in join)
        assert total == 400_000
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_bounded():
    """Rows beyond `in_memory` take no memory; with no bound they do (the control)."""
    assert peak(20_000) < 2_500_000
    assert peak(1_000_000) > 6_400_000
