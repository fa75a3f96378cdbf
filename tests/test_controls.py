"""Attention control by pattern: what is found, in which order, and what cannot hold."""

import itertools
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchembed.controls import Pattern, check, find
from batchembed.exchange import Control

TEXTS = st.text("aäb 🎮.\n", max_size=30)


def test_the_founding_example():
    """The word at character 10 is found there, with its length and factor."""
    found = find([Pattern(match="play", factor=7)], "I want to play on my TV.")
    assert found == (Control(10, 4, 7),)


def test_every_occurrence_is_found_in_order():
    """A pattern that occurs several times gives a control each time."""
    found = find([Pattern(match="b", factor=2), Pattern(match="a", factor=3)], "abab")
    assert [(c.start, c.factor) for c in found] == [(0, 3), (1, 2), (2, 3), (3, 2)]


def test_positions_count_characters_and_not_bytes():
    """What stands before a match may be wide in UTF-8 or UTF-16 without moving it."""
    assert find([Pattern(match="play", factor=2)], "Grüße 🎮 play")[0].start == 8


def test_a_literal_is_not_a_regular_expression():
    """A match of `.` finds full stops only, and capitals count."""
    assert [c.start for c in find([Pattern(match=".", factor=2)], "a.b.")] == [1, 3]
    assert find([Pattern(match="Play", factor=2)], "play") == ()


def test_a_regular_expression_finds_what_it_matches():
    """A regular expression may ignore capitals and take in different lengths."""
    found = find([Pattern(regex=r"(?i)\bplay\w*", factor=2)], "Play, player, display")
    assert [(c.start, c.length) for c in found] == [(0, 4), (6, 6)]


def test_a_regular_expression_that_matches_nothing_somewhere_gives_no_control_there():
    """`a*` matches the empty text everywhere; only what it covers counts."""
    assert [(c.start, c.length) for c in find([Pattern(regex="a*", factor=2)], "baab")] == [(1, 2)]


def test_the_first_pattern_has_what_two_compete_for():
    """Where patterns overlap, the one listed first stands, whichever begins earlier."""
    patterns = [Pattern(match="player", factor=2), Pattern(match="a player", factor=3)]
    assert find(patterns, "a player, a play") == (Control(2, 6, 2),)
    found = find([Pattern(match="aa", factor=2), Pattern(match="a", factor=3)], "aaa")
    assert found == (Control(0, 2, 2), Control(2, 1, 3))


@given(TEXTS, st.lists(st.text("aäb 🎮", min_size=1, max_size=3), max_size=4))
def test_controls_cover_what_they_say_and_never_each_other(text, words):
    """Each control covers its own word, in order, none overlap, and all of them can hold."""
    found = find([Pattern(match=word, factor=n) for n, word in enumerate(words)], text)
    assert check(found, text) is None
    for control in found:
        covered = text[control.start : control.start + control.length]
        assert covered == words[int(control.factor)]
    for one, next_one in itertools.pairwise(found):
        assert one.start + one.length <= next_one.start


@given(TEXTS, st.text("aäb 🎮", min_size=1, max_size=3))
def test_one_literal_is_found_as_often_as_python_counts_it(text, word):
    """The number of controls of one literal is str.count's."""
    assert len(find([Pattern(match=word, factor=2)], text)) == text.count(word)


@pytest.mark.parametrize(
    ("control", "reason"),
    [
        (Control(-1, 2, 1.0), "before the text"),
        (Control(0, 0, 1.0), "covers nothing"),
        (Control(1, -1, 1.0), "covers nothing"),
        (Control(0, 4, 1.0), "beyond the text of 3"),
        (Control(3, 1, 1.0), "beyond the text of 3"),
        (Control(0, 1, -0.1), "`-0.1`"),
        (Control(0, 1, math.nan), "`nan`"),
        (Control(0, 1, math.inf), "`inf`"),
    ],
)
def test_what_cannot_hold_is_named(control, reason):
    """Each impossible control is told apart, behind one that is fine."""
    assert reason in check([Control(0, 3, 0.0), control], "abc")


def test_what_can_hold_is_let_through():
    """A control may cover the whole text and suppress it; a text may have none."""
    assert check([Control(0, 3, 0.0)], "abc") is None
    assert check([], "") is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (Pattern(factor=2), "one of `match`, `regex` and `column`"),
        (Pattern(match="a", regex="a", factor=2), "one of `match`, `regex` and `column`"),
        (Pattern(match="", factor=2), "empty"),
        (Pattern(regex="", factor=2), "empty"),
        (Pattern(match="a", factor=-1), "`-1`"),
        (Pattern(match="a", factor=math.nan), "`nan`"),
        (Pattern(regex="(", factor=1), "cannot be read"),
        (Pattern(regex="[[a]b]", factor=1), "nested set"),
        (Pattern(regex="a{99999999999999999999}", factor=1), "cannot be read"),
    ],
)
def test_a_pattern_that_cannot_be_used_says_why(pattern, why):
    """Each mistake in a pattern is told apart."""
    assert why in pattern.mistake()


@given(st.text(max_size=20))
def test_any_text_is_a_good_literal_and_any_regex_is_good_or_told(text):
    """Every text but the empty one may be matched; a regex works, or is said not to."""
    assert (Pattern(match=text).mistake() is None) == bool(text)
    try:
        re.compile(text)
        readable = bool(text)
    except (re.error, FutureWarning):
        readable = False
    assert (Pattern(regex=text).mistake() is None) == readable
