"""Comparisons that were killed go on, and those of a corpus that grew make only what is new."""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_similarity import Held, brief, bytes_of, cases, random_side

from batchembed.errors import DamagedError
from batchembed.similarity import Grid, SimilaritySettings, compare
from batchembed.similarity.kept import Kept
from batchembed.similarity.products import Float32

SMALL = Grid(tile=8, stripe=4, threads=1, hits=40, keep_seconds=0.0)
FORMS = ({"top_k": 4}, {"min_score": 0.2})
forms = pytest.mark.parametrize("asked", FORMS, ids=lambda asked: next(iter(asked)))


class KilledError(Exception):
    """The process ended here."""


def killed(left, right, keep, after, **asked):
    """Compare until so many blocks are done; return whether that was before the end."""
    told = []

    def progress(done, total):
        told.append(done)
        if len(told) > after:
            raise KilledError

    settings = SimilaritySettings(**asked)
    try:
        compare(left, right, settings, write=io.BytesIO(), progress=progress, grid=SMALL, keep=keep)
    except KilledError:
        return True
    return False


@brief
@given(
    case=cases,
    asked=st.sampled_from(FORMS),
    kills=st.lists(st.integers(0, 40), min_size=1, max_size=3),
)
def test_a_comparison_that_was_killed_goes_on_to_the_same_bytes(case, asked, kills):
    """However often it is killed, and wherever: the file is what it is without."""
    left, right = case.sides()
    asked = asked | {"metric": case.metric}
    with tempfile.TemporaryDirectory() as folder:
        keep = Path(folder) / "kept"
        for after in kills:
            killed(left, right, keep, after, **asked)
        got = bytes_of(left, right, grid=SMALL, keep=keep, **asked)
    assert got == bytes_of(left, right, **asked)


class Counting(Float32):
    """Counts the products that are made."""

    def __init__(self):
        super().__init__()
        self.made = 0

    def stripes(self, left, right, height):
        self.made += len(left) * len(right)
        yield from super().stripes(left, right, height)


def products_of(left, right=None, **asked):
    """Return how many scores a comparison multiplies, and its bytes."""
    counting = Counting()
    got = bytes_of(left, right, grid=replace(SMALL, product=counting), **asked)
    return counting.made, got


def steps_of(held, **asked):
    """Return how often a comparison tells its progress."""
    told = []
    settings = SimilaritySettings(**asked)
    count = lambda *at: told.append(at)
    compare(held, None, settings, write=io.BytesIO(), progress=count, grid=SMALL)
    return len(told)


@forms
def test_what_was_done_is_not_done_again(asked, tmp_path):
    """Killed near its end, a comparison makes few blocks when it goes on."""
    held = Held(np.random.default_rng(0).standard_normal((200, 6)))
    whole, expected = products_of(held, **asked)
    blocks = steps_of(held, **asked)
    assert killed(held, None, tmp_path / "kept", blocks * 3 // 4, **asked)
    rest, got = products_of(held, keep=tmp_path / "kept", **asked)
    assert got == expected
    assert rest < whole * 0.4


@forms
@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.99])
def test_damaged_kept_work_is_made_again(asked, where, tmp_path):
    """A flipped bit in what was kept, or a torn end, changes no byte of the file."""
    held = random_side(3, 90, 5)
    expected = bytes_of(held, **asked)
    for tear in (False, True):
        keep = tmp_path / f"kept-{tear}"
        assert killed(held, None, keep, 2, **asked)
        (file,) = [path for path in keep.iterdir() if path.is_file()]
        data = bytearray(file.read_bytes())
        data[int(where * len(data))] ^= 16
        file.write_bytes(data[: int(where * len(data))] if tear else data)
        assert bytes_of(held, grid=SMALL, keep=keep, **asked) == expected


@forms
def test_kept_work_of_another_question_is_not_used(asked, tmp_path):
    """Another corpus, or another question, starts from its own beginning."""
    held, other = random_side(3, 90, 5), random_side(4, 90, 5)
    assert killed(held, None, tmp_path, 2, **asked)
    assert bytes_of(other, grid=SMALL, keep=tmp_path, **asked) == bytes_of(other, **asked)
    assert killed(held, None, tmp_path, 2, **asked)
    again = asked | {"metric": "dot"}
    assert bytes_of(held, grid=SMALL, keep=tmp_path, **again) == bytes_of(held, **again)


