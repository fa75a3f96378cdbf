"""What every provider must do, whatever its form: the same cases for each, over real sockets.

A provider that is added to the catalogue is in them without a line here, but for the errors that
its vendor documents, in tests/vendors/errors.py.
"""

import asyncio
import base64
import json
import re

import numpy as np
import pytest
from fakes.forms import DESCRIBED, form_of, read, right, speaking, written
from fakes.replay import Replay, Said
from fakes.scripted import Scripted
from vendors.errors import BY_PROVIDER, KINDS

from batchembed.embed.answers import checked
from batchembed.errors import JobError
from batchembed.exchange import (
    ROLES,
    Fatal,
    Inquirer,
    Malformed,
    Refused,
    Request,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)
from batchembed.providers import Access, check, defaults, info, known, open_provider
from batchembed.spec import Spec

REMOTE = [provider.name for provider in known() if provider.dialect]
KEY = "SECRET-6f1d2c9e/4b7a+9d"
TEXTS = ("the first text of three", "the second text of three", "the third text of three")
ODD = (
    "Größe 🎉 naïve",
    '"quoted" \\ and \u2028 lines',
    "tab\tand\nbreak\r\n",
    " blanks around ",
    "{}[]<>&'%s",
    "a" * 5000,
    "\u0000\u0001\u007f\uffff",
    "e\u0301 is no \u00e9",
    "الحروف",
    "👩‍👩‍👧‍👦",
)


def request(texts=TEXTS, role="symmetric"):
    return Request(np.zeros((len(texts), 16), np.uint8), tuple(texts), role, tokens=len(texts))


def size_of(name):
    """A length of vectors that may be asked for, None where none may be."""
    provider = info(name)
    model = provider.model_of(provider.model)
    if "dimensions" not in (model.takes or ()):
        return None
    sizes = [128] if model.sizes is None else list(model.sizes)
    return sizes[min(31, len(sizes) - 1)] if sizes else None


def spec_of(name, url, **told):
    provider = info(name)
    path = re.sub(r"^https?://[^/]+", "", provider.base_url or "")
    api = {"http": DESCRIBED} if name == "http" else {}
    return Spec(name, provider.model or "a-model", base_url=url + path, **api, **told)


def role_of(name):
    """A role that needs no prefix: what the suite asks for where it does not matter."""
    provider = info(name)
    roles = provider.model_of(provider.model).roles
    return "symmetric" if not roles or "symmetric" in roles else next(iter(roles))


def attempts(name, answers, *sent, **told):
    """Return the outcomes of attempts, one after the other, and the server."""

    async def go():
        async with Replay(answers) as server:
            provider = open_provider(spec_of(name, server.url, **told), Access(), key=KEY)
            try:
                return [await provider.attempt(one) for one in sent], server
            finally:
                await provider.close()

    return asyncio.run(go())


def outcome(name, answers, sent=None, **told):
    (found,), _ = attempts(name, answers, sent or request(role=role_of(name)), **told)
    return found


def equal(found, rows):
    return found.vectors.tolist() == np.stack(rows).tolist()


# -- what is right ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REMOTE)
def test_order_and_unicode(name):
    """Each text goes out as it is, and each vector comes back at its text's place, bit for bit."""
    role = role_of(name)
    (found,), server = attempts(name, speaking(), request(ODD, role))
    assert isinstance(found, Response), found
    assert read(server.seen[0]).texts == list(ODD)
    word = read(server.seen[0]).role
    assert equal(found, right(ODD, word))
    assert found.tokens in (len(ODD), None)
    assert not found.unusable
    assert len(server.seen) == 1, "one attempt is one call"
    assert json.loads(server.seen[0].body.decode("utf-8"))


@pytest.mark.parametrize("name", REMOTE)
def test_one_text_alone(name):
    """A request of one has the same form."""
    (found,), server = attempts(name, speaking(), request(("alone",), role_of(name)))
    assert equal(found, right(["alone"], read(server.seen[0]).role))


