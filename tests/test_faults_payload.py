"""Rows 61 to 69 of the catalogue of faults: answers that say 200 and are not what was asked for."""

import base64
import gzip
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from fakes import faults, running, vector
from fakes.faults import Fault, edited
from fakes.rows import GIVEN, Row, check
from fakes.runs import output

BAD = GIVEN[9]


def once(fault, number=2):
    return lambda seen: fault if seen.number == number else None


def written(seen, shape):
    """An answer in OpenAI's form, its embeddings written by `shape(text)` as JSON."""
    data = ",".join(
        f'{{"index":{n},"embedding":{shape(text)}}}' for n, text in enumerate(seen.texts)
    )
    return Fault(body=f'{{"data":[{data}],"model":"fake-1"}}'.encode())


def numbers(text):
    return json.dumps(vector(text).astype(float).tolist())


def longer(text):
    """A vector of length 3."""
    return json.dumps((vector(text) * 3).astype(float).tolist())


def odd_number(odd):
    """Every answer to one text has something that is no number in its vector."""

    def shape(text):
        return numbers(text) if text != BAD else f"[{odd}," + numbers(text).partition(",")[2]

    return lambda seen: written(seen, shape) if BAD in seen.texts else None


def packed(dtype):
    """base64 of numbers of another type."""

    def shape(text):
        return json.dumps(base64.b64encode(vector(text).astype(dtype).tobytes()).decode())

    return lambda seen: written(seen, shape) if seen.number >= 2 else None


def outside(right):
    return replace(right, indices=[*right.indices[:-1], 99])


def more(right):
    return replace(right, vectors=[*right.vectors, right.vectors[0]], indices=[*right.indices, 4])


def without_index(seen):
    data = [{"embedding": vector(text).tolist()} for text in seen.texts]
    return Fault(body=json.dumps({"data": data}).encode()) if seen.number == 2 else None


def swapped(right):
    """The same vector for two different texts."""
    return replace(right, vectors=[right.vectors[0], right.vectors[0], *right.vectors[2:]])


LOST = {"requests": 6 + 4, "twice": 1}
REJECT = {"code": 3, "says": ("1 rejected",), "rejected": (BAD,), "then": 3, "twice": 1}
ROWS = {
    "61 one vector too few": Row(once(faults.dropped()), **LOST),
    "61 one vector too many": Row(
        once(edited(more)),
        **LOST,
    ),
    "61 an index twice": Row(once(faults.duplicated()), **LOST),
    "61 an index outside": Row(once(edited(outside)), **LOST),
    "61 no index": Row(without_index, **LOST),
    "61 one vector for two texts": Row(once(edited(swapped)), requests=8, twice=1),
    "62 another order": Row(once(faults.shuffled())),
    **{
        f"63 {odd} in one vector": Row(odd_number(odd), requests=8, **REJECT)
        for odd in ("NaN", "Infinity", "-Infinity", "1e400", "null", '"NaN"')
    },
    **{
        f"63 {odd} in one vector": Row(odd_number(odd), requests=12, **REJECT)
        for odd in ('"0.5"', "[0.5]", "{}", "true")
    },
    "63 nothing but zeros": Row(
        lambda seen: written(seen, lambda t: numbers(t) if t != BAD else "[" + "0," * 31 + "0]"),
        requests=8,
        **REJECT,
    ),
    "64 another dimension": Row(
        lambda seen: faults.dimension(16) if seen.number >= 2 else None,
        4, ("`16` dimensions, not `32`",), 4, twice=2,
    ),
    "64 ragged": Row(once(faults.ragged()), **LOST),
    "65 base64 of another length": Row(
        once(edited(lambda r: replace(r, vectors=[v[:-1] for v in r.vectors]))),
        4, ("`31` dimensions",), 4, twice=1,
    ),
    "65 no base64": Row(
        lambda seen: written(seen, lambda _: '"!!!"') if seen.number == 2 else None, **LOST
    ),
    "65 base64 that ends within a number": Row(
        lambda seen: written(seen, lambda _: '"AAAAAAA="') if seen.number == 2 else None, **LOST
    ),
    "65 float16": Row(packed("<f2"), 4, ("`16` dimensions, not `32`",), 4, twice=2),
    "65 float64": Row(packed("<f8"), 4, ("`64` dimensions, not `32`",), 4, twice=2),
    "65 the other byte order": Row(
        packed(">f4"), 4, ("numbers' bytes in the other order",), 4, twice=2
    ),
    "65 the other byte order, not normalised": Row(
        packed(">f4"), 4, ("numbers' bytes in the other order",), 4, twice=2,
        more={"model__normalize": False},
    ),
    "66 lengths that are not 1": Row(
        lambda seen: written(seen, longer),
        says=("note: none of the 24 vectors came with length 1",),
        exact=False,
    ),
    "66 one length that is not 1": Row(
        lambda seen: written(seen, lambda t: longer(t) if t == BAD else numbers(t)),
        says=("warning: 1 of 24 vectors did not come with length 1",),
        exact=False,
    ),
    "68 a bomb": Row(once(faults.bomb(100_000_000)), 4, ("larger than",), 5, twice=1),
    "68 JSON that is 100,000 deep": Row(once(Fault(body=b"[" * 100_000)), requests=7, twice=1),
    "68 an object that is 100,000 deep": Row(
        once(Fault(body=b'{"data":' * 100_000)), requests=11, twice=2
    ),
    "68 gzip of something else": Row(
        once(Fault(body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})), **LOST
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_an_answer_that_is_not_what_was_asked_for(place, row):
    """It ends with the exit code, the words and the bill that the catalogue has for it."""
    with running() as server:
        check(place, server, ROWS[row])


def test_66_lengths_are_made_1(place):
    """A server that does not normalise gives the directions all the same: within a rounding."""
    row = ROWS["66 lengths that are not 1"]
    with running() as server:
        job = check(place, server, row)
    for text, got in zip(GIVEN, output(job.out)["embedding"].to_pylist(), strict=True):
        assert math.isclose(float(np.dot(got, vector(text))), 1, abs_tol=1e-6)
        assert math.isclose(float(np.dot(got, got)), 1, abs_tol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_66_what_came_right_is_not_told(place, normalize):
    """Control: where all is of length 1, or nobody asked for it, nothing is said of lengths."""
    script = () if normalize else (lambda seen: written(seen, longer))
    with running(script=script) as server:
        job = place(GIVEN, server=server, model__normalize=normalize)
        ended = job.run("run", job.job, "--json")
    assert "length 1" not in ended.err
    assert ended.json["mended"] == 0


def test_a_bomb_does_not_fill_the_memory(place):
    """Unpacked bytes are capped at twice what a right answer has, however small they came."""
    with running(script=once(faults.bomb(200_000_000), 0)) as server:
        job = place(GIVEN, server=server)
        told = job.folder / "peak"
        job.run(code=4, twists=[["peak_memory", str(told)]])
        before, after = map(int, told.read_text().split())
        assert after - before < 16 << 20
