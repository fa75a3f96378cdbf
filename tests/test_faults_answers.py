"""Answers spoiled in any way that hypothesis thinks of: no vector ever on a wrong row."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import wire
from fakes.faults import Reply
from fakes.scripted import KEYER
from fakes.vectors import vector
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchembed.embed.settle import judge
from batchembed.embed.verdicts import Facts, Part
from batchembed.exchange import Request
from batchembed.providers import limits
from batchembed.providers.openai import OpenAI
from batchembed.spec import Spec

SPEC = Spec("openai", "fake-model", base_url="http://127.0.0.1:1/v1")
DIALECT = OpenAI(SPEC, limits(SPEC))
ASKED = wire.Asked([], "symmetric", [], "fake-model", None, True, "openai")


def spoil(reply, how, at, to):
    """Spoil a right reply; a server that gives each of two texts the other's vector is none."""
    n = len(reply.vectors)
    a, b = at % n, to % n
    vectors, indices = list(reply.vectors), list(reply.indices)
    match how:
        case "shuffle":
            order = np.random.default_rng(to).permutation(n)
            return replace(
                reply, vectors=[vectors[i] for i in order], indices=[indices[i] for i in order]
            )
        case "drop":
            del vectors[a], indices[a]
        case "double":
            vectors.append(vectors[a])
            indices.append(indices[a])
        case "index":
            indices[a] = (to % (n + 3)) - 1
        case "number":
            vectors[a] = vectors[a].copy()
            vectors[a][b % len(vectors[a])] = (np.nan, np.inf, -np.inf)[to % 3]
        case "zero":
            vectors[a] = np.zeros_like(vectors[a])
        case "twin":
            vectors[a] = vectors[b]
        case "short":
            vectors[a] = vectors[a][:-1]
        case "all short":
            vectors = [v[:-1] for v in vectors]
    return replace(reply, vectors=vectors, indices=indices)


KINDS = ("shuffle", "drop", "double", "index", "number", "zero", "twin", "short", "all short")
spoils = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 9), st.integers(0, 9)), max_size=3
)
answers = st.lists(
    st.tuples(spoils, st.sampled_from(["float", "base64"]), st.integers(0, 60)), max_size=6
)


def body_of(texts, told):
    """The body of an answer, spoiled, and with one byte of it changed now and then."""
    spoiled, encoding, flip = told
    reply = Reply([vector(text) for text in texts], list(range(len(texts))), "fake-1", 1)
    # A vector of another text is seen by its twin, a wrong index by the right one it meets or by
    # the one that is missing; when that one is spoiled to match, nobody can see it.
    alone = {kind: [s for s in spoiled if s[0] == kind][:1] for kind in ("index", "twin")}
    others = [s for s in spoiled if s[0] not in alone]
    for how, at, to in (*others, *alone["index"], *alone["twin"]):
        if reply.vectors:
            reply = spoil(reply, how, at, to)
    raw = bytearray(wire.write(replace(ASKED, texts=texts), reply, encoding))
    if flip > 50:  # not within a vector: which numbers a server meant, nobody can know
        raw[flip % 8] ^= 1
    return bytes(raw)


def story(texts, spoiled):
    """Settle a request with these answers first, and right ones from then on."""
    kept, rejected, calls = {}, set(), 0
    request = Request(KEYER.keys(texts, "symmetric"), tuple(texts), tokens=len(texts))
    waiting = [Part(request)]
    while waiting:
        part, calls = waiting.pop(), calls + 1
        assert calls < 200, "it never ends"
        told = spoiled[calls - 1] if calls <= len(spoiled) else ((), "base64", 0)
        body = body_of(list(part.request.texts), told)
        outcome = DIALECT.parse(part.request, status=200, headers={}, body=body)
        facts = Facts(answers=calls, dimensions=32, normalize=True)
        verdict = judge(part, outcome, facts)
        if verdict.keep is not None:
            for key, row in zip(verdict.keep.keys, verdict.keep.vectors, strict=True):
                assert key.tobytes() not in kept
                kept[key.tobytes()] = row
        rejected |= {reject.key for reject in verdict.rejects}
        if verdict.end is not None:
            return kept, None
        waiting += verdict.again
    return kept, rejected


def check(count, spoiled):
    texts = [f"text {n}" for n in range(count)]
    kept, rejected = story(texts, spoiled)
    for text in texts:
        key = KEYER.key(text, "symmetric")
        if key in kept:
            assert kept[key].tobytes() == vector(text).tobytes(), f"{text} has another's vector"
        else:
            assert rejected is None or key in rejected, f"{text} has neither vector nor reject"


QUIET = [HealthCheck.too_slow]


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(st.integers(1, 8), answers)
def test_no_vector_is_on_a_wrong_row(count, spoiled):
    """Each text has its own vector, or is a reject, or the run ended."""
    check(count, spoiled)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(st.integers(1, 8), answers)
def test_no_vector_is_on_a_wrong_row_in_ten_thousand_cases(count, spoiled):
    """The same, at length."""
    check(count, spoiled)


def test_an_index_that_is_not_looked_at_is_seen(monkeypatch):
    """Planted: answers are put beside texts by position, as naive clients do."""
    from batchembed.providers import parsing

    counter = iter(range(10**9))
    monkeypatch.setattr(parsing, "_position", lambda _found, n: next(counter) % n)
    with pytest.raises(AssertionError, match="another's vector"):
        check(4, [([("shuffle", 0, 3)], "base64", 0)])