def test_a_snapshot_is_not_made_too_often(tmp_path):
    """Snapshots that take long are made at most a twentieth of the time."""
    now = [0.0]
    kept = Kept(tmp_path, {}, seconds=10.0, clock=lambda: now[0])
    assert not kept.due()
    now[0] = 10.0
    assert kept.due()

    def slow():
        now[0] += 3
        yield {"a": np.arange(3)}

    kept.snapshot(slow())
    now[0] += 59
    assert not kept.due()
    now[0] += 1
    assert kept.due()
    assert [frame["a"].tolist() for frame in kept.snapshot_frames()] == [[0, 1, 2]]


def first(held, rows):
    """The corpus as it was when it had fewer rows."""
    return Held(held.vectors[:rows], held.valid[:rows], held.ids.slice(0, rows), name=held.name)


@brief
@given(case=cases, asked=st.sampled_from(FORMS), old=st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_a_corpus_that_grew_gives_the_bytes_of_all_anew(case, asked, old):
    """Old rows' scores come from the earlier file, and nothing tells that they did."""
    left, right = case.sides()
    asked = asked | {"metric": case.metric}
    before = first(left, int(old[0] * left.rows))
    others = None if right is None else first(right, int(old[1] * right.rows))
    with tempfile.TemporaryDirectory() as folder:
        known = Path(folder) / "known.arrow"
        known.write_bytes(bytes_of(before, others, **asked))
        got = bytes_of(left, right, grid=case.grid, known=known, **asked)
        keep = Path(folder) / "kept"
        killed(left, right, keep, 2, **asked)
        again = bytes_of(left, right, grid=SMALL, known=known, keep=keep, **asked)
    assert got == again == bytes_of(left, right, **asked)


@forms
def test_growth_multiplies_only_what_is_new(asked, tmp_path):
    """One row in a hundred is new: about one block in fifty is made."""
    held = Held(np.random.default_rng(0).standard_normal((808, 6)))
    known = tmp_path / "known.arrow"
    known.write_bytes(bytes_of(first(held, 800), **asked))
    whole, expected = products_of(held, **asked)
    fresh, got = products_of(held, known=known, **asked)
    assert got == expected
    assert fresh < whole * 0.03


@forms
def test_rows_that_changed_are_compared_again(asked, tmp_path):
    """An old row with another vector, or a name that stands twice: all is made anew."""
    held = random_side(6, 60, 4)
    known = tmp_path / "known.arrow"
    known.write_bytes(bytes_of(first(held, 50), **asked))
    changed = Held(held.vectors.copy(), held.valid)
    changed.vectors[0] += 1
    changed.valid[0] = True
    assert bytes_of(changed, known=known, **asked) == bytes_of(changed, **asked)
    twins = Held(held.vectors, held.valid, ids=pa.array([f"row {row // 2}" for row in range(60)]))
    known.write_bytes(bytes_of(first(twins, 50), **asked))
    assert bytes_of(twins, known=known, **asked) == bytes_of(twins, **asked)


@forms
def test_an_earlier_file_of_another_question_is_not_used(asked, tmp_path):
    """Another k or score, another metric, no Arrow file at all, none there: all is made anew."""
    held = random_side(6, 60, 4)
    expected = bytes_of(held, **asked)
    known = tmp_path / "known.arrow"
    assert bytes_of(held, known=known, **asked) == expected
    known.write_bytes(b"ARROW1\0\0 something else")
    assert bytes_of(held, known=known, **asked) == expected
    more = {name: value * 2 for name, value in asked.items()}
    for other in (more, asked | {"metric": "dot"}):
        known.write_bytes(bytes_of(first(held, 50), **other))
        assert bytes_of(held, known=known, **asked) == expected


@forms
def test_an_earlier_file_with_a_wrong_score_is_refused(asked, tmp_path):
    """A score that is not that of its two rows ends the comparison and names the file."""
    held = Held(np.random.default_rng(1).standard_normal((60, 4)))
    known = tmp_path / "known.arrow"
    data = bytearray(bytes_of(first(held, 50), **asked))
    table = pa.ipc.open_file(pa.py_buffer(bytes(data))).read_all()
    column = table.column(table.num_columns - 1).combine_chunks()
    scores = column if "min_score" in asked else column.flatten().field("score")
    value = np.float32(scores[3].as_py()).tobytes()
    at = data.index(value)
    data[at : at + 4] = np.float32(0.123).tobytes()
    known.write_bytes(data)
    with pytest.raises(DamagedError, match=r"known\.arrow"):
        bytes_of(held, known=known, **asked)
