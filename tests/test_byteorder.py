"""Which numbers are told to have their bytes in the other order, and that no others are."""

import numpy as np
import pytest

from batchembed.providers.byteorder import ByteOrderError, check

SIZES = [32, 384, 1024]


def told(vectors):
    """Whether each of these alone is told to be in the other order."""
    found = set()
    for row in vectors:
        try:
            check(row)
        except ByteOrderError:
            found.add(True)
        else:
            found.add(False)
    assert len(found) == 1, "some are, some are not"
    return found.pop()


def drawn(width, seed=65):
    return np.random.default_rng(seed).standard_normal((4, width)).astype(np.float32)


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("source", ["float32", "float16", "bfloat16"])
def test_bytes_in_the_other_order_are_seen(width, source):
    """Whatever type the server computes in: its lowest bytes may all be 0, and come first then."""
    for seed in range(50):
        given_in = drawn(width, seed) / np.float32(width**0.5)
        if source == "float16":
            given_in = given_in.astype(np.float16).astype(np.float32)
        elif source == "bfloat16":
            given_in = (given_in.view(np.uint32) & 0xFFFF0000).view(np.float32)
        assert not told(given_in)
        assert told(given_in.byteswap())
        assert told(given_in[:1].byteswap())


@pytest.mark.parametrize("width", SIZES)
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e-9, 1, 127, 1e5, 1e9, 1e30, np.inf, np.nan])
def test_numbers_of_any_size_are_in_the_right_order(width, scale):
    """What is odd for another reason is not told to be in another order: that ends the run."""
    with np.errstate(invalid="ignore", over="ignore"):
        odd = drawn(width) * np.float32(scale)
    assert not told(odd)
    assert not told(np.round(odd))
    odd[:, ::3] = 0
    odd[1] = np.nan
    odd[2] = 0
    assert not told(odd)
    assert not told(np.zeros_like(odd))


def test_a_few_numbers_tell_nothing():
    """One that is tiny may be ordinary with its bytes turned round, by chance."""
    given_in = np.array([[1.0, 0, 0]], np.float32).byteswap()
    assert 0 < given_in.max() < 1e-38
    assert not told(given_in)
