"""Coarse products only sieve: whatever they let through, the bytes are those of float32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_similarity import Held, brief, bytes_of, cases, check_neighbors, random_side, table_of

from batchembed.errors import JobError, MissingExtraError
from batchembed.similarity import Grid, choosing, comparison, device
from batchembed.similarity.bfloat16 import Bfloat16, BitsBlock
from batchembed.similarity.blocks import Side, bound_of
from batchembed.similarity.kernels import exact
from batchembed.similarity.products import Buffers, Float32, floor_of
from batchembed.similarity.vectors import square


def rounded(values):
    """Return float32 values rounded to bfloat16, half to even, as float32."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32).astype(np.uint64)
    up = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return (up << 16).astype(np.uint32).view(np.float32).reshape(np.shape(values))


class Coarse:
    """What torch does in bfloat16, done in numpy: operands and scores are rounded."""

    name = "coarse"
    relative = Bfloat16.relative

    def __init__(self):
        self._buffers = Buffers(np.int16)

    def slack(self, dimensions):
        return (2 * dimensions + 16) * 2.0**-24 * 1.05

    def operand(self, unit):
        return rounded(unit)

    def rounding(self, unit, operand):
        lengths = np.sqrt(square(unit))
        moved = np.sqrt(square(unit - operand))
        return float((moved / lengths).max(initial=0.0)) * (1 + 1e-6)

    def stripes(self, left, right, height):
        for start in range(0, len(left), height):
            rows = left[start : start + height]
            bits = self._buffers.shaped(len(rows), len(right))
            scores = rounded((rows @ right.T).astype(np.float32))
            bits[:] = (scores.view(np.uint32) >> 16).astype(np.uint16).view(np.int16)
            yield start, BitsBlock(bits, self._buffers)

    def begin(self, threads=1):
        pass

    def threads(self):
        return 1


def grid_of(grid, product):
    return Grid(grid.tile, grid.stripe, grid.budget, grid.hits, grid.threads, product)


@brief
@given(k=st.integers(1, 70), case=cases)
def test_a_coarse_product_changes_no_neighbor(k, case):
    """The nearest rows found through bfloat16 are byte for byte those found in float32."""
    left, right = case.sides()
    asked = {"top_k": k, "metric": case.metric}
    coarse = grid_of(case.grid, Coarse())
    assert bytes_of(left, right, grid=coarse, **asked) == bytes_of(left, right, **asked)


@brief
@given(least=st.floats(-1, 1), case=cases)
def test_a_coarse_product_changes_no_pair(least, case):
    """The pairs found through bfloat16 are byte for byte those found in float32."""
    left, right = case.sides()
    asked = {"min_score": least, "metric": case.metric}
    coarse = grid_of(case.grid, Coarse())
    assert bytes_of(left, right, grid=coarse, **asked) == bytes_of(left, right, **asked)


def test_many_dimensions_through_a_coarse_product():
    """With clusters, copies and hundreds of dimensions the neighbours are float64's."""
    rng = np.random.default_rng(3)
    centers = rng.standard_normal((8, 200))
    held = Held(centers[rng.integers(8, size=500)] + 0.3 * rng.standard_normal((500, 200)))
    grid = Grid(tile=128, stripe=64, threads=2, product=Coarse())
    check_neighbors(table_of(held, top_k=6, grid=grid), held, None, 6)


def test_without_the_bound_of_rounding_neighbors_are_lost(monkeypatch):
    """Control: when a coarse product says that it rounds nothing, the bytes are others."""
    held = Held(np.random.default_rng(4).standard_normal((600, 32)))
    grid = Grid(tile=128, stripe=64, threads=1, product=Coarse())
    assert bytes_of(held, top_k=5, grid=grid) == bytes_of(held, top_k=5)
    monkeypatch.setattr(Coarse, "rounding", lambda *_: -0.01)
    assert bytes_of(held, top_k=5, grid=grid) != bytes_of(held, top_k=5)


@pytest.mark.parametrize("dimensions", [3, 64, 700])
def test_scores_of_a_coarse_product_stay_within_its_bound(dimensions):
    """No score in bfloat16 differs from the exact one by more than the bound says."""
    rng = np.random.default_rng(5)
    raw = rng.standard_normal(dimensions) + rng.standard_normal((150, dimensions)) * 0.3
    raw = raw.astype(np.float32)
    grid = Grid(tile=150, product=Coarse())
    side = Side(Held(raw), np.arange(150), square(raw), unit=True, grid=grid)
    places = np.divmod(np.arange(150 * 150), 150)
    wanted = exact(side[0], side[0], *places, cosine=True).reshape(150, 150)
    for start, block in side.product.stripes(side[0].operand, side[0].operand, 64):
        scores = block.floats()
        allowed = bound_of(side, side) + Coarse.relative * np.abs(scores)
        assert (np.abs(scores - wanted[start : start + len(scores)]) <= allowed).all()


