"""torch's products: found through them, all forms have the bytes that float32 gives.

torch weighs more than everything else, so it lives in a venv of its own: `make torch` makes it,
or BATCHEMBED_TORCH_PYTHON names a python that has it. Elsewhere one slow test runs this file
there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_similarity import Held, brief, bytes_of, cases
from test_similarity_products import grid_of, rounded

from batchembed.errors import UsageError
from batchembed.similarity import Grid, choosing
from batchembed.similarity.bfloat16 import Bfloat16
from batchembed.similarity.blocks import Side, bound_of
from batchembed.similarity.device import OnDevice
from batchembed.similarity.kernels import exact
from batchembed.similarity.products import Float32
from batchembed.similarity.vectors import square

ROOT = Path(__file__).parent.parent
with_torch = pytest.mark.skipif(find_spec("torch") is None, reason="NOT TESTED here: no torch")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is not None, reason="the other tests run right here")
def test_this_file_where_torch_is():
    """All other tests of this file pass in the venv that has torch."""
    named = os.environ.get("BATCHEMBED_TORCH_PYTHON")
    python = Path(named or ROOT / ".venv-torch" / "bin" / "python")
    if not python.exists():
        pytest.skip(f"NOT TESTED: no torch at {python}; `make torch` installs it")
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "passed" in done.stdout


@pytest.fixture(scope="module")
def half():
    return Bfloat16()


@with_torch
def test_torch_rounds_as_it_is_known_to(half):
    """Operands are rounded to bfloat16, half to even, and that moves them as much as is told."""
    unit = np.random.default_rng(0).standard_normal((50, 70)).astype(np.float32)
    operand = half.operand(unit)
    assert (operand.float().numpy() == rounded(unit)).all()
    moved = np.sqrt(square(unit - rounded(unit)) / square(unit)).max()
    assert moved <= half.rounding(unit, operand) <= moved * 1.001


@with_torch
@brief
@given(k=st.integers(1, 70), case=cases)
def test_neighbors_through_torch(k, case):
    """The nearest rows found through torch are byte for byte those found in float32."""
    left, right = case.sides()
    asked = {"top_k": k, "metric": case.metric}
    grid = grid_of(case.grid, Bfloat16())
    assert bytes_of(left, right, grid=grid, **asked) == bytes_of(left, right, **asked)


@with_torch
@brief
@given(least=st.floats(-1, 1), case=cases)
def test_pairs_through_torch(least, case):
    """The pairs found through torch are byte for byte those found in float32."""
    left, right = case.sides()
    asked = {"min_score": least, "metric": case.metric}
    grid = grid_of(case.grid, Bfloat16())
    assert bytes_of(left, right, grid=grid, **asked) == bytes_of(left, right, **asked)


@with_torch
@brief
@given(asked=st.sampled_from([{"top_k": 5}, {"min_score": 0.2}]), case=cases)
def test_what_a_device_makes_is_the_same(asked, case):
    """The code for GPUs, on the processor: byte for byte what float32 gives."""
    left, right = case.sides()
    asked = asked | {"metric": case.metric}
    grid = grid_of(case.grid, OnDevice("cpu"))
    assert bytes_of(left, right, grid=grid, **asked) == bytes_of(left, right, **asked)


@with_torch
def test_a_device_that_is_not_there():
    """Without a GPU, `cuda` is refused with a hint; nothing falls back in silence."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(UsageError, match="cuda") as caught:
        bytes_of(Held(np.eye(3)), top_k=1, device="cuda")
    assert caught.value.hint


@with_torch
@pytest.mark.parametrize("dimensions", [3, 128, 384, 1536])
def test_scores_of_torch_stay_within_the_bound(half, dimensions):
    """No score that torch makes differs from the exact one by more than the bound says."""
    rng = np.random.default_rng(5)
    raw = rng.standard_normal(dimensions) + rng.standard_normal((400, dimensions)) * 0.3
    raw = raw.astype(np.float32)
    side = Side(
        Held(raw), np.arange(400), square(raw), unit=True, grid=Grid(tile=400, product=half)
    )
    places = np.divmod(np.arange(400 * 400), 400)
    wanted = exact(side[0], side[0], *places, cosine=True).reshape(400, 400)
    for start, block in half.stripes(side[0].operand, side[0].operand, 128):
        scores = block.floats()
        allowed = bound_of(side, side) + half.relative * np.abs(scores)
        assert (np.abs(scores - wanted[start : start + len(scores)]) <= allowed).all()


@with_torch
def test_large_sides_through_torch(half):
    """Several full tiles with two threads: the bytes are float32's, and torch's threads return."""
    import torch

    before = torch.get_num_threads()
    held = Held(np.random.default_rng(1).standard_normal((5000, 96)))
    for asked in ({"top_k": 10}, {"min_score": 0.3}):
        told = [bytes_of(held, grid=Grid(threads=2, product=p), **asked) for p in (None, half)]
        assert told[0] == told[1]
    assert torch.get_num_threads() == before


@with_torch
def test_the_probe_imports_torch_where_it_is_worth_it():
    """A large comparison tries both products and takes one of them."""
    chosen = choosing.fastest(64, choosing.WORTH_TORCH)
    assert isinstance(chosen, (Float32, Bfloat16))
    assert "torch" in sys.modules