@pytest.mark.parametrize("name", REMOTE)
def test_roles(name):
    """Three roles are three requests where the provider knows them, else an error beforehand."""
    provider = info(name)
    model = provider.model_of(provider.model)
    spec = spec_of(name, "https://h.example")
    words = set()
    for role in ROLES:
        if role in (model.roles or model.prefixes or {"symmetric"}):
            check(defaults(spec), roles=(role,))
            (found,), server = attempts(name, speaking(), request(role=role))
            assert isinstance(found, Response)
            words.add(read(server.seen[0]).role + read(server.seen[0]).texts[0])
        else:
            with pytest.raises(JobError, match=role):
                check(defaults(spec), roles=(role,))
    assert len(words) == len(model.roles or model.prefixes or {"symmetric"})


@pytest.mark.parametrize("name", [n for n in REMOTE if "prefixes" in info(n).takes])
def test_prefixes(name):
    """Where a job gives prefixes they go before each text of their role, and none of another."""
    told = {"prefixes": (("query", "query: "), ("symmetric", ""))}
    if "prefixes" not in info(name).model_of(info(name).model).takes:
        with pytest.raises(JobError, match="prefixes"):
            defaults(spec_of(name, "https://h.example", **told))
        return
    sent = [request(role=role) for role in ("query", "symmetric")]
    _, server = attempts(name, speaking(), *sent, **told)
    found = [read(asked).texts[0] for asked in server.seen]
    assert found == ["query: " + TEXTS[0], TEXTS[0]]


@pytest.mark.parametrize("name", [n for n in REMOTE if size_of(n)])
def test_dimensions(name):
    """Asked for by the field that the provider has for it; another length ends the run."""
    size = size_of(name)
    (found,), server = attempts(name, speaking(), request(role=role_of(name)), dimensions=size)
    assert read(server.seen[0]).dimensions == size
    assert found.vectors.shape == (3, size)
    other = outcome(name, speaking(lambda rows: [row[:5] for row in rows]), dimensions=size)
    assert isinstance(other, Fatal)
    assert f"`{size}`" in other.reason
    assert "dimensions" in other.hint


@pytest.mark.parametrize("name", REMOTE)
def test_lengths(name):
    """With `normalize` vectors have length 1, from the server or from us; never rescaled else."""

    def served(asked):
        told = asked.json
        scaled = told.get("normalize") or told.get("normalized") or form_of(asked.path) == "ollama"
        rows = right(read(asked).texts)
        return written(asked, rows if scaled else [row * 3 for row in rows])

    found = outcome(name, served)
    kept, good = checked(found.vectors, normalize=True)  # as the proof of every answer does
    assert good.all()
    assert np.linalg.norm(kept, axis=1) == pytest.approx([1, 1, 1], abs=1e-6)
    if name != "ollama":  # its vectors have length 1 whatever is asked for
        found = outcome(name, served, normalize=False)
        assert np.linalg.norm(found.vectors, axis=1) == pytest.approx([3, 3, 3], abs=1e-5)


# -- answers that do not prove themselves ----------------------------------------------------------

SPOILED = {
    "one less": lambda rows: rows[:-1],
    "one more": lambda rows: [*rows, rows[0]],
    "none": lambda _: [],
    "ragged": lambda rows: [*rows[:-1], rows[-1][:-1]],
    "no numbers": lambda rows: [row[:0] for row in rows],
}


@pytest.mark.parametrize("edit", SPOILED.values(), ids=SPOILED)
@pytest.mark.parametrize("name", REMOTE)
def test_count_and_shape(name, edit):
    """A wrong number of vectors, or of numbers in one, counts as no answer."""
    assert isinstance(outcome(name, speaking(edit)), Malformed)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", REMOTE)
def test_numbers_that_are_none(name, number):
    """They cost their own row: the others are there, bit for bit."""

    def spoil(rows):
        first = rows[0].copy()
        first[0] = number
        return [first, *rows[1:]]

    (found,), server = attempts(name, speaking(spoil), request(role=role_of(name)))
    assert isinstance(found, Response), found
    assert not np.isfinite(found.vectors[0]).all()
    rows = right(TEXTS, read(server.seen[0]).role)
    assert found.vectors[1:].tolist() == np.stack(rows[1:]).tolist()


