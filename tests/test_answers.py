"""What an answer's vectors must prove: the edges, and rows that are joined of several vectors."""

import numpy as np
import pytest
from fakes.vectors import vectors

from batchembed.embed.answers import SHORT, alike, checked, same, sound, twins

UNIT = vectors([f"text {n}" for n in range(12)])
D = UNIT.shape[1]


def joined(rows, of):
    """So many rows, each of so many of the vectors, one after the other."""
    return UNIT[: rows * of].reshape(rows, of * D).copy()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("rows", "of"), [(1, 2), (4, 3), (6, 2), (2, 6)])
def test_a_row_of_several_vectors_is_checked_by_each_of_them(rows, of, normalize):
    """It is as good as its worst; what is right keeps its bits and its place."""
    given_in = joined(rows, of)
    found, good = checked(given_in, normalize=normalize, joined=of)
    assert found.tobytes() == joined(rows, of).tobytes()
    assert found.shape == given_in.shape
    assert good.tolist() == [True] * rows
    for row in range(rows):
        for at in range(of):
            spoiled = joined(rows, of)
            spoiled[row, at * D : (at + 1) * D] = 0
            _, good = checked(spoiled, normalize=normalize, joined=of)
            assert good.tolist() == [other != row for other in range(rows)]


def test_each_vector_of_a_row_is_made_of_unit_length_by_itself():
    """The length of the whole row is the root of how many it is joined of."""
    scales = np.array([[2.0, 0.5], [1.0, 30.0], [0.01, 1.0]], np.float32)
    given_in = (joined(3, 2).reshape(3, 2, D) * scales[:, :, None]).reshape(3, 2 * D)
    found, good = checked(given_in, normalize=True, joined=2)
    assert good.all()
    lengths = np.linalg.norm(found.astype(np.float64).reshape(6, D), axis=1)
    assert np.abs(lengths - 1).max() < 1e-6
    assert np.abs(found - joined(3, 2)).max() < 1e-6


def test_a_row_that_cannot_be_cut_evenly_is_checked_as_one():
    """Seven numbers are not two vectors: what else is wrong with them is found elsewhere."""
    odd = np.zeros((2, 7), np.float32)
    odd[0, 0] = 1
    found, good = checked(odd, normalize=True, joined=2)
    assert found.tobytes() == odd.tobytes()
    assert good.tolist() == [True, False]


@pytest.mark.parametrize(
    ("length", "kept"),
    [(1.0, True), (1.0009, True), (0.9991, True), (1.0011, False), (0.9989, False)],
)
def test_how_far_off_a_length_may_be(length, kept):
    """Within a thousandth it is rounding, and keeps its bits; beyond it is mended."""
    given_in = (UNIT * np.float64(length)).astype(np.float32)
    found, good = checked(given_in, normalize=True)
    assert good.all()
    assert (found.tobytes() == given_in.tobytes()) == kept
    off = np.abs(np.linalg.norm(found.astype(np.float64), axis=1) - 1).max()
    assert off < (1.01e-3 if kept else 1e-6)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("square", "passes"), [(0.9986, True), (1.0014, True), (0.9984, False), (1.0016, False)]
)
def test_the_quick_look_passes_nothing_that_is_not_of_unit_length(count, square, passes):
    """One that is off among others is enough; and not a number is not passed."""
    some = UNIT[:count].copy()
    some[-1] *= np.sqrt(square)
    assert sound(some, distinct=True) == passes
    some[-1, 3] = np.nan
    assert not sound(some, distinct=True)


def test_the_quick_look_sees_that_two_begin_alike():
    """They need not be twins for that; where they may be, it does not look."""
    some = UNIT[:4].copy()
    assert sound(some, distinct=True)
    some[3] = some[0]
    some[3, SHORT:] = -some[0, SHORT:]
    assert not sound(some, distinct=True)
    assert sound(some, distinct=False)
    assert not twins(some).any()
    some[3, SHORT - 1] = -some[0, SHORT - 1]
    assert sound(some, distinct=True)


def test_vectors_shorter_than_the_quick_look_are_compared_whole():
    """Three numbers: they are told apart by the last of them."""
    some = np.array([[0.6, 0.8, 0.0], [0.6, 0.0, 0.8], [0.6, 0.0, -0.8]], np.float32)
    assert sound(some, distinct=True)
    assert not sound(some[[0, 1, 2, 1]], distinct=True)


def test_twins_are_alike_where_case_accents_and_whitespace_are_all():
    """Each group by itself; those that are no twins are none of it."""
    texts = [
        "Foo  bar",
        "foo bar",
        "f\u00f3o\tBAR ",
        "one",
        "two",
        "Stra\u00dfe",
        "STRASSE",
        "alone",
    ]
    a, b, c, d = UNIT[:4]
    given_in = np.stack([a, a, a, b, b, c, c, d])
    double = twins(given_in)
    assert double.tolist() == [True] * 7 + [False]
    expected = [True] * 3 + [False] * 2 + [True] * 2 + [False]
    assert alike(given_in, texts, double).tolist() == expected
    assert not alike(given_in, texts, np.zeros(8, np.bool_)).any()


def test_two_answers_to_one_text_are_equal_but_for_rounding():
    """Whatever their lengths: a server may give float16 the one time."""
    one = UNIT[:1]
    assert same(one, one.astype(np.float16).astype(np.float32) * 3)
    assert not same(one, UNIT[1:2])
    assert not same(one, -one)
    off = np.zeros((1, D), np.float32)
    off[0, :2] = (0.9998, np.sqrt(1 - 0.9998**2))
    axis = np.eye(1, D, dtype=np.float32)
    assert not same(axis, off)
    off[0, :2] = (0.99995, np.sqrt(1 - 0.99995**2))
    assert same(axis, off)


def test_what_is_of_length_1_keeps_its_bits():
    """Also in half precision; the rest is divided by its length."""
    assert checked(UNIT, normalize=True)[0].tobytes() == UNIT.tobytes()
    assert np.allclose(checked(UNIT * 40, normalize=True)[0], UNIT, atol=1e-6)
    half = UNIT.astype(np.float16).astype(np.float32)
    assert checked(half, normalize=True)[0].tobytes() == half.tobytes()


def test_what_has_no_direction_stays_as_it_came():
    """Zero, NaN and infinity are no vectors, and their neighbours are."""
    rows = np.array([[0, 0], [np.nan, 1], [np.inf, 1], [3, 4]], dtype=np.float32)
    found, good = checked(rows.copy(), normalize=True)
    assert found[:3].tobytes() == rows[:3].tobytes()
    assert found[3].tolist() == np.float32([0.6, 0.8]).tolist()
    assert good.tolist() == [False, False, False, True]
