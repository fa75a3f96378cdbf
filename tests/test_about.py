"""What a server says of itself before a run: asked once, heeded, and never a failure."""

import asyncio
import io
import json
import socket
from dataclasses import dataclass, replace

import pytest
from fakes import vector
from fakes.replay import Replay, Said, replaying
from fakes.runs import texts

import batchembed
from batchembed import providers
from batchembed.errors import ActionNeededError
from batchembed.exchange import About, Call, Fatal, Inquirer, Inquiry, Limits
from batchembed.job import from_dict
from batchembed.providers import Access, catalogue, open_provider
from batchembed.providers.access import checked
from batchembed.providers.cohere import Cohere
from batchembed.providers.entries import Model
from batchembed.providers.http import HttpProvider
from batchembed.providers.openai import OpenAI
from batchembed.spec import Spec

GIVEN = texts(20)
KEY = "SECRET-6f1d2c9e/4b7a+9d"


@dataclass(frozen=True, slots=True)
class Curious:
    """OpenAI's form, at a server that says what it is at /info and /version."""

    inner: OpenAI

    @property
    def limits(self):
        return self.inner.limits

    def build(self, request):
        return self.inner.build(request)

    def parse(self, request, **answer):
        return self.inner.parse(request, **answer)

    def inquiries(self):
        return [Inquiry(Call("info", b"", "GET")), Inquiry(Call("version", b"", "GET"), most=20)]

    def learn(self, known, inquiry, *, status, headers, body):
        if status != 200:
            return known
        told = json.loads(body)
        if inquiry.call.path == "version":
            return replace(known, version=told)
        if told["model"] != "fake-model":
            return replace(known, end=Fatal(f"serves `{told['model']}`", hint="name it"))
        limits = replace(known.limits, texts_per_request=told["most"], concurrency=told["at_once"])
        return replace(known, limits=limits, model=told["model"], notes=tuple(told["notes"]))


INFO = {"model": "fake-model", "most": 3, "at_once": 2, "notes": []}


def answers(info=INFO, version="1.2.3", **more):
    """A server with vectors that are a function of the text, and something to say of itself."""

    def answer(asked):
        known = {"/info": info, "/version": version}
        if asked.path in known:
            told = known[asked.path]
            return told if isinstance(told, Said) else Said(body=told, **more)
        rows = [
            {"index": at, "embedding": vector(text).tolist()}
            for at, text in enumerate(asked.json["input"])
        ]
        return Said(body={"data": rows, "model": "fake-1"})

    return answer


def dialect(most=64):
    return Curious(OpenAI(Spec("openai", "fake-model"), Limits(texts_per_request=most)))


def about(known, *, key=KEY):
    """What a provider learns from a server that answers so, and what the server saw."""

    async def go():
        async with Replay(known) as server:
            provider = HttpProvider(dialect(), checked(server.url), key=key, access=Access())
            try:
                return await provider.about(), server
            finally:
                await provider.close()

    return asyncio.run(go())


def test_questions_are_asked_in_order_with_the_key_and_no_body():
    """One call each; the answers add up."""
    found, server = about(answers())
    assert [(a.method, a.path, a.body) for a in server.seen] == [
        ("GET", "/info", b""),
        ("GET", "/version", b""),
    ]
    assert {a.headers["authorization"] for a in server.seen} == {f"Bearer {KEY}"}
    assert found == About(
        Limits(texts_per_request=3, concurrency=2), "fake-model", "1.2.3", notes=()
    )


@pytest.mark.parametrize(
    "odd",
    [
        Said(404, b"{}"),
        Said(500, b"<html>"),
        Said(200, b"<html>welcome</html>"),
        Said(200, b"[1, 2]"),
        Said(200, {"model": "fake-model"}),
        Said(301, b"", {"Location": "https://elsewhere.example/"}),
    ],
)
def test_a_server_that_has_no_such_route_costs_one_call_and_no_failure(odd):
    """What it does not say stays as it was, and the next question is still asked."""
    found, server = about(answers(info=odd))
    assert len(server.seen) == 2
    assert found == About(Limits(texts_per_request=64), version="1.2.3")


def test_an_answer_longer_than_it_may_be_is_not_read():
    """A server cannot fill the memory here either."""
    found, _ = about(answers(version="1" * 100))
    assert (found.model, found.version) == ("fake-model", "")


