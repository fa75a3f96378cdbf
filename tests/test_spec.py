"""Keys: equal exactly when the vector would be, on every machine and in every version."""

import hashlib
import struct
from dataclasses import fields, replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed import spec as module
from batchembed.described import Described
from batchembed.exchange import ROLES, Control
from batchembed.spec import Keyer, Spec, unsendable

SPEC = Spec("openai", "text-embedding-3-small")
KEYER = Keyer(SPEC)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
CONTROLS = st.lists(
    st.builds(
        Control,
        st.integers(0, 3),
        st.integers(0, 3) | st.integers(-(2**63), 2**63 - 1),
        st.sampled_from([0.0, 0.5, 2.0]) | st.floats(allow_nan=False),
    ),
    max_size=3,
).map(tuple)
INPUTS = st.tuples(TEXTS, st.sampled_from(ROLES), CONTROLS)


def told(controls):
    """Controls as bits: -0.0 is another factor than 0.0."""
    return tuple((c.start, c.length, struct.pack("<d", c.factor)) for c in controls)


def same(one, other):
    return (one[0], one[1], told(one[2])) == (other[0], other[1], told(other[2]))


# -- keys ------------------------------------------------------------------------------------------


def test_the_keys_of_this_version_are_those_of_every_version():
    """A changed key makes everything that was paid for unpaid: these may never change."""
    assert SPEC.fingerprint() == "bcaa17947814009be4569843c71e99dc"
    assert KEYER.key("hello", "symmetric").hex() == "8745ff7a690a66c429e8347eb44f40b9"
    assert KEYER.key("hällo 😀", "query").hex() == "177af2fcf47995d308b04771010e795e"
    assert (
        KEYER.key("hello", "document", [Control(0, 5, 2.5)]).hex()
        == "14ea5aae1d71b7f6eaebf090a2029856"
    )


def test_the_key_is_what_the_format_says():
    """Anyone can compute a key from the description alone."""
    canonical = b'{"name":"text-embedding-3-small","provider":"openai"}'
    mark = hashlib.blake2b(b"batchembed spec 1\n" + canonical, digest_size=16).hexdigest()
    seed = b"batchembed key 1\n" + mark.encode() + b"query\n"
    span = b"\xff" + struct.pack("<qqd", 1, 2, 3.0)
    assert KEYER.key("é", "query") == hashlib.blake2b(seed + b"\xc3\xa9", digest_size=16).digest()
    assert (
        KEYER.key("é", "query", [Control(1, 2, 3.0)])
        == hashlib.blake2b(seed + b"\xc3\xa9" + span, digest_size=16).digest()
    )


def collides(keyer, one, other):
    return (keyer.key(*one) == keyer.key(*other)) != same(one, other)


@given(one=INPUTS, other=INPUTS)
@settings(max_examples=400, deadline=None)
def test_two_inputs_have_the_same_key_exactly_when_they_are_the_same(one, other):
    """Text, role and controls all count, and nothing else does."""
    assert not collides(KEYER, one, other)


@given(one=INPUTS, cut=st.integers(0, 3), other=CONTROLS)
@settings(max_examples=200, deadline=None)
def test_no_text_can_be_taken_for_controls(one, cut, other):
    """Inputs that share most of their bytes have different keys all the same."""
    text, role, controls = one
    for near in (
        (text[:cut], role, controls),
        (text + text[:cut], role, controls),
        (text, role, controls[:cut]),
        (text, role, controls + other),
        (text + "ÿ", role, controls),
    ):
        assert not collides(KEYER, one, near)


class Careless(Keyer):
    """What a key would be without the byte that ends the text."""

    def key(self, text, role, controls=()):
        parts = [text, *(f"{c.start}{c.length}{c.factor}" for c in controls)]
        return hashlib.blake2b("".join(parts).encode(), digest_size=16).digest()


def test_a_careless_key_is_seen():
    """The control: keys that only join what they are made of do collide."""
    keyer = Careless(SPEC)
    assert collides(keyer, ("a", "query", ()), ("a", "document", ()))
    assert collides(
        keyer, ("a", "query", (Control(1, 11, 1.0),)), ("a1", "query", (Control(1, 1, 1.0),))
    )


