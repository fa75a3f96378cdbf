"""What keeps comparisons exact and their memory bounded, each defence also taken away once."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_similarity import (
    GRID,
    Held,
    brief,
    bytes_of,
    check_neighbors,
    check_pairs,
    random_side,
    table_of,
)

from batchembed.similarity import (
    Grid,
    SimilaritySettings,
    blocks,
    compare,
    crew,
    heap,
    kernels,
    pools,
    search,
)
from batchembed.similarity.blocks import Side, read_rows, symmetric_order
from batchembed.similarity.pools import Pool
from batchembed.similarity.products import Buffers, Float32, above
from batchembed.similarity.vectors import group, square, survey


def near_copies(rows=400, dimensions=24, seed=0):
    """Return vectors whose scores are closer together than float32 products can tell."""
    rng = np.random.default_rng(seed)
    center = rng.standard_normal(dimensions)
    return center + 3e-4 * rng.standard_normal((rows, dimensions))


@brief
@given(seed=st.integers(0, 2**32 - 1), density=st.floats(0.01, 1.0))
def test_scattered_rows_are_read_as_they_stand(seed, density):
    """Rows with gaps between them are read right, and no more at once than a few thousand."""
    rng = np.random.default_rng(seed)
    held = Held(np.arange(9000)[:, None].repeat(2, 1))
    rows = np.flatnonzero(rng.random(9000) < density)[: int(rng.integers(1, 3000))]
    assert (read_rows(held, rows)[:, 0] == rows).all()
    assert max(held.reads, default=0) <= max(1024, rows.size)


@brief
@given(rows=st.integers(1, 200), tile=st.integers(1, 40), budget=st.integers(0, 5000))
def test_every_pair_of_tiles_comes_once(rows, tile, budget):
    """Each unordered pair of tiles is made once, each tile's own pair before its others."""
    grid = Grid(tile=tile, budget=budget)
    side = Side(Held(np.ones((rows, 2))), np.arange(rows), np.ones(rows), unit=True, grid=grid)
    pairs = list(symmetric_order(side))
    expected = {(i, j) for i in range(side.tiles) for j in range(i + 1)}
    assert sorted((max(pair), min(pair)) for pair in pairs) == sorted(expected)
    seen = set()
    for first, second in pairs:
        if first == second:
            seen.add(first)
    assert seen == set(range(side.tiles))


@brief
@given(st.lists(st.floats(-4, 4, width=32), min_size=1, max_size=50), st.integers(0, 2**32 - 60))
def test_sort_keys_order_by_score_then_position(scores, start):
    """Keys sort best score first, then by position, and give both back."""
    values = np.array(scores, np.float32)
    places = start + np.arange(values.size)
    keys = kernels.sort_keys(values, places)
    order = sorted(range(values.size), key=lambda one: (-float(values[one]), places[one]))
    assert np.argsort(keys).tolist() == order
    back, positions = kernels.from_keys(keys)
    assert (back == values).all()
    assert (positions == places).all()


def test_equal_pairs_score_equal_bits_in_any_company():
    """The exact score of a pair has the same bits alone, in a crowd, and both ways round."""
    rng = np.random.default_rng(6)
    for dimensions in (1, 2, 3, 7, 33, 100, 385):
        raw = rng.standard_normal((90, dimensions)).astype(np.float32)
        side = Side(Held(raw), np.arange(90), square(raw), unit=True, grid=GRID)
        rows, columns = rng.integers(90, size=(2, 5000))
        crowd = kernels.exact_between(side, side, rows, columns)
        assert (kernels.exact_between(side, side, columns, rows) == crowd).all()
        for one in range(0, 5000, 97):
            alone = kernels.exact_between(side, side, rows[one : one + 1], columns[one : one + 1])
            assert alone[0] == crowd[one]
        assert (square(raw[7:8]) == square(raw)[7]).all()