def test_a_server_that_is_not_there_or_silent_is_no_failure(monkeypatch):
    """The run waits for it, not the question."""

    async def nobody():
        async with Replay(answers()) as server:
            gone = server.url
        provider = HttpProvider(dialect(), checked(gone), key=None, access=Access())
        try:
            return await provider.about()
        finally:
            await provider.close()

    async def silent():
        monkeypatch.setattr("batchembed.providers.http.INQUIRY_SECONDS", 0.05)
        with socket.create_server(("127.0.0.1", 0)) as deaf:  # connections wait, and are not taken
            address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
            provider = HttpProvider(dialect(), address, key=None, access=Access())
            try:
                return await provider.about()
            finally:
                await provider.close()

    assert asyncio.run(nobody()) == asyncio.run(silent()) == About(Limits(texts_per_request=64))


def test_what_a_server_says_of_itself_brings_no_secret_to_light():
    """It may echo the key in every field."""
    told = INFO | {"notes": [f"key {KEY}"]}
    assert KEY not in repr(about(answers(told, version=f"v {KEY}"))[0])
    found, _ = about(answers(INFO | {"model": KEY}))
    assert "***" in found.end.reason
    assert KEY not in repr(found)


def test_what_can_be_asked_is_known_by_its_two_functions():
    """A dialect without questions is left alone, and a model on this machine has none to ask."""
    assert isinstance(dialect(), Inquirer)
    assert not isinstance(Cohere(Spec("cohere", "m"), Limits(), Model()), Inquirer)
    assert not OpenAI(Spec("openai", "m"), Limits()).inquiries()

    async def local():
        provider = open_provider(Spec("local", ""), Access(concurrency=1), key=None)
        try:
            return await provider.about(), provider.limits
        finally:
            await provider.close()

    found, limits = asyncio.run(local())
    assert found == About(limits)


# -- in a run --------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a job at a server that says so of itself; its summary, and what the server saw."""
    _speak(monkeypatch, dialect())
    corpus = tmp_path / "corpus.csv"
    corpus.write_text("text\n" + "\n".join(GIVEN) + "\n")

    def go(known, *, monitor=None, **limits):
        with replaying(known) as server:
            model = {"provider": "openai", "name": "fake-model", "base_url": server.url}
            tables = {
                "corpus": {"path": str(corpus), "text": "text"},
                "model": model,
                "output": {"path": str(tmp_path / "run")},
                "limits": limits,
            }
            try:
                return batchembed.run(from_dict(tables, where="here"), monitor), server.seen
            except ActionNeededError as error:
                return error, server.seen

    return go


def _speak(monkeypatch, spoken):
    changed = replace(catalogue.info("openai"), dialect=lambda *_: spoken)
    monkeypatch.setattr(providers, "info", lambda _: changed)


def sizes(seen):
    return [len(asked.json["input"]) for asked in seen if asked.method == "POST"]


def test_a_run_keeps_to_what_the_server_said(run):
    """Its own number of texts, above or below what was known; the summary tells who it was."""
    summary, seen = run(answers())
    assert sizes(seen) == [3] * 6 + [2]
    assert summary.server == "fake-model 1.2.3"
    assert summary.sent == 20


def test_a_job_may_ask_for_less_than_the_server_takes(run):
    """What the job says is the most, whatever a server would take."""
    assert sizes(run(answers(INFO | {"most": 100}), texts_per_request=7)[1]) == [7, 7, 6]


def test_a_server_that_takes_more_than_was_known_is_given_more(run, monkeypatch):
    """A default is no limit where the server says its own."""
    _speak(monkeypatch, dialect(most=1))
    assert sizes(run(answers(INFO | {"most": 100}))[1]) == [20]


def test_a_server_of_another_model_ends_the_run_before_it_is_sent_a_text(run):
    """Nothing is paid for what the job did not ask for."""
    error, seen = run(answers(INFO | {"model": "other"}))
    assert "`other`" in error.message
    assert error.hint == "name it"
    assert sizes(seen) == []


def test_notes_are_said(run):
    """In a log as on a terminal, freed of what a terminal obeys."""
    stream = io.StringIO()
    known = answers(INFO | {"notes": ["long texts are cut"]})
    run(known, monitor=batchembed.Monitor("lines", stream=stream))
    assert "note: long texts are cut\n" in stream.getvalue()


# -- what servers of one's own say -----------------------------------------------------------------

TEI = {
    "model_id": "BAAI/bge-small-en-v1.5",
    "model_sha": None,
    "model_dtype": "float32",
    "model_type": {"embedding": {"pooling": "cls"}},
    "max_concurrent_requests": 512,
    "max_input_length": 512,
    "max_batch_tokens": 16384,
    "max_client_batch_size": 64,
    "auto_truncate": True,
    "tokenization_workers": 8,
    "version": "1.9.3",
}
VLLM = {
    "object": "list",
    "data": [{"id": "intfloat/e5", "object": "model", "owned_by": "vllm", "max_model_len": 512}],
}
INFINITY = {
    "data": [{"id": "michaelfeil/bge-small", "stats": {"queue_fraction": 0.0, "batch_size": 32},
              "object": "model", "owned_by": "infinity", "capabilities": ["embed"]}],
    "object": "list",
}  # fmt: skip
OLLAMA = {
    "details": {"family": "nomic-bert"},
    "model_info": {"general.architecture": "nomic-bert", "nomic-bert.context_length": 2048},
    "capabilities": ["embedding"],
}


