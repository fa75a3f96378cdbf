"""Texts become requests: each exactly once, in order, within every limit."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed import packing
from batchembed.exchange import ROLES, Control, Limits
from batchembed.packing import Batch, Packer, estimate_tokens, text_bytes

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
ROWS = st.tuples(TEXTS, st.sampled_from(ROLES), st.sampled_from([(), (Control(0, 1, 2.0),)]))
LIMITS = st.builds(
    Limits,
    texts_per_request=st.integers(1, 6),
    bytes_per_request=st.none() | st.integers(1, 40),
    tokens_per_request=st.none() | st.integers(1, 12),
)


def key(number):
    return number.to_bytes(16, "big")


def batches(rows, cuts, *, plain=False):
    """The rows as batches; each key is the row's number."""
    bounds = sorted({0, *(min(c, len(rows)) for c in cuts), len(rows)})
    for start, stop in itertools.pairwise(bounds):
        some = rows[start:stop]
        keys = np.frombuffer(b"".join(map(key, range(start, stop))), np.uint8).reshape(-1, 16)
        roles = "query" if plain else [role for _, role, _ in some]
        controls = None if plain else [own for _, _, own in some]
        texts = [text for text, _, _ in some]
        yield Batch(keys, np.arange(start, stop), texts, roles, controls)


def packed(packer, rows, cuts=(), **more):
    found = [asked for batch in batches(rows, cuts, **more) for asked in packer.add(batch)]
    found += packer.flush()
    assert [asked.rows.tolist() for asked in found] == [numbers(asked) for asked in found]
    return found


def numbers(asked):
    return [int.from_bytes(one.tobytes(), "big") for one in asked.keys]