halves = st.integers(0, 0xFFFF).map(lambda bits: np.uint32(bits << 16).view(np.float32))
finite = halves.filter(np.isfinite)
floors = st.floats(width=32, allow_nan=False) | finite.map(float) | st.just(-np.inf)


@brief
@given(
    values=st.lists(finite, min_size=12, max_size=12),
    rows=st.lists(floors, min_size=3, max_size=3),
    columns=st.none() | st.lists(floors, min_size=4, max_size=4),
)
def test_bits_are_compared_as_the_floats_they_are(values, rows, columns):
    """All scores above a floor are found, whatever the signs; and what is told is the score."""
    scores = np.array(values, np.float32).reshape(3, 4)
    bits = (scores.view(np.uint32) >> 16).astype(np.uint16).view(np.int16)
    rows = np.array(rows, np.float32)
    columns = None if columns is None else np.array(columns, np.float32)
    buffers = Buffers(np.int16)
    buffers.shaped(3, 4)
    flat, told = BitsBlock(bits, buffers).above(rows, columns)
    assert told.tobytes() == scores.ravel()[flat].tobytes()
    over = scores > rows[:, None]
    if columns is not None:
        over |= scores > columns
    assert set(np.flatnonzero(over).tolist()) <= set(flat.tolist())
    assert flat.tolist() == sorted(set(flat.tolist()))


@brief
@given(least=st.floats(-1, 1, width=32), above=st.floats(0, 0.5), relative=st.just(2.0**-8))
def test_a_floor_lets_through_what_may_reach(least, above, relative):
    """Whatever could reach `least` with its own rounding exceeds the floor made of it."""
    score = (least + above) / (1 + relative if least + above > 0 else 1 - relative)
    assert np.float32(score) >= floor_of(np.array([least], np.float32), relative)[0] - 1e-7


def test_the_fastest_product_is_float32_where_torch_is_not_worth_it(monkeypatch):
    """Small comparisons do not import torch; large ones without torch do without."""
    assert isinstance(choosing.fastest(4, 1000), Float32)
    monkeypatch.setattr(choosing, "find_spec", lambda _: None)
    assert isinstance(choosing.fastest(1024, 1 << 40), Float32)


def test_the_faster_product_is_taken(monkeypatch):
    """Where torch is installed both are tried for a moment, and the faster one is taken."""
    monkeypatch.setattr(choosing, "find_spec", lambda _: object())
    monkeypatch.setattr(choosing, "Bfloat16", Coarse)
    for coarse, expected in ((0.1, Coarse), (1.0, Float32)):
        monkeypatch.setattr(
            choosing, "probe", lambda product, _, c=coarse: c if product.name == "coarse" else 1.0
        )
        assert isinstance(choosing.fastest(1024, 1 << 40), expected)


def test_a_probe_takes_time():
    """The seconds of a score are more than none and fewer than a millisecond."""
    assert 0 < choosing.probe(Float32(), 8) < 1e-3


def test_vectors_of_very_different_lengths_are_not_rounded(monkeypatch):
    """With dot products of long and short vectors bfloat16's bound would let all pass."""
    asked_for = []
    monkeypatch.setattr(comparison, "fastest", lambda *told: asked_for.append(told) or Float32())
    held = random_side(1, 30, 4)
    held.vectors[:10] *= 100
    table_of(held, top_k=2, metric="dot")
    assert asked_for == []
    table_of(held, top_k=2)
    assert len(asked_for) == 1


def test_a_device_needs_torch(monkeypatch):
    """Without torch, a GPU is refused and the hint is the line that installs it."""
    monkeypatch.setattr(device, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="torch") as caught:
        bytes_of(Held(np.eye(3)), top_k=1, device="cuda")
    assert "pip install" in caught.value.hint
    for asked, word in (({"dense": True}, "dense"), ({"top_k": 1}, "`tpu`")):
        with pytest.raises(JobError, match=word):
            bytes_of(Held(np.eye(3)), device="cuda" if "dense" in asked else "tpu", **asked)
