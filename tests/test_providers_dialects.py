"""The pure dialects: what goes out, and what an answer means."""

import json
import math

import numpy as np
import orjson
import pytest

from batchembed.exchange import Control, Fatal, Malformed, Request, Response
from batchembed.providers import defaults, limits
from batchembed.providers.aleph_alpha.dialect import AlephAlpha
from batchembed.providers.answers import unit
from batchembed.providers.openai import OpenAI
from batchembed.spec import Spec


def request(*texts, role="symmetric", controls=None):
    keys = np.zeros((len(texts), 16), np.uint8)
    return Request(keys=keys, texts=texts, role=role, controls=controls)


def aleph_alpha(**told):
    spec = defaults(Spec("aleph-alpha", "luminous-base", **told))
    return AlephAlpha(spec, limits(spec))


def openai(**told):
    spec = defaults(Spec("openai", "", **told))
    return OpenAI(spec, limits(spec))


def parse(dialect, sent, answer, status=200):
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    return dialect.parse(sent, status=status, headers={"x-request-id": "r"}, body=body)


def entries(rows, order=None):
    order = range(len(rows)) if order is None else order
    return {"data": [{"index": i, "embedding": rows[i]} for i in order], "model": "m-1"}


def test_the_body_of_a_batch_is_this():
    """The wire form, written out once: nulls stay, 7.0 is 7."""
    sent = request("ab", "c", role="query", controls=((Control(0, 1, 7.0),), ()))
    call = aleph_alpha(dimensions=128).build(sent)
    assert (call.method, call.path, dict(call.query)) == ("POST", "batch_semantic_embed", {})
    assert call.body == (
        b'{"prompts":[[{"type":"text","data":"ab","controls":[{"start":0,"length":1,"factor":7}]}],'
        b'[{"type":"text","data":"c","controls":[]}]],"representation":"query",'
        b'"compress_to_size":128,"normalize":true,"contextual_control_threshold":null,'
        b'"control_log_additive":true,"model":"luminous-base"}'
    )


def test_factors_that_are_not_whole_stay_as_they_are():
    """Only whole factors become integers."""
    sent = request("ab", controls=((Control(0, 1, 0.1), Control(1, 1, 0.0)),))
    told = json.loads(aleph_alpha().build(sent).body)["prompts"][0][0]["controls"]
    assert [c["factor"] for c in told] == [0.1, 0]


@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
def test_a_factor_that_json_cannot_hold_is_refused(factor):
    """NaN would go out as null and mean nothing."""
    with pytest.raises(ValueError, match="factor"):
        aleph_alpha().build(request("ab", controls=((Control(0, 1, factor),),)))


def test_the_body_for_openai_is_this():
    """base64 is asked for; dimensions only when set."""
    assert openai().build(request("a", "b")).body == (
        b'{"input":["a","b"],"model":"text-embedding-3-small","encoding_format":"base64"}'
    )
    assert json.loads(openai(dimensions=64).build(request("a")).body)["dimensions"] == 64


def test_prefixes_stand_before_texts_of_their_role_only():
    """The openai form has no roles: a prefix is how a model is told."""
    dialect = openai(prefixes=(("query", "query: "), ("document", "passage: ")))
    inputs = {
        role: json.loads(dialect.build(request("a", role=role)).body)["input"]
        for role in ("query", "document", "symmetric")
    }
    assert inputs == {"query": ["query: a"], "document": ["passage: a"], "symmetric": ["a"]}


def test_answers_are_ordered_by_index():
    """A server may answer in any order."""
    found = parse(openai(normalize=False), request("a", "b"), entries([[1, 2], [3, 4]], [1, 0]))
    assert isinstance(found, Response)
    assert found.vectors.tolist() == [[1, 2], [3, 4]]
    assert (found.model_version, found.request_id, found.tokens) == ("m-1", "r", None)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 7, "prompt_tokens": 5}, 7),
        ({"prompt_tokens": 5}, 5),
        ({"total_tokens": None, "prompt_tokens": 5}, 5),
        ({"total_tokens": -1}, None),
        ({}, None),
        (None, None),
        ([], None),
        (3, None),
        ("x", None),
    ],
)
def test_usage_is_taken_as_far_as_it_makes_sense(usage, tokens):
    """A server that does not say what it billed says None."""
    found = parse(openai(), request("a"), {**entries([[1, 0]]), "usage": usage})
    assert found.tokens == tokens


@pytest.mark.parametrize("rows", [[[1, 2]], [[1, 2], [3, 4], [5, 6]], [[1, 2], [3]], []])
def test_a_wrong_count_or_shape_is_malformed(rows):
    """In either dialect."""
    sent = request("a", "b")
    assert isinstance(parse(openai(), sent, entries(rows)), Malformed)
    assert isinstance(parse(aleph_alpha(), sent, {"embeddings": rows}), Malformed)


def test_a_dimension_that_was_not_asked_for_ends_the_run():
    """Vectors of two sizes are never mixed, and the hint says what to set."""
    for found in (
        parse(openai(dimensions=3), request("a"), entries([[1, 2]])),
        parse(aleph_alpha(dimensions=128), request("a"), {"embeddings": [[1, 2]]}),
    ):
        assert isinstance(found, Fatal)
        assert "`2`" in found.reason
        assert "dimensions" in found.hint


def test_the_single_endpoint_reads_its_own_form():
    """One vector, not a list of them."""
    dialect = aleph_alpha(endpoint="semantic_embed")
    answer = {"model_version": "v", "embedding": [1.5, 2.5], "num_tokens_prompt_total": 4}
    found = parse(dialect, request("a"), answer)
    assert found.vectors.tolist() == [[1.5, 2.5]]
    assert (found.tokens, found.model_version) == (4, "v")
    assert isinstance(parse(dialect, request("a"), {"embeddings": [[1.5]]}), Malformed)
    assert dialect.limits.texts_per_request == 1


def test_unit_mends_only_what_is_off():
    """Vectors of length 1 stay as they came, bit for bit; the rest is divided by its norm."""
    rng = np.random.default_rng(3)
    raw = rng.standard_normal((50, 33)).astype(np.float32)
    already = (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)
    assert unit(already.copy()).tobytes() == already.tobytes()
    assert np.allclose(unit(raw * 40), already, atol=1e-6)
    half = already.astype(np.float16).astype(np.float32)
    assert unit(half.copy()).tobytes() == half.tobytes()


def test_unit_leaves_what_has_no_direction():
    """Zero, NaN and infinity are judged by the run, row by row."""
    rows = np.array([[0, 0], [np.nan, 1], [np.inf, 1], [3, 4]], dtype=np.float32)
    found = unit(rows.copy())
    assert found[:3].tobytes() == rows[:3].tobytes()
    assert found[3].tolist() == np.float32([0.6, 0.8]).tolist()


def test_without_normalize_vectors_stay_as_they_came():
    """`normalize = false` touches nothing."""
    found = parse(openai(normalize=False), request("a"), entries([[3, 4]]))
    assert found.vectors.tolist() == [[3, 4]]


def test_limits_are_those_of_the_service():
    """OpenAI's own, and careful ones for an address that is not OpenAI's."""
    assert openai().limits.texts_per_request == 2048
    assert openai().limits.tokens_per_request == 300_000
    other = openai(base_url="https://other.example/v1").limits
    assert (other.texts_per_request, other.tokens_per_text) == (64, None)
    assert aleph_alpha().limits.texts_per_request == 100
    assert aleph_alpha().limits.tokens_per_text == 2048
