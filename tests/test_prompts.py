"""Prompts: their keys, their size in a request, and the controls that patterns give them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchembed.controls import Pattern, Places, controlled, find
from batchembed.exchange import Control, Limits
from batchembed.packing import Batch, Packer
from batchembed.prompts import Image, ImageControl, Text, TokenControl, Tokens, words
from batchembed.spec import Keyer, Spec, unsendable_prompt

KEYER = Keyer(Spec("aleph-alpha", "luminous-base"))
overlaps = st.sampled_from([None, "partial", "complete"])
numbers = st.integers(0, 300)
factors = st.sampled_from([0.0, 0.5, 1.0, 2.0])
pieces = st.one_of(
    st.builds(
        Text,
        st.text(max_size=3),
        st.lists(st.builds(Control, numbers, numbers, factors, overlaps), max_size=2).map(tuple),
    ),
    st.builds(
        Image,
        st.binary(max_size=3),
        st.none() | st.tuples(numbers, numbers, numbers),
        st.lists(
            st.builds(ImageControl, factors, factors, factors, factors, factors, overlaps),
            max_size=2,
        ).map(tuple),
    ),
    st.builds(
        Tokens,
        st.lists(numbers, max_size=3).map(tuple),
        st.lists(st.builds(TokenControl, numbers, factors), max_size=2).map(tuple),
    ),
)
prompts = st.lists(pieces, min_size=1, max_size=3).map(tuple)


@given(prompts, prompts)
def test_different_prompts_have_different_keys(one, other):
    """Whatever is moved from one piece to the next, or from a text to its controls."""
    same = KEYER.prompt_key(one, "query") == KEYER.prompt_key(other, "query")
    assert same == (one == other)


@given(st.text(), st.lists(st.builds(Control, numbers, numbers, factors), max_size=2))
def test_a_text_alone_has_the_key_of_a_text(text, spans):
    """So a corpus of prompts does not pay again for what a corpus of texts has paid."""
    try:
        right = KEYER.key(text, "query", spans)
    except UnicodeEncodeError:
        return
    assert KEYER.prompt_key((Text(text, tuple(spans)),), "query") == right


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ((), "empty_prompt"),
        ((Text(""),), "empty_text"),
        ((Text(" "), Text("\n")), "blank_text"),
        ((Image(b"x"), Text("")), None),
        ((Tokens((1,)),), None),
        ((Image(b"x"), Text("\ud800")), "lone_surrogate"),
        ((Text(" "), Text("a")), None),
    ],
)
def test_what_no_provider_could_embed_is_known_beforehand(prompt, reason):
    """Blank texts count only where there is nothing else."""
    assert unsendable_prompt(prompt) == reason


def packed(given, **limits):
    packer = Packer(Limits(**limits))
    keys = np.arange(len(given) * 16, dtype=np.uint8).reshape(-1, 16)
    batch = Batch(
        keys,
        np.arange(len(given)),
        [words(prompt) for prompt in given],
        "query",
        prompts=list(given),
    )
    return [*packer.add(batch), *packer.flush()]


def test_an_image_is_144_tokens_and_its_base64():
    """Estimates count images, token ids and texts, each in its way; halves keep their prompts."""
    given = [
        (Image(bytes(300)),),
        (Image(bytes(300)), Text("12345678")),
        (Tokens((1, 2, 3)),),
        (Text("1234"),),
    ]
    (whole,) = packed(given, texts_per_request=9)
    assert whole.tokens == 144 + (144 + 2) + 3 + 1
    assert whole.prompts == tuple(given)
    assert whole.texts == ("", "12345678", "", "1234")
    assert whole.part(1, 3).prompts == tuple(given[1:3])
    assert whole.part(1, 3).tokens == whole.tokens // 2
    by_bytes = packed(given, texts_per_request=9, bytes_per_request=410)
    assert [len(request) for request in by_bytes] == [1, 2, 1]
    one_by_one = packed(given, texts_per_request=9, tokens_per_request=150)
    assert [request.tokens for request in one_by_one] == [144, 146 + 3 + 1]


def test_patterns_reach_every_piece():
    """Matches in each text, columns in their text, in images and in token ids."""
    prompt = (Image(b"x", None, (ImageControl(0, 0, 1, 1, 0.5),)), Text("a cat"), Tokens((4, 5)))
    patterns = [
        Pattern(match="cat", factor=3.0, overlap="complete"),
        Pattern(column="caption", factor=2.0),
        Pattern(column="picture", factor=4.0, overlap="partial"),
        Pattern(column="ids", factor=0.5),
    ]
    image, text, ids = controlled(prompt, patterns, Places({"caption": [(0, 5)]}, "picture", "ids"))
    assert image.controls == (
        ImageControl(0, 0, 1, 1, 0.5),
        ImageControl(0.0, 0.0, 1.0, 1.0, 4.0, "partial"),
    )
    assert text.controls == (Control(0, 2, 2.0), Control(2, 3, 3.0, "complete"))
    assert ids.controls == (TokenControl(0, 0.5), TokenControl(1, 0.5))


@given(
    st.text("ab ", max_size=12),
    st.lists(
        st.sampled_from([Pattern(match="a"), Pattern(regex="b+"), Pattern(column="c")]), max_size=3
    ),
    st.data(),
)
def test_controls_never_overlap_and_columns_take_what_is_left(text, patterns, data):
    """Each character of a column is controlled, and none twice."""
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, len(text) - start))
    spans = [(start, length)] if length else []
    found = find(patterns, text, {"c": spans})
    taken = [n for c in found for n in range(c.start, c.start + c.length)]
    assert len(taken) == len(set(taken))
    assert [c.start for c in found] == sorted(c.start for c in found)
    if any(p.column for p in patterns):
        assert set(range(start, start + length)) <= set(taken)