def report(name, model, body, status=200):
    """What our dialect learns when the server says this of itself."""
    info = catalogue.info(name)
    spec = providers.defaults(Spec(name, model))
    spoken = info.dialect(info, spec, Access())
    known = About(spoken.limits)
    for inquiry in spoken.inquiries():
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        known = spoken.learn(known, inquiry, status=status, headers={}, body=raw)
    return known


@pytest.mark.parametrize(("permits", "usual", "most"), [(4096, 16, 64), (512, 8, 8), (20, 1, 1)])
def test_no_more_requests_are_open_than_tei_has_permits_for(permits, usual, most):
    """One permit a text, 64 texts a request; without a word of its permits, what it begins with."""
    told = report("tei", "BAAI/bge-small-en-v1.5", TEI | {"max_concurrent_requests": permits})
    assert (told.limits.concurrency, told.limits.most_open) == (usual, most)
    silent = report("tei", "BAAI/bge-small-en-v1.5", b"", status=404)
    assert (silent.limits.concurrency, silent.limits.most_open) == (16, 16)


def test_tei_says_its_limits():
    """One permit a text: 512 of them are eight requests of 64. Only one of its routes cuts."""
    for name, notes in (("tei", 0), ("tei-openai", 1)):
        found = report(name, "BAAI/bge-small-en-v1.5", TEI)
        assert (found.limits.texts_per_request, found.limits.concurrency) == (64, 8)
        assert found.limits.tokens_per_text == 512
        assert found.limits.bytes_per_request == 1_000_000
        assert (found.model, found.version) == (TEI["model_id"], "text-embeddings-inference 1.9.3")
        assert len(found.notes) == notes
    assert report("tei-openai", "bge-small-en-v1.5", TEI | {"auto_truncate": False}).notes == ()
    assert report("tei", "bge-small-en-v1.5", TEI).end is None, "a folder goes by its last name"


@pytest.mark.parametrize(
    ("name", "model", "body", "word"),
    [
        ("tei", "other", TEI, "BAAI/bge-small-en-v1.5"),
        ("tei", "r", TEI | {"model_id": "r", "model_type": {"reranker": {}}}, "reranker"),
        ("vllm", "other", VLLM, "intfloat/e5"),
        ("infinity", "other", INFINITY, "michaelfeil/bge-small"),
        (
            "infinity",
            "r",
            {"data": [{"id": "r", "capabilities": ["rerank"]}]},
            "rerank",
        ),
        ("ollama", "llama3", OLLAMA | {"capabilities": ["completion"]}, "completion"),
    ],
)
def test_a_server_that_has_another_model_or_none_for_vectors(name, model, body, word):
    """The run would end before its first text, with what is served instead."""
    found = report(name, model, body)
    assert word in found.end.reason
    assert found.end.hint


def test_a_model_that_ollama_does_not_have():
    """It says 404, and the mend is a command."""
    found = report("ollama", "bge", {"error": "model 'bge' not found"}, status=404)
    assert found.end.hint == "ollama pull bge"
    assert report("ollama-openai", "bge", {}, status=404).end == found.end


@pytest.mark.parametrize(
    ("name", "model", "body", "tokens"),
    [
        ("vllm", "intfloat/e5", VLLM, 512),
        ("infinity", "michaelfeil/bge-small", INFINITY, None),
        ("ollama", "nomic", OLLAMA, 2048),
        ("lm-studio", "m", {"data": [{"id": "m"}]}, None),
    ],
)
def test_models_are_known_with_their_context(name, model, body, tokens):
    """As far as each server tells it."""
    found = report(name, model, body)
    assert (found.model, found.limits.tokens_per_text, found.end) == (model, tokens, None)


@pytest.mark.parametrize("body", [[], {}, {"data": []}, {"data": [1]}, {"model_info": 3}, 7, None])
@pytest.mark.parametrize("name", ["tei", "tei-openai", "vllm", "infinity", "ollama", "lm-studio"])
def test_a_report_that_says_nothing_changes_no_limit(name, body):
    """A proxy may answer anything; what raises here is caught where it is asked."""
    try:
        found = report(name, "m", body)
    except (KeyError, TypeError, ValueError, AttributeError):
        return
    assert found.limits == report(name, "m", b"", status=500).limits
    assert found.end is None