NO_ANSWERS = {
    "nothing": (b"", Unavailable),
    "a page": (b"<html><title>Welcome</title></html>", Unavailable),
    "an object": (b'{"object":"list"}', (Malformed, Unavailable)),
    "an array": (b"[]", (Malformed, Unavailable)),
    "torn": (b'{"data":[{"embedding":[0.1', (Malformed, Unavailable)),
    "null": (b"null", (Malformed, Unavailable)),
    "another form": (b'{"data":{"0":[1]},"embeddings":{"x":1}}', (Malformed, Unavailable)),
}  # fmt: skip


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
@pytest.mark.parametrize("name", REMOTE)
def test_empty_answers(name, body):
    """A 200 without vectors is no success, whatever is in it, and never an exception."""
    told, kinds = body
    assert isinstance(outcome(name, speaking(answer=lambda _: Said(200, told))), kinds)


@pytest.mark.parametrize("name", REMOTE)
def test_a_text_that_is_no_text(name):
    """A lone surrogate is no UTF-8: nothing is sent."""
    (found,), server = attempts(name, speaking(), request(("fine", "\ud800"), role_of(name)))
    assert isinstance(found, Refused)
    assert server.seen == []


# -- errors ----------------------------------------------------------------------------------------

OUTCOMES = {
    "rate": Throttled,
    "money": Fatal,
    "key": Fatal,
    "model": Fatal,
    "setting": Fatal,
    "input": Refused,
    "too large": TooLarge,
    "too long": TooLarge,
    "down": Unavailable,
}
ERRORS = [(name, error) for name in REMOTE for error in BY_PROVIDER[name]]


@pytest.mark.parametrize(
    ("name", "error"), ERRORS, ids=[f"{n}-{e.kind}-{e.status}" for n, e in ERRORS]
)
def test_errors(name, error):
    """Sorted by what they mean: a rate, money, a key, a model, a text, a size, an outage."""
    body = error.body if isinstance(error.body, bytes) else json.dumps(error.body).encode()
    said = Said(error.status, body, error.headers)
    texts = [f"text {n}" for n in range(1 if error.kind == "too long" else 3000)]
    found = outcome(name, lambda _: said, request(texts, role_of(name)))
    assert type(found) is OUTCOMES[error.kind], found
    for field, value in error.expects.items():
        assert getattr(found, field) == value, found
    if isinstance(found, Fatal):
        assert found.hint


@pytest.mark.parametrize("name", REMOTE)
def test_every_kind_of_error_is_told(name):
    """Each provider's table has what can happen at it; what it cannot say, it is excused from."""
    assert KINDS - {error.kind for error in BY_PROVIDER[name]} <= set(BY_PROVIDER[name].never)


@pytest.mark.parametrize("name", REMOTE)
def test_no_secret(name):
    """Not in the repr of anything, not when a server echoes it in all forms."""
    shapes = [KEY, base64.b64encode(KEY.encode()).decode().rstrip("=")]
    echo = " ".join(shapes)
    errors = [Said(status, {"message": echo, "error": echo, "detail": echo, "code": KEY})
              for status in (400, 401, 404, 413, 429, 500)]  # fmt: skip
    answers = iter([*errors, Said(200, {"error": {"message": echo}}), Said(200, echo.encode())])
    sent = [request(role=role_of(name))] * 8
    found, server = attempts(name, lambda _: next(answers), *sent)
    header = info(name).key_header.lower()
    assert {a.headers[header] for a in server.seen} <= {KEY, f"Bearer {KEY}"}
    assert all(KEY not in str(a.path) + str(a.query) + str(a.body) for a in server.seen)
    spec = defaults(spec_of(name, "https://h.example"))
    dialect = info(name).dialect(info(name), spec, Access())
    shown = repr(found) + repr(dialect) + repr(info(name)) + repr(spec)
    assert not any(shape in shown for shape in shapes)


