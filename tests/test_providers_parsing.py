"""Answers become vectors exactly, or are refused; the oracle is Python's json."""

import base64
import json
import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.providers import parsing
from batchembed.providers.parsing import AnswerError

numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**63), 2**63 - 1)


@st.composite
def matrices(draw):
    width = draw(st.integers(1, 9))
    row = st.lists(numbers, min_size=width, max_size=width)
    return draw(st.lists(row, min_size=1, max_size=6))


def right(rows):
    """Return what `rows` are by way of text, json and float64: the slow, plain way."""
    read = [[float(x) for x in row] for row in json.loads(json.dumps(rows))]
    with np.errstate(over="ignore"):
        return np.array(read, dtype=np.float64).astype(np.float32)


def same_bits(left, expected):
    return left.dtype == np.float32 and left.tobytes() == expected.tobytes()


def take(body):
    return parsing.indexed(parsing.read(body)["data"], json.loads(body)["n"], body)


def openai_body(rows, order=None, indent=None, **more):
    order = list(range(len(rows))) if order is None else order
    data = [{"object": "embedding", "index": i, "embedding": rows[i]} for i in order]
    return json.dumps({"n": len(rows), "data": data, **more}, indent=indent).encode()


def b64(row):
    return base64.b64encode(np.asarray(row, dtype="<f4").tobytes()).decode()


