"""The pure dialects: what goes out, and what an answer means."""

import json
import math

import numpy as np
import orjson
import pytest

from batchembed.exchange import Control, Malformed, Request
from batchembed.providers import defaults, limits
from batchembed.providers.aleph_alpha.dialect import AlephAlpha
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


def parse(dialect, sent, answer):
    return dialect.parse(sent, status=200, headers={}, body=orjson.dumps(answer))


def entries(rows):
    return {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]}


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


def test_the_single_endpoint_reads_its_own_form():
    """One vector, not a list of them."""
    dialect = aleph_alpha(endpoint="semantic_embed")
    answer = {"model_version": "v", "embedding": [1.5, 2.5], "num_tokens_prompt_total": 4}
    found = parse(dialect, request("a"), answer)
    assert found.vectors.tolist() == [[1.5, 2.5]]
    assert (found.tokens, found.model_version) == (4, "v")
    assert isinstance(parse(dialect, request("a"), {"embeddings": [[1.5]]}), Malformed)
    assert dialect.limits.texts_per_request == 1


def test_limits_are_those_of_the_service():
    """OpenAI's own, and careful ones for an address that is not OpenAI's."""
    assert openai().limits.texts_per_request == 2048
    assert openai().limits.tokens_per_request == 300_000
    other = openai(base_url="https://other.example/v1").limits
    assert (other.texts_per_request, other.tokens_per_text) == (64, None)
    assert aleph_alpha().limits.texts_per_request == 100
    assert aleph_alpha().limits.tokens_per_text == 2048