@given(rows=st.lists(INPUTS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_many_keys_are_the_keys_one_by_one(rows):
    """The fast path for plain texts and the general one agree with `key`."""
    texts = [text for text, _, _ in rows]
    roles = [role for _, role, _ in rows]
    controls = [own for _, _, own in rows]
    one_by_one = [KEYER.key(*row) for row in rows]
    found = KEYER.keys(texts, roles, controls)
    assert found.shape == (len(rows), 16)
    assert [key.tobytes() for key in found] == one_by_one
    plain = [KEYER.key(text, "query") for text in texts]
    assert [key.tobytes() for key in KEYER.keys(texts, "query")] == plain
    assert [k.tobytes() for k in KEYER.keys(texts, "query", [()] * len(texts))] == plain
    assert [k.tobytes() for k in KEYER.keys(texts, ["query"] * len(texts))] == plain


def test_a_lone_surrogate_has_no_key():
    """Half a character cannot be sent, so it has no identity either."""
    with pytest.raises(UnicodeEncodeError):
        KEYER.key("\ud800", "query")
    with pytest.raises(UnicodeEncodeError):
        KEYER.keys(["fine", "\ud800"], "query")


# -- fingerprints ----------------------------------------------------------------------------------

OTHER = {
    "provider": "aleph-alpha",
    "name": "another",
    "base_url": "https://own.example",
    "dimensions": 128,
    "normalize": False,
    "on_long_text": "truncate",
    "endpoint": "embed",
    "instruction": "find it",
    "layers": (1, 2),
    "pooling": ("mean",),
    "contextual_control_threshold": 0.5,
    "control_log_additive": False,
    "prefixes": (("query", "q: "),),
    "instructions": (("query", "find it"),),
    "prompts": (("query", "query"),),
    "http": Described(body='{"lines":"{texts}"}', vectors="[*]"),
}
LATER = {"instructions", "prompts", "http"}  # fields that came after the first runs of this format


def test_another_value_is_known_for_every_field():
    """A field that is added comes under the tests below."""
    assert set(OTHER) == {field.name for field in fields(Spec)}


@pytest.mark.parametrize("name", OTHER)
def test_every_field_counts(name):
    """Another value of any field is another fingerprint and another key."""
    changed = replace(SPEC, **{name: OTHER[name]})
    assert changed.fingerprint() != SPEC.fingerprint()
    assert Keyer(changed).key("a", "query") != KEYER.key("a", "query")


@pytest.mark.parametrize(
    "name", [f.name for f in fields(Spec) if f.name not in ("provider", "name")]
)
def test_a_field_at_its_default_does_not_count(name):
    """So a field that a later version adds does not invalidate what was paid for."""
    default = {field.name: field.default for field in fields(Spec)}[name]
    assert replace(SPEC, **{name: default}).fingerprint() == SPEC.fingerprint()
    assert name not in SPEC.told()


def test_the_fingerprint_does_not_depend_on_the_order_of_fields(monkeypatch):
    """Fields may be reordered in the source."""
    whole = Spec(**OTHER)
    expected = whole.fingerprint()
    backwards = tuple(reversed(fields(Spec)))
    monkeypatch.setattr(module, "fields", lambda _: backwards)
    assert list(whole.told()) == list(reversed(OTHER))
    assert whole.fingerprint() == expected


def test_a_later_field_changes_no_fingerprint_of_before():
    """What was paid for with an earlier version keeps its identity."""
    early = Spec(**{name: value for name, value in OTHER.items() if name not in LATER})
    assert early.fingerprint() == "9fbfbc14853621835f5e8ce56b5e30d1"


@given(
    one=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    other=st.lists(st.integers(0, 99), max_size=3).map(tuple),
    names=st.tuples(TEXTS, TEXTS),
)
@settings(max_examples=100, deadline=None)
def test_fingerprints_are_equal_exactly_when_the_specs_are(one, other, names):
    """No value can be written so that it looks like another field."""
    left = Spec("openai", names[0], layers=one)
    right = Spec("openai", names[1], layers=other)
    assert (left.fingerprint() == right.fingerprint()) == (left == right)


# -- differences -----------------------------------------------------------------------------------


def stored(spec):
    """What a file gives back of `told`."""
    return orjson.loads(orjson.dumps(spec.told()))


def test_differences_name_the_field_the_old_value_and_the_new_one():
    """A person reads what changed, and which way."""
    old = replace(SPEC, dimensions=256, layers=(1, 2))
    new = replace(SPEC, name="text-embedding-3-large", instruction="find it")
    assert new.differences(stored(old)) == [
        "dimensions: `256` -> not set",
        "instruction: not set -> `find it`",
        "layers: `[1, 2]` -> `()`",
        "name: `text-embedding-3-small` -> `text-embedding-3-large`",
    ]


def test_a_change_from_a_default_names_the_default():
    """A field that was left out had a value too."""
    assert replace(SPEC, normalize=False).differences(stored(SPEC)) == [
        "normalize: `True` -> `False`"
    ]
    assert SPEC.differences({**stored(SPEC), "soon": 1}) == ["soon: `1` -> not set"]


@pytest.mark.parametrize("name", OTHER)
def test_no_difference_is_seen_where_there_is_none(name):
    """What a file gives back compares as equal, tuples too."""
    changed = replace(SPEC, **{name: OTHER[name]})
    assert changed.differences(stored(changed)) == []
    assert len(changed.differences(stored(SPEC))) == 1


# -- what cannot be sent ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "null_text"),
        ("", "empty_text"),
        (" \n\t\u00a0\u2003", "blank_text"),
        ("fine \udfff", "lone_surrogate"),
        ("x", None),
        (" 0 ", None),
        ("\u200b", None),
        ("😀", None),
        ("\0", None),
    ],
)
def test_why_a_text_cannot_be_sent(text, why):
    """Nothing, nothing visible, or half a character; anything else is asked."""
    assert unsendable(text) == why