def size(texts, limits):
    """Texts, bytes and tokens by the definition, each with its limit."""
    told = [len(text.encode()) for text in texts]
    yield len(texts), limits.texts_per_request
    yield sum(told), limits.bytes_per_request
    yield sum(max(1, (n + 3) // 4) for n in told), limits.tokens_per_request


def fits(texts, limits):
    return len(texts) == 1 or all(most is None or n <= most for n, most in size(texts, limits))


def complaints(rows, requests, limits):
    """What is not as it must be."""
    found = []
    for role in ROLES:
        sent = [n for asked in requests if asked.role == role for n in numbers(asked)]
        if sent != [n for n, row in enumerate(rows) if row[1] == role]:
            found.append(f"{role}: rows {sent}")
    for asked in requests:
        own = [rows[n] for n in numbers(asked)]
        if [row[0] for row in own] != list(asked.texts) or not asked.texts:
            found.append("texts that are not those of the keys")
        spans = tuple(row[2] for row in own)
        if asked.controls != (spans if any(spans) else None):
            found.append("controls that are not those of the keys")
        if not fits(asked.texts, limits):
            found.append("beyond a limit")
        if asked.tokens != sum(max(1, (len(t.encode()) + 3) // 4) for t in asked.texts):
            found.append("tokens that are not those of the texts")
    return found


@given(
    rows=st.lists(ROWS, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4), limits=LIMITS
)
@settings(max_examples=200, deadline=None)
def test_every_text_goes_once_in_order_within_the_limits(rows, cuts, limits):
    """Whatever the roles, the limits, and the batches that the texts came in."""
    assert complaints(rows, packed(Packer(limits), rows, cuts), limits) == []


@given(
    rows=st.lists(ROWS, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4), limits=LIMITS
)
@settings(max_examples=100, deadline=None)
def test_no_request_is_shorter_than_it_must_be(rows, cuts, limits):
    """The text that begins the next request of a role would not have fitted into this one."""
    requests = packed(Packer(limits), rows, cuts)
    for role in ROLES:
        own = [asked for asked in requests if asked.role == role]
        for one, after in itertools.pairwise(own):
            assert not fits([*one.texts, after.texts[0]], limits)


@given(
    rows=st.lists(ROWS, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=6), limits=LIMITS
)
@settings(max_examples=100, deadline=None)
def test_requests_do_not_depend_on_how_the_texts_come(rows, cuts, limits):
    """The same corpus in other batches is the same requests, role by role."""

    def told(requests):
        return {role: [a.texts for a in requests if a.role == role] for role in ROLES}

    assert told(packed(Packer(limits), rows, cuts)) == told(packed(Packer(limits), rows))


def test_one_role_for_all_needs_no_list():
    """A corpus without a column of roles goes the short way."""
    rows = [("abc", "query", ()), ("d", "query", ()), ("e", "query", ())]
    requests = packed(Packer(Limits(texts_per_request=2)), rows, plain=True)
    assert [(asked.texts, asked.role, asked.controls) for asked in requests] == [
        (("abc", "d"), "query", None),
        (("e",), "query", None),
    ]


def test_a_text_beyond_every_limit_goes_alone():
    """The server will say what it thinks of it; its neighbours are not held up."""
    limits = Limits(texts_per_request=8, bytes_per_request=10, tokens_per_request=3)
    rows = [(text, "query", ()) for text in ("a", "x" * 100, "b", "c")]
    assert [a.texts for a in packed(Packer(limits), rows)] == [("a",), ("x" * 100,), ("b", "c")]


def test_full_requests_leave_at_once_and_the_rest_waits():
    """Nothing waits that fills a request; nothing leaves half full before the end."""
    packer = Packer(Limits(texts_per_request=4))
    rows = [(str(n), "query", ()) for n in range(11)]
    first, second = batches(rows, [6])
    assert [numbers(a) for a in packer.add(first)] == [[0, 1, 2, 3]]
    assert [numbers(a) for a in packer.add(second)] == [[4, 5, 6, 7]]
    assert [numbers(a) for a in packer.flush()] == [[8, 9, 10]]
    assert list(packer.flush()) == []


def test_exactly_full_is_full():
    """A request that reaches its number of texts does not wait for another."""
    packer = Packer(Limits(texts_per_request=2))
    (batch,) = batches([("a", "query", ()), ("b", "query", ())], [])
    assert [numbers(a) for a in packer.add(batch)] == [[0, 1]]


def test_limits_may_be_tightened_while_texts_wait():
    """What is cut from then on is no longer than the server allows; nothing is lost."""
    packer = Packer(Limits(texts_per_request=8))
    rows = [(str(n), "query", ()) for n in range(30)]
    sizes = []
    for batch in batches(rows, [10, 20]):
        for asked in packer.add(batch):
            sizes.append(numbers(asked))
            packer.tighten(3)
    sizes += [numbers(asked) for asked in packer.flush()]
    assert [n for some in sizes for n in some] == list(range(30))
    assert [len(some) for some in sizes] == [8, 3, 3, 3, 3, 3, 3, 3, 1]


def test_limits_are_never_loosened():
    """A larger cap than the one in force changes nothing."""
    packer = Packer(Limits(texts_per_request=4))
    packer.tighten(9)
    packer.tighten(2)
    packer.tighten(3)
    assert packer.limits.texts_per_request == 2


@given(texts=st.lists(TEXTS, max_size=9))
def test_bytes_and_tokens_are_estimated_from_utf8(texts):
    """A quarter of the bytes, rounded up, at least one."""
    found = text_bytes(texts)
    assert found.tolist() == [len(text.encode()) for text in texts]
    assert estimate_tokens(found).tolist() == [max(1, -(-n // 4)) for n in found.tolist()]
    assert estimate_tokens(np.array([0, 1, 4, 5])).tolist() == [1, 1, 1, 2]


def test_what_waits_does_not_pile_up():
    """A corpus of any length packs in the memory of a request and a batch."""
    packer, peak = Packer(Limits(texts_per_request=7)), 0
    rows = [("x" * 50, "query", ())] * 500
    (batch,) = batches(rows, [])
    tracemalloc.start()
    for _ in range(20):
        for _ in packer.add(batch):
            pass
        peak = max(peak, tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert peak < 400_000
    assert sum(len(waiting.texts) for waiting in packer._waiting.values()) == 20 * 500 % 7


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("beyond a limit", lambda _self, start, *_: min(start + 7, len(_[0]))),
        ("rows", lambda _self, start, *_: start + 2),
    ],
)
def test_a_wrong_cut_is_seen(name, wrong, monkeypatch):
    """The control: requests cut elsewhere are reported by the checks above."""
    monkeypatch.setattr(packing.Packer, "_stop", wrong)
    rows = [("abc", "query", ())] * 9
    limits = Limits(texts_per_request=3)
    requests = packed(Packer(limits), rows)
    if name == "rows":
        requests = requests[:-1]
    assert any(name in complaint for complaint in complaints(rows, requests, limits))
