"""The bare encoder loop: a process of its own that imports nothing but what it needs."""

from __future__ import annotations

import sys
import time

import pyarrow.parquet as pq

from batchembed.providers.static_model import StaticModel


def bare(corpus: str) -> None:
    """Read the texts, embed them, keep nothing; print the seconds of the loop, and the texts."""
    texts = pq.read_table(corpus, columns=["text"])["text"].to_pylist()
    model = StaticModel.load()
    began = time.perf_counter()
    for start in range(0, len(texts), 1024):
        model.encode(texts[start : start + 1024])
    print(time.perf_counter() - began, len(texts))


if __name__ == "__main__":
    bare(sys.argv[1])