def test_blocks_stay_within_the_bound():
    """No product of a block differs from the exact score by more than the slack says."""
    rng = np.random.default_rng(7)
    for dimensions in (1, 16, 384, 1500):
        raw = (rng.standard_normal(dimensions) + rng.standard_normal((200, dimensions)) * 0.1) * 3
        raw = raw.astype(np.float32)
        tile = Side(Held(raw), np.arange(200), square(raw), unit=True, grid=GRID)[0]
        places = np.divmod(np.arange(200 * 200), 200)
        exact = kernels.exact(tile, tile, *places, cosine=True).reshape(200, 200)
        product = Float32()
        for start, block in product.stripes(tile.operand, tile.operand, 64):
            scores = block.floats()
            error = np.abs(scores - exact[start : start + len(scores)]).max()
            assert error <= product.slack(dimensions)


def test_copies_are_grouped_by_their_bytes():
    """Rows are one group exactly when their vectors are equal."""
    vectors = np.random.default_rng(8).integers(0, 2, (300, 3)).astype(np.float32)
    vectors[5] = [1, 0, 2]
    held = Held(vectors)
    found = survey(held)
    groups = group(held, found)
    told = [vectors[row].tobytes() for row in found.kept]
    first = [told.index(one) for one in told]
    assert groups.first[groups.of].tolist() == first
    for number, size in enumerate(groups.sizes):
        members = groups.members[groups.starts[number] :][:size]
        assert members.tolist() == [p for p, one in enumerate(groups.of) if one == number]


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_near_copies_are_told_apart(metric):
    """Scores that float32 products cannot tell apart are still ranked as in float64."""
    held = Held(near_copies())
    small = Grid(tile=64, stripe=32, threads=2)
    check_neighbors(table_of(held, grid=small, top_k=5, metric=metric), held, None, 5, metric)
    assert bytes_of(held, top_k=5, metric=metric, grid=small) == bytes_of(
        held, top_k=5, metric=metric
    )


def best_of_float64(held, k):
    unit = held.vectors.astype(np.float64)
    unit /= np.sqrt((unit * unit).sum(1))[:, None]
    scores = unit @ unit.T
    np.fill_diagonal(scores, -2)
    return np.sort(scores, axis=1)[:, ::-1][:, :k]


def shortfall(held, k=5):
    """Return by how much written k-th scores fall short of float64's, at most."""
    table = table_of(held, top_k=k, grid=Grid(tile=64, stripe=32, threads=1))
    written = [[one["score"] for one in found] for found in table["neighbors"].to_pylist()]
    return float((best_of_float64(held, k) - np.array(written)).max())


def test_without_the_slack_the_check_sees_wrong_neighbors(monkeypatch):
    """Control: with a slack that is below zero, neighbours go missing and the check says so."""
    held = Held(np.random.default_rng(3).standard_normal((300, 8)))
    check_neighbors(table_of(held, top_k=5), held, None, 5)
    monkeypatch.setattr(Float32, "slack", lambda *_: -0.05)
    with pytest.raises(AssertionError):
        check_neighbors(table_of(held, top_k=5), held, None, 5)


def test_without_both_directions_the_check_sees_missing_neighbors(monkeypatch):
    """Control: when a block is read for its rows only, the check says so."""
    held = random_side(21, 90, 6)
    small = Grid(tile=16, threads=1)
    check_neighbors(table_of(held, grid=small, top_k=4), held, None, 4)

    def one_of_each(side):
        return ((i, j) for i, j in symmetric_order(side) if i == j or (i + j) % 2)

    monkeypatch.setattr(search, "symmetric_order", one_of_each)
    with pytest.raises(AssertionError):
        check_neighbors(table_of(held, grid=small, top_k=4), held, None, 4)


def test_ties_by_another_rule_are_seen(monkeypatch):
    """Control: when ties go to the last row instead of the first, the check says so."""
    held = Held(np.random.default_rng(1).integers(0, 2, (60, 3)))
    check_neighbors(table_of(held, top_k=4), held, None, 4)
    true_keys, true_back, last = kernels.sort_keys, kernels.from_keys, 0xFFFFFFFF

    def from_keys(keys):
        scores, positions = true_back(keys)
        return scores, last - positions

    for module in (kernels, pools):
        monkeypatch.setattr(module, "sort_keys", lambda s, p: true_keys(s, last - p))
        monkeypatch.setattr(module, "from_keys", from_keys)
    with pytest.raises(AssertionError):
        check_neighbors(table_of(held, top_k=4), held, None, 4)


