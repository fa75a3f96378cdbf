"""Models on this machine: off the loop, nothing cut, nothing invented for a text without tokens."""

import asyncio
import json
import sys
import threading
import types

import numpy as np
import pytest

from batchembed.errors import JobError, MissingExtraError
from batchembed.exchange import Control, Fatal, Limits, Refused, Request, Response
from batchembed.providers import Access, local, open_provider, sentence_transformers
from batchembed.providers.presets.own import STATIC_DIMENSIONS, STATIC_MODEL
from batchembed.providers.static_files import EMBEDDED
from batchembed.spec import Spec


def request(*texts, **more):
    return Request(keys=np.zeros((len(texts), 16), np.uint8), texts=texts, **more)


class StandInModel:
    """Gives (characters, controlled characters), and 0 tokens for a text without letters."""

    name, version, dimensions = "stand-in", "7", 2

    def encode(self, texts, controls=None):
        self.seen = texts, controls
        spans = controls or [[] for _ in texts]
        found = [[len(t), sum(s[1] * s[2] for s in c)] for t, c in zip(texts, spans, strict=True)]
        known = [sum(c.isalpha() for c in t) for t in texts]
        vectors = np.array(found, dtype=np.float32)
        vectors[[n == 0 for n in known]] = 0
        return vectors, np.array(known, dtype=np.int32)


def test_texts_without_a_known_token_are_named():
    """Zeros are not passed off as a vector."""
    found = local.embed(StandInModel(), request("abc", "🂡🂢", "a"))
    assert dict(found.unusable) == {1: "no_known_token"}
    assert found.vectors.tolist() == [[3, 0], [0, 0], [1, 0]]
    assert (found.tokens, found.model_version) == (4, "stand-in 7")


def test_controls_reach_the_model_as_plain_spans():
    """Start, length and factor, in characters, for each text its own."""
    model = StandInModel()
    spans = ((Control(1, 2, 7.0),), ())
    found = local.embed(model, request("abc", "d", controls=spans))
    assert model.seen[1] == [[(1, 2, 7.0)], []]
    assert found.vectors.tolist() == [[3, 14], [1, 0]]


def test_the_embedded_model_is_a_provider():
    """The model in the package: unit vectors, controls, and a prefix for fewer dimensions."""
    texts = ("A wolf hunts at night.", "𓀀", "Stocks fell on Monday.")
    provider = open_provider(Spec("local", ""), Access(), key=None)
    found = attempt(provider, request(*texts))
    assert found.vectors.shape == (3, STATIC_DIMENSIONS)
    assert dict(found.unusable) == {1: "no_known_token"}
    assert np.linalg.norm(found.vectors[[0, 2]], axis=1) == pytest.approx([1, 1], abs=1e-6)
    assert found.model_version.startswith(STATIC_MODEL)
    provider = open_provider(Spec("local", "", dimensions=64), Access(), key=None)
    spans = ((Control(2, 4, 9.0),), (), ())
    moved = attempt(provider, request(*texts, controls=spans))
    assert moved.vectors.shape == (3, 64)
    shorter = [v[:64] / np.linalg.norm(v[:64]) for v in found.vectors[[0, 2]]]
    assert moved.vectors[2] == pytest.approx(shorter[1], abs=1e-5)
    assert moved.vectors[0] != pytest.approx(shorter[0], abs=1e-2)


def test_the_catalogue_tells_the_truth_of_the_embedded_model():
    """Its name and size are known without loading it."""
    about = json.loads((EMBEDDED / "model.json").read_text())
    assert (about["name"], about["dimensions"]) == (STATIC_MODEL, STATIC_DIMENSIONS)


def test_a_text_that_the_model_cannot_take_is_refused():
    """The run then looks for it; its neighbours are not lost."""
    provider = open_provider(Spec("local", ""), Access(), key=None)
    found = attempt(provider, request("fine", "bad \ud800"))
    assert isinstance(found, Refused)
    assert "surrogate" in found.reason