@settings(max_examples=150, deadline=None)
@given(matrices(), st.sampled_from([None, 2]), st.randoms(use_true_random=False))
def test_floats_are_those_of_json_to_the_last_bit(rows, indent, rng):
    """JSON numbers in any order and layout become what json, float64 and float32 make of them."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    assert same_bits(take(openai_body(rows, order, indent)), right(rows))


@settings(max_examples=80, deadline=None)
@given(matrices(), st.sampled_from([None, 2]))
def test_nested_arrays_are_those_of_json_to_the_last_bit(rows, indent):
    """The batch form of Aleph Alpha keeps position and value."""
    body = json.dumps({"embeddings": rows}, indent=indent).encode()
    found = parsing.nested(parsing.read(body)["embeddings"], len(rows), body)
    assert same_bits(found, right(rows))


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=40))
def test_a_single_vector_is_that_of_json(row):
    """The single form of Aleph Alpha gives one row."""
    body = json.dumps({"embedding": row}).encode()
    found = parsing.single(parsing.read(body)["embedding"], body)
    assert same_bits(found, right([row]))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=5))
def test_base64_passes_every_bit_pattern_through(raws):
    """base64 numbers arrive bit for bit, NaN and infinity included."""
    rows = [base64.b64encode(raw).decode() for raw in raws]
    found = take(openai_body(rows))
    assert found.tobytes() == b"".join(raws)


def test_base64_and_numbers_may_stand_in_one_answer():
    """What was asked for does not matter, only what came."""
    found = take(openai_body([[1.0, 2.5], b64([3.0, -4.5])]))
    assert found.tolist() == [[1.0, 2.5], [3.0, -4.5]]


def test_numbers_too_large_for_float32_become_infinite():
    """The run judges infinity; the parse only makes it, as numpy would."""
    assert take(openai_body([[1e39, 1.0]])).tolist() == [[math.inf, 1.0]]


def test_brackets_in_strings_do_not_disturb():
    """A model name with brackets costs the slow proof, not the answer."""
    body = openai_body([[1.0, 2.0], [3.0, 4.0]], model="m[[[[0]]]]")
    assert take(body).tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    "vector",
    [
        "[[1],[2]]",
        "[[],[1,2]]",
        "[[1,2]]",
        "[1,[2]]",
        "[1,null]",
        "[1,true]",
        '[1,"2"]',
        "[1,{}]",
        "[1,1e400]",
        "[1,18446744073709551616]",
        "[]",
        "null",
        "{}",
        "7",
        '""',
        '"AAA="',
        '"AAAA AAAA"',
        '"AAAA AAAA AAA="',
        '"not base64!"',
        '"AAAAAAA"',
    ],
)
@pytest.mark.parametrize("model", ["m", "m[0][1][2][3]"])
def test_what_is_no_vector_is_refused(vector, model):
    """Nothing that is not a flat array of numbers, or base64 of floats, is taken for a vector."""
    body = b'{"n":2,"model":"%s","data":[{"index":0,"embedding":[1,2]},' % model.encode()
    body += b'{"index":1,"embedding":%s}]}' % vector.encode()
    with pytest.raises(AnswerError):
        take(body)


@pytest.mark.parametrize("model", ["m", "m[0][1][2][3]"])
@pytest.mark.parametrize(
    "rows",
    [
        "[[1,2],[3]]",
        "[[1,2]]",
        "[[1,2],[3,4],[5,6]]",
        "[[1,2],[3,[4]]]",
        "[[[1],[2]],[3,4]]",
        "[[[1,2],[]],[3,4]]",
        "[[],[]]",
        "[]",
        "[1,2]",
        '["AAAA","AAAA"]',
        '[{"a":1,"b":2},[3,4]]',
        "[null,[1,2]]",
        "null",
        "{}",
    ],
)
def test_ragged_or_nested_batches_are_refused(rows, model):
    """The parser flattens silently; the proof of shape catches each way that this hides."""
    body = b'{"v":"%s","embeddings":%s}' % (model.encode(), rows.encode())
    with pytest.raises(AnswerError):
        parsing.nested(parsing.read(body)["embeddings"], 2, body)


def test_rows_that_are_ragged_but_add_up_are_refused():
    """Lengths 8, 4 and 12 hold as many numbers as three rows of 8."""
    body = json.dumps({"embeddings": [[1] * 8, [1] * 4, [1] * 12]}).encode()
    with pytest.raises(AnswerError, match="4, 8, 12"):
        parsing.nested(parsing.read(body)["embeddings"], 3, body)


@pytest.mark.parametrize(
    "indices", [[0, 0], [1, 1], [0, 2], [-1, 0], [0, None], ["0", "1"], [0.0, 1], [True, 0]]
)
def test_the_index_must_be_a_permutation(indices):
    """A missing, double, foreign or untyped index spoils the answer."""
    data = [{"index": i, "embedding": [1, 2]} for i in indices]
    with pytest.raises(AnswerError, match="index"):
        take(json.dumps({"n": 2, "data": data}).encode())


def test_a_single_answer_may_lack_its_index():
    """One answer to one text has only one order."""
    assert take(b'{"n":1,"data":[{"embedding":[1,2]}]}').tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("data", ["[]", "null", "{}", "[1]", "[[1,2]]", "[null]", '["AAAA"]'])
def test_the_count_must_be_right(data):
    """One text, and anything but one entry, is no answer."""
    with pytest.raises(AnswerError):
        take(b'{"n":1,"data":%s}' % data.encode())


@pytest.mark.parametrize(
    ("body", "is_json"),
    [
        (b"", False),
        (b"   ", False),
        (b"<html></html>", False),
        (b"ok", False),
        (b"\xff\xfe", False),
        (b"[1]", True),
        (b"3", True),
        (b'"x"', True),
        (b'{"a":1', True),
        (b'{"a":[1,NaN]}', True),
        (b'{"a":1}{"b":2}', True),
        (b'{"a":"\xff"}', True),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", True),
    ],
)
def test_bodies_that_cannot_be_read(body, is_json):
    """Whatever a proxy or a broken server sends becomes one kind of error."""
    with pytest.raises(AnswerError) as caught:
        parsing.read(body)
    assert caught.value.json is is_json


def test_random_damage_never_escapes():
    """A right body with bytes changed, cut or doubled is an answer, or an AnswerError."""
    rng = random.Random(11)
    rows = [[rng.random() for _ in range(6)] for _ in range(4)]
    bodies = [openai_body(rows, n=4), openai_body([b64(r) for r in rows], n=4)]
    for body in bodies * 400:
        spoiled = bytearray(body)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(spoiled))
            spoiled[at : at + rng.randint(0, 2)] = rng.choice([b"", b"[", b"]", b'"', b",", b"9"])
        try:
            found = parsing.indexed(parsing.read(bytes(spoiled)).get("data"), 4, bytes(spoiled))
        except AnswerError:
            continue
        assert found.shape[0] == 4
        assert found.dtype == np.float32


def test_without_the_bracket_proof_a_nested_vector_slips_through(monkeypatch):
    """Control: the flatness proof is what catches a flattened array, not something else."""
    monkeypatch.setattr(parsing, "_flat", lambda *_: None)
    body = b'{"n":2,"data":[{"index":0,"embedding":[1,2]},{"index":1,"embedding":[[1],[2]]}]}'
    assert take(body).tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_tokens_and_names_are_taken_only_as_what_they_are():
    """A usage that is no count, or a model that is no name, is left out."""
    found = parsing.read(b'{"a":3,"b":-1,"c":true,"d":"x","e":2.5,"f":"%s"}' % (b"y" * 500))
    assert [parsing.count(found, k) for k in "abcdeg"] == [3, None, None, None, None, None]
    assert parsing.text(found, "a") == ""
    assert parsing.text(found, "f") == "y" * 200


def test_the_oracle_itself_reads_little_endian():
    """Control: 1.0 is 0x3f800000, lowest byte first."""
    assert take(openai_body([base64.b64encode(struct.pack("<f", 1.0)).decode()])).item() == 1.0