def test_pairs_without_the_slack_are_seen_missing(monkeypatch):
    """Control: when the threshold of blocks is not lowered, exact ties are lost."""
    rng = np.random.default_rng(2)
    held = Held(rng.standard_normal((40, 200)).repeat(2, axis=0) * rng.random((80, 1)))
    check_pairs(table_of(held, min_score=1.0), held, None, 1.0)
    assert table_of(held, min_score=1.0).num_rows == 40
    monkeypatch.setattr(Float32, "slack", lambda *_: -1e-6)
    assert table_of(held, min_score=1.0).num_rows < 40


def test_a_crowd_of_near_copies_is_cut_exactly(monkeypatch):
    """Pools whose band overflows score at once, and still keep the right k."""
    settled = []
    true_settle = Pool._settle

    def settle(self, rows):
        settled.append(rows.size)
        true_settle(self, rows)

    monkeypatch.setattr(Pool, "_settle", settle)
    rng = np.random.default_rng(5)
    # Multiples of a few directions: float32 cosines of exactly 1 by the hundred, no two equal.
    held = Held(rng.standard_normal((3, 16)).repeat(200, axis=0) * rng.uniform(1, 2, (600, 1)))
    assert shortfall(held) < 1e-6
    assert sum(settled) > 100
    check_neighbors(
        table_of(held, top_k=5, grid=Grid(tile=64, stripe=32, threads=1)), held, None, 5
    )


def test_a_quarter_of_copies_costs_no_more(monkeypatch):
    """With 25 % identical rows the pools take in no more candidates than without."""
    taken = []
    true_add = Pool.add

    def add(self, rows, positions, scores):
        taken.append(rows.size)
        true_add(self, rows, positions, scores)

    monkeypatch.setattr(Pool, "add", add)
    vectors = np.random.default_rng(6).standard_normal((4000, 16)).astype(np.float32)
    counts = []
    for copies in (0, 1000):
        vectors[:copies] = vectors[0]
        taken.clear()
        held = Held(vectors, ids=pa.array(np.arange(4000)))
        table = table_of(held, top_k=10, grid=Grid(threads=1))  # else their race is counted too
        counts.append(sum(taken))
    assert counts[1] < counts[0]
    found = table["neighbors"].to_pylist()
    assert [one["id"] for one in found[500]] == list(range(10))


@pytest.mark.parametrize("turn", ["rows", "columns"])
def test_what_meets_a_tile_before_its_own_block_brings_few_candidates(monkeypatch, turn):
    """Threads race: a block may come before those that show its tiles' floors."""
    taken = []
    true_add = Pool.add

    def add(self, rows, positions, scores):
        taken.append(rows.size)
        true_add(self, rows, positions, scores)

    order = [(0, 1), (0, 0), (1, 1)] if turn == "rows" else [(0, 0), (0, 1), (1, 1)]
    monkeypatch.setattr(Pool, "add", add)
    monkeypatch.setattr(search, "symmetric_order", lambda _: iter(order))
    held = Held(np.random.default_rng(8).standard_normal((500, 16)))
    grid = Grid(tile=250, stripe=125, threads=1)
    check_neighbors(table_of(held, top_k=10, grid=grid), held, None, 10)
    few = sum(taken)
    monkeypatch.setattr(Pool, "open", lambda *_: False)  # control: all of the block comes in
    taken.clear()
    check_neighbors(table_of(held, top_k=10, grid=grid), held, None, 10)
    assert sum(taken) > few + 125 * 200