def attempt(provider, sent):
    async def go():
        try:
            return await provider.attempt(sent)
        finally:
            await provider.close()

    return asyncio.run(go())


def test_encoding_does_not_hold_the_loop():
    """The loop goes on while a model works: here it releases the very work it waits for."""
    gate = threading.Event()

    def encode(sent):
        assert gate.wait(10)
        return Response(np.ones((len(sent), 1), np.float32))

    async def go():
        provider = local.LocalProvider(encode, Limits())
        attempt = asyncio.ensure_future(provider.attempt(request("a")))
        await asyncio.sleep(0)
        gate.set()
        found = await attempt
        await provider.close()
        return found

    assert isinstance(asyncio.run(go()), Response)


def test_a_model_that_fails_ends_the_run_as_a_value():
    """No exception passes, and the cause is told."""

    def encode(_):
        raise RuntimeError("out of\nmemory")

    found = attempt(local.LocalProvider(encode, Limits()), request("a"))
    assert isinstance(found, Fatal)
    assert "RuntimeError" in found.reason
    assert found.hint == "out of memory"


class Library(types.ModuleType):
    """A stand-in for sentence-transformers: words are tokens, 3 at most."""

    def __init__(self):
        super().__init__("sentence_transformers")
        self.loaded = []
        self.encoded = []

    def SentenceTransformer(self, name, *, device, truncate_dim):  # noqa: N802 — the library's
        if name == "broken":
            raise OSError("no such\nmodel")
        self.loaded.append((name, device, truncate_dim))
        return self

    max_seq_length = 3

    def tokenizer(self, texts, *, truncation, padding, verbose):
        assert not truncation
        return {"input_ids": [text.split() for text in texts]}

    def get_sentence_embedding_dimension(self):
        return 2

    def encode(self, texts, *, normalize_embeddings, **_):
        self.encoded.append((texts, normalize_embeddings))
        return np.array([[len(t), 1] for t in texts], dtype=np.float64)


@pytest.fixture
def library(monkeypatch):
    found = Library()
    monkeypatch.setitem(sys.modules, "sentence_transformers", found)
    return found


def test_too_long_texts_are_named_not_cut(library):
    """The library would cut them without a word."""
    spec = Spec("local", "org/model", prefixes=(("query", "q: "),), normalize=False)
    provider = open_provider(spec, Access(device="cpu"), key=None)
    found = attempt(provider, request("one two", "one two three", "x", role="query"))
    assert dict(found.unusable) == {1: "too_long"}
    assert library.encoded == [(["q: one two", "q: x"], False)]
    assert found.vectors.tolist() == [[10, 1], [0, 0], [4, 1]]
    assert found.vectors.dtype == np.float32
    assert found.tokens == 5
    assert library.loaded == [("org/model", "cpu", None)]


def test_a_request_of_too_long_texts_only_encodes_nothing(library):
    """There is nothing to ask the model for."""
    provider = open_provider(Spec("local", "org/model", dimensions=7), Access(), key=None)
    found = attempt(provider, request("a b c d", "a b c d e"))
    assert found.vectors.shape == (2, 7)
    assert dict(found.unusable) == {0: "too_long", 1: "too_long"}
    assert library.encoded == []
    assert library.loaded == [("org/model", None, 7)]


def test_a_model_that_cannot_be_loaded_is_named(library):
    """A wrong name or folder is the job's mistake."""
    with pytest.raises(JobError, match="`broken`") as caught:
        sentence_transformers.open_model(Spec("local", "broken"))
    assert "no such model" in str(caught.value)
    with pytest.raises(JobError, match="`tpu`"):
        sentence_transformers.open_model(Spec("local", "m"), device="tpu")


def test_without_the_library_the_install_line_is_given(monkeypatch):
    """The extra is named as pip wants it."""
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match="`org/model`") as caught:
        open_provider(Spec("local", "org/model"), Access(), key=None)
    assert caught.value.hint == "pip install 'batchembed[sentence-transformers]'"