@pytest.mark.parametrize("name", REMOTE)
def test_a_server_that_says_nothing_of_itself(name):
    """Every dialect with questions lives with a server that does not answer them."""

    async def go():
        async with Replay(speaking()) as server:
            provider = open_provider(spec_of(name, server.url), Access(), key=KEY)
            try:
                return await provider.about(), provider.limits, len(server.seen)
            finally:
                await provider.close()

    found, limits, calls = asyncio.run(go())
    spec = defaults(spec_of(name, "https://h.example"))
    dialect = info(name).dialect(info(name), spec, Access())
    asked = len(dialect.inquiries()) if isinstance(dialect, Inquirer) else 0
    assert calls == asked
    if info(name).form.report != "ollama":  # a 404 there says that the model is missing
        assert (found.limits, found.end) == (limits, None)


# -- those without a server ------------------------------------------------------------------------


async def _local(**told):
    return open_provider(Spec("local", "", **told), Access(concurrency=1), key=None)


async def _fake():
    return Scripted(delay=0)


def outcomes(made, *sent):
    """The outcomes of requests to a provider on this machine, and its repr."""

    async def go():
        provider = await made
        try:
            return [await provider.attempt(one) for one in sent], repr(provider)
        finally:
            await provider.close()

    return asyncio.run(go())


UNSERVED = pytest.mark.parametrize("made", [_local, _fake], ids=["local", "fake"])


@UNSERVED
def test_what_needs_no_server(made):
    """Order, count, odd texts, numbers: the same promises."""
    (whole, *alone), shown = outcomes(made(), request(ODD), *(request((text,)) for text in ODD))
    assert whole.vectors.dtype == np.float32
    assert len(whole.vectors) == len(ODD)
    assert np.isfinite(whole.vectors).all()
    for at, one in enumerate(alone):
        assert one.vectors[0].tolist() == whole.vectors[at].tolist()
        assert (0 in one.unusable) == (at in whole.unusable)
        length = float(np.linalg.norm(one.vectors[0].astype(np.float64)))
        assert length == pytest.approx(0 if at in whole.unusable else 1, abs=1e-6)
    assert KEY not in shown


@UNSERVED
def test_more_than_a_request_holds_needs_no_server(made):
    """Three thousand texts at once have the vectors that they have by threes."""
    texts = [f"text {n} of many" for n in range(3000)]
    (whole, *parts), _ = outcomes(
        made(), request(texts), *(request(texts[at : at + 3]) for at in range(0, 60, 3))
    )
    assert whole.vectors.shape[0] == 3000
    assert np.concatenate([part.vectors for part in parts]).tolist() == whole.vectors[:60].tolist()


@pytest.mark.parametrize("dimensions", [1, 128, 256])
def test_dimensions_of_the_local_model(dimensions):
    """As many numbers as asked for, the first ones of the whole vector, at length 1."""
    (found,), _ = outcomes(_local(dimensions=dimensions), request())
    (whole,), _ = outcomes(_local(), request())
    assert found.vectors.shape == (3, dimensions)
    first = whole.vectors[:, :dimensions].astype(np.float64)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    assert np.abs(found.vectors - first).max() < 1e-6


def test_a_text_that_is_no_text_to_the_local_model():
    """A lone surrogate is refused, an empty text has no vector; neither is an exception."""
    (broken, empty), _ = outcomes(_local(), request(("fine", "\ud800")), request(("", "fine")))
    assert isinstance(broken, Refused)
    assert set(empty.unusable) == {0}


def test_the_suite_would_see_a_mix_up():
    """Control: two vectors in each other's place are not right."""
    swapped = speaking(lambda rows: [rows[1], rows[0], *rows[2:]])
    for name in ("tei", "cohere", "gemini", "ollama", "aleph-alpha", "openai"):
        (found,), server = attempts(name, swapped, request(role=role_of(name)))
        assert not equal(found, right(TEXTS, read(server.seen[0]).role))