@brief
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 70),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_passes_is_found_where_it_stands(rows, columns, share, seed):
    """Whatever the size and however many pass: all above a floor, and none missed at the end."""
    rng = np.random.default_rng(seed)
    scores = rng.random((rows, columns), np.float32)
    floors = np.full(rows, 1 - share, np.float32), rng.random(columns, np.float32)
    buffers = Buffers(np.float32)
    buffers.shaped(rows, columns)
    for sides in ((floors[0], None), floors):
        found = above(scores, *sides, buffers)
        wanted = scores > floors[0][:, None]
        wanted |= False if sides[1] is None else scores > floors[1]
        assert (np.diff(found) > 0).all()
        assert np.isin(np.flatnonzero(wanted), found).all()
        lowest = min(one.min() for one in sides if one is not None)
        assert (scores.ravel()[found] > lowest).all()


GAPS = """
import numpy, sys
from pathlib import Path
from batchembed.similarity import heap

def held():
    told = Path("/proc/self/statm").read_text().split()[1]
    return int(told) * 4096

rows = [numpy.ones(100_000 // 8) for _ in range(1000)]
kept = rows[::100]
rows.clear()
before = held()
heap.give_back()
print(before - held(), sum(map(numpy.sum, kept)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc has it")
def test_memory_between_what_is_kept_goes_back():
    """Of 100 MB in which a hundredth is still in use, nearly all is given back."""
    told = subprocess.run([sys.executable, "-c", GAPS], capture_output=True, text=True, check=True)
    freed, kept = map(float, told.stdout.split())
    assert freed > 80e6
    assert kept == 10 * 12_500


def test_another_c_library_keeps_its_memory():
    """Where it cannot give memory back, nothing happens."""
    heap.give_back(lambda _: object())


@pytest.mark.parametrize("asked", [{"top_k": 3}, {"min_score": 0.5}], ids=str)
def test_a_long_comparison_gives_memory_back_whenever_it_keeps_work(monkeypatch, tmp_path, asked):
    """As often as what is done is kept, and the answer is the same."""
    given = []
    monkeypatch.setattr(heap, "give_back", lambda: given.append(1))
    held = Held(np.random.default_rng(3).standard_normal((600, 16)))
    grid = Grid(tile=64, stripe=32, threads=1, keep_seconds=0)
    found = bytes_of(held, grid=grid, keep=tmp_path, **asked)
    assert len(given) >= 2
    assert found == bytes_of(held, **asked)


class Nowhere(io.RawIOBase):
    """A file that forgets."""

    def writable(self):
        return True

    def write(self, data):
        return len(data)


@pytest.mark.parametrize("asked", [{"min_score": 0.9}, {"top_k": 3}])
def test_memory_does_not_grow_with_the_square_of_the_rows(asked):
    """Twice the rows, all copies of one another and so four times the pairs, in less than thrice
    the memory; for pairs, hardly more.
    """
    grid = Grid(tile=256, stripe=64, hits=20_000, threads=1)
    peaks = []
    for rows in (700, 1400):
        held = Held(np.ones((rows, 4)), ids=pa.array(np.arange(rows)))
        tracemalloc.start()
        compare(held, None, SimilaritySettings(**asked), write=Nowhere(), grid=grid)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * (1.4 if "min_score" in asked else 3)
    assert peaks[1] < 12 << 20


def test_dense_scores_do_not_depend_on_how_many_follow():
    """Rows that come later, even one alone in its tile, change no bit of the others' scores."""
    vectors = np.random.default_rng(0).standard_normal((2060, 40))
    told = []
    for rows in (2049, 2060):
        dense = table_of(Held(vectors[:rows]), dense=True)["scores"].combine_chunks()
        told.append(np.array(dense.flatten()).reshape(rows, rows)[:2049, :2049])
    assert (told[0] == told[1]).all()


