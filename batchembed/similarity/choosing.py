"""Which product takes the least time here, found by trying."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import numpy as np
from threadpoolctl import threadpool_limits

from batchembed.similarity.bfloat16 import Bfloat16
from batchembed.similarity.products import Float32, Product

WORTH_TORCH = 1 << 40
_PROBE = 2048
_GAIN = 1.3


def probe(product: Product, dimensions: int) -> float:
    """Return the seconds that one score takes one thread, the best of a few blocks."""
    rows = np.random.default_rng(0).standard_normal((_PROBE, dimensions), np.float32)
    operand, seconds = product.operand(rows), []
    for _ in range(4):
        began = time.perf_counter()
        for _, block in product.stripes(operand, operand, _PROBE // 4):
            block.above(np.full(_PROBE // 4, np.inf, np.float32), None)
        seconds.append(time.perf_counter() - began)
    return min(seconds) / _PROBE**2


def fastest(dimensions: int, scores: int) -> Product:
    """Return the product that takes the least time for so many scores, by trying them.

    torch takes seconds to import, so it is tried only where it could save more, and where it is
    installed.
    """
    plain = Float32()
    if scores * dimensions < WORTH_TORCH or find_spec("torch") is None:
        return plain
    other = Bfloat16()
    with alone(other):
        gain = probe(plain, dimensions) / probe(other, dimensions)
    return other if gain > _GAIN else plain


@contextmanager
def alone(product: Product) -> Iterator[None]:
    """Keep BLAS to one thread in all threads, and torch in this one."""
    before = product.threads()
    with threadpool_limits(1, user_api="blas"):
        product.begin()
        try:
            yield
        finally:
            product.begin(before)
