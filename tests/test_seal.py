"""Files that prove themselves: any bit that is another is seen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchembed.seal import (
    BrokenSealError,
    is_sealed,
    is_sealed_toml,
    sealed,
    sealed_toml,
    unsealed,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda name: name != "check"), values))
def test_what_is_sealed_is_read(told):
    """Any object comes back without its check, and its file is JSON for anybody."""
    raw = sealed(told)
    assert unsealed(raw) == told
    assert is_sealed(raw)
    assert list(json.loads(raw)) == [*told, "check"]


def test_every_flipped_bit_is_seen():
    """Of a whole file, its check included: no other bytes count as sealed."""
    raw = sealed({"rows": 10, "name": "x", "list": [1, 2]})
    for at in range(len(raw)):
        for bit in range(8):
            other = raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :]
            assert not is_sealed(other), (at, bit)
    for cut in range(len(raw)):
        assert not is_sealed(raw[:cut])


def test_a_check_that_does_not_hold_is_an_error():
    """And a file without one is of a version that sealed nothing."""
    raw = sealed({"rows": 10})
    with pytest.raises(BrokenSealError, match="SHA-256"):
        unsealed(raw.replace(b"10", b"11"))
    assert unsealed(b'{"rows":10}') == {"rows": 10}


def test_every_flipped_bit_of_a_toml_file_is_seen():
    """The line itself included."""
    raw = sealed_toml("# a job\n[corpus]\npath = 'ü'\n").encode()
    assert is_sealed_toml(raw)
    assert not is_sealed_toml(b"# a job\n")
    for at in range(len(raw)):
        for bit in range(8):
            assert not is_sealed_toml(raw[:at] + bytes([raw[at] ^ 1 << bit]) + raw[at + 1 :])


def test_the_check_is_what_the_page_says():
    """SHA-256 of the bytes with zeros in its place, by hashlib alone."""
    import hashlib

    raw = sealed({"a": 1})
    told = json.loads(raw)["check"]
    assert hashlib.sha256(raw.replace(told.encode(), b"0" * 64)).hexdigest() == told