def test_near_copies_at_the_ceiling_are_scored_once(monkeypatch):
    """Where all scores are 1, a row that has its k is done: no score is made exactly for more."""
    scored = []
    true_exact = kernels.exact

    def exact(left, right, rows, columns, *, cosine):
        scored.append(rows.size)
        return true_exact(left, right, rows, columns, cosine=cosine)

    monkeypatch.setattr(kernels, "exact", exact)
    rng = np.random.default_rng(5)
    held = Held(rng.standard_normal(16) * rng.uniform(1, 2, (1000, 1)))
    check_neighbors(table_of(held, top_k=5, grid=Grid(tile=64, threads=1)), held, None, 5)
    assert sum(scored) < 1000 * 250


def test_tiles_in_memory_stay_within_the_budget():
    """However many tiles there are, no more are held than the budget pays for."""
    held = Held(np.random.default_rng(0).standard_normal((640, 8)))
    grid = Grid(tile=16, budget=16 * 8 * 8 * 6, threads=1)
    side = Side(held, np.arange(640), square(held.vectors), unit=True, grid=grid)
    assert side.panel == 3
    most = 0
    for i, j in symmetric_order(side):
        assert (len(side[i]), len(side[j])) == (16, 16)
        most = max(most, len(side._kept))
    assert most <= 6
    assert len(held.reads) < 40 * 41 // 2  # panels are reused: far fewer reads than pairs


PROGRAM = """
import io, sys, numpy, hashlib
sys.path[:0] = ["tests"]
from test_similarity import Held, bytes_of
held = Held(numpy.random.default_rng(0).standard_normal((2100, 130)))
for asked in ({"top_k": 3}, {"min_score": 0.2}, {"dense": True}):
    print(hashlib.sha256(bytes_of(held, **asked)).hexdigest())
"""


def test_the_number_of_threads_changes_no_byte():
    """All three forms have the same bytes with one and with two threads of BLAS."""
    told = set()
    for threads in ("1", "2"):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True
        )
        told.add(done.stdout)
    assert len(told) == 1


def test_an_error_in_a_thread_ends_the_comparison():
    """What a thread raises reaches the caller, once the others have stopped."""

    class Broken(Held):
        def read(self, start, stop):
            if len(self.reads) > 5:
                raise InterruptedError
            return super().read(start, stop)

    broken = Broken(np.random.default_rng(0).standard_normal((100, 4)))
    with pytest.raises(InterruptedError):
        bytes_of(broken, top_k=3, grid=Grid(tile=8, budget=0, threads=3))


def test_a_crew_does_all_the_work_once():
    """Every piece of work is done once, by one thread or by several."""
    for threads in (1, 4):
        done = []
        crew.each(done.append, iter(range(100)), threads)
        assert sorted(done) == list(range(100))


def test_unit_vectors_are_multiplied_as_they_are():
    """Vectors that are normalised already are not copied; others are, in float64."""
    vectors = np.random.default_rng(0).standard_normal((50, 300))
    unit = (vectors / np.sqrt((vectors**2).sum(1))[:, None]).astype(np.float32)
    assert blocks.normalized(unit, square(unit)) is unit
    unit[3] *= 5
    again = blocks.normalized(unit, square(unit))
    assert np.allclose(square(again), 1, atol=1e-6)
    assert (again[0] == unit[0]).all()


@pytest.mark.parametrize("most", [1, 300, 5000])
def test_candidates_are_scored_some_tiles_at_a_time(most, monkeypatch):
    """No more candidates are scored together than were allowed, but for those of one tile."""
    held, sizes = random_side(5, 150, 8), []
    grid = Grid(tile=16, stripe=8, threads=2)
    expected = bytes_of(held, grid=grid, top_k=3)
    score = kernels.exact_between

    def counting(left, right, rows, columns, **more):
        if more:  # the last scoring, not that of one crowded pool
            sizes.append((rows.size, len(np.unique(rows // 16))))
        return score(left, right, rows, columns, **more)

    monkeypatch.setattr(search, "_ENTRIES", most)
    monkeypatch.setattr(kernels, "exact_between", counting)
    assert bytes_of(held, grid=grid, top_k=3) == expected
    assert all(size <= most or tiles == 1 for size, tiles in sizes)
    assert (len(sizes) == 1) == (most == 5000)
