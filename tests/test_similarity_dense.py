"""A file of dense scores that was cut off goes on at the stripe, with the same bytes."""

from __future__ import annotations

import contextlib
import hashlib

import numpy as np
import pyarrow as pa
import pytest
from test_similarity import Held, bytes_of
from test_similarity_resume import KilledError

from batchembed import direct
from batchembed.similarity import Grid, SimilaritySettings, compare, dense
from batchembed.store import Store

GRID = Grid(tile=8, threads=2, keep_seconds=0.0)


def held(rows, seed=5, **more):
    """Return some vectors, of which one is missing and one zero."""
    vectors = np.random.default_rng(seed).normal(size=(rows, 24))
    vectors[40] = 0
    valid = np.arange(rows) != 3
    return Held(vectors, valid, **more)


def named(rows):
    """Return ids in a dictionary."""
    return pa.array([f"name {row % 7}" for row in range(rows)]).dictionary_encode()


def dense_to(folder, left, right=None, *, after=None, hashed=False, **asked):
    """Write dense scores, to the end or until so many stripes; return (bytes, progress, writer)."""
    told = []

    def progress(done, total):
        told.append(done)
        if after is not None and len(told) > after:
            raise KilledError

    settings, kept = SimilaritySettings(dense=True, **asked), folder / "kept"
    with (
        contextlib.suppress(KilledError),
        Store(folder).create("scores.arrow", hashed=hashed, part="kept/part") as writer,
    ):
        compare(left, right, settings, write=writer, progress=progress, grid=GRID, keep=kept)
        writer.commit()
    file = folder / "scores.arrow"
    return (file.read_bytes() if file.exists() else None), told, writer


@pytest.fixture(autouse=True)
def _low(monkeypatch):
    """Make stripes and pieces small, so that a few rows have many of both."""
    monkeypatch.setattr(dense, "STRIPE", 16)
    monkeypatch.setattr(direct, "PIECE", 4096)


@pytest.mark.parametrize("hashed", [False, True])
@pytest.mark.parametrize("kind", ["float32", "float16"])
@pytest.mark.parametrize("other", [200, 90])
def test_dense_scores_that_were_killed_go_on_at_the_stripe(tmp_path, hashed, kind, other):
    """The bytes are those of an unbroken run, and what was on disk is not made again."""
    left = held(200, ids=named(200))
    right = None if other == 200 else held(other, seed=6)
    whole = bytes_of(left, right, grid=GRID, dense=True, dtype=kind)
    for after in (4, 3):
        got, told, _ = dense_to(tmp_path, left, right, after=after, hashed=hashed, dtype=kind)
        assert got is None
    got, told, writer = dense_to(tmp_path, left, right, hashed=hashed, dtype=kind)
    assert got == whole
    assert told[0] >= 6 * 16 * other  # taken up at once: what the first two had on disk
    assert writer.sha256 == (hashlib.sha256(whole).hexdigest() if hashed else "")


@pytest.mark.parametrize("times", [1, 2])
def test_a_damaged_stripe_is_made_again_with_all_that_follow(tmp_path, times):
    """One bit, or a page of zeros as a power cut leaves it, costs what comes behind it."""
    left = held(300)
    whole = bytes_of(left, grid=GRID, dense=True)
    dense_to(tmp_path, left, after=12)
    part = tmp_path / "kept" / "part"
    content = bytearray(part.read_bytes())
    for at in (70_000, 150_000)[:times]:  # in the fourth stripe, and in the eighth
        content[at] ^= 1
    content[-4096:] = bytes(4096)
    part.write_bytes(content)
    got, told, _ = dense_to(tmp_path, left)
    assert got == whole
    assert told[0] == 3 * 16 * 300


@pytest.mark.parametrize("cut", [0, 5, 300, 50_000])
def test_a_part_that_was_cut_short_is_made_again_from_there(tmp_path, cut):
    """Whatever the log says of it."""
    left = held(300)
    dense_to(tmp_path, left, after=12)
    part = tmp_path / "kept" / "part"
    part.write_bytes(part.read_bytes()[:cut])
    assert dense_to(tmp_path, left)[0] == bytes_of(left, grid=GRID, dense=True)


def test_a_part_of_another_comparison_is_not_taken_up(tmp_path):
    """Neither of other vectors, nor of another type, nor where there is no log of it."""
    left = held(200)
    for changed, asked in ((held(200, seed=7), {}), (left, {"dtype": "float16"})):
        dense_to(tmp_path, left, after=8)
        got, told, _ = dense_to(tmp_path, changed, **asked)
        assert got == bytes_of(changed, grid=GRID, dense=True, **asked)
        assert told[0] == 16 * 200
    dense_to(tmp_path, left, after=8)
    for log in (tmp_path / "kept").glob("log-*"):
        log.unlink()
    assert dense_to(tmp_path, left)[0] == bytes_of(left, grid=GRID, dense=True)
