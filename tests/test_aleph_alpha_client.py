"""Proof against aleph-alpha-client: every endpoint and every kind of item, field by field."""

import asyncio
import json

import numpy as np
import pytest
from fakes import running

from batchembed.exchange import Control, Request, Response
from batchembed.providers import Access, open_provider
from batchembed.spec import Spec

aa = pytest.importorskip(
    "aleph_alpha_client", reason="NOT PROVEN against aleph-alpha-client: install the group clients"
)

MODEL = "luminous-base"
TEXT = 'Größe 🎉 naïve "quoted" \\ \n tab\t'
SPANS = (Control(0, 5, 7.0), Control(6, 1, 0.25))
ACCESS = {
    "plain": {},
    "nice": {"nice": True},
    "hosted": {"hosting": "aleph-alpha", "tags": ("a", "b")},
}
FIELDS = {
    "plain": {},
    "raw": {"normalize": False},
    "threshold": {"contextual_control_threshold": 0.25},
    "linear": {"control_log_additive": False},
}


def request(texts=(TEXT,), role="symmetric", controls=None, prompts=None):
    keys = np.zeros((len(texts), 16), np.uint8)
    return Request(keys=keys, texts=tuple(texts), role=role, controls=controls, prompts=prompts)


def ours(server, spec, sent, **access):
    """Return the outcome of one attempt of ours, and what the server saw of it."""

    async def attempt():
        provider = open_provider(spec, Access(base_url=server.url, **access), key="TOKEN")
        try:
            return await provider.attempt(sent)
        finally:
            await provider.close()

    outcome = asyncio.run(attempt())
    assert isinstance(outcome, Response), outcome
    return outcome, seen(server)


def theirs(server, call, access):
    """Return what their client makes of an answer, and what the server saw of its request."""
    told = {k: list(v) if isinstance(v, tuple) else v for k, v in access.items()}
    client = aa.Client("TOKEN", host=server.url, total_retries=0, **told)
    try:
        return call(client), seen(server)
    finally:
        client.session.close()


def seen(server):
    """Return method, path, query, headers that matter, and the body with its order of fields."""
    last = server.last
    headers = {name.lower(): value for name, value in last["headers"].items()}
    return {
        "method": last["method"],
        "path": last["path"],
        "query": last["query"],
        "authorization": headers["authorization"],
        "content-type": headers["content-type"],
        "body": json.loads(last["body"], object_pairs_hook=list),
    }


def prompt(text=TEXT, spans=SPANS):
    controls = [aa.TextControl(c.start, c.length, _plain(c.factor)) for c in spans]
    return aa.Prompt([aa.Text(text, controls)])


def _plain(factor):
    return int(factor) if float(factor).is_integer() else factor


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("fields", FIELDS)
def test_embed_is_that_of_the_client(stand_in, fields, access):
    """Layers and poolings, counted from both ends; the same vectors, in the order asked for."""
    layers, pooling = (-1, 0, 17, -2), ("mean", "last_token", "abs_max")
    told = FIELDS[fields]
    spec = Spec("aleph-alpha", MODEL, layers=layers, pooling=pooling, **told)
    found, mine = ours(stand_in, spec, request(controls=(SPANS,)), **ACCESS[access])
    asked = aa.EmbeddingRequest(prompt(), list(layers), list(pooling), **_defaults(told))
    read, other = theirs(stand_in, lambda client: client.embed(asked, MODEL), ACCESS[access])
    assert mine == other
    order = [(f"layer_{n}", p) for n in (40, 0, 17, 39) for p in pooling]
    assert found.outputs == tuple("_".join(each) for each in order)
    right = np.concatenate([np.float32(read.embeddings[each]) for each in order])
    assert found.vectors.tolist() == [right.tolist()]
    assert (found.tokens, found.model_version) == (read.num_tokens_prompt_total, read.model_version)


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("instruction", ["What is it about?", ""])
def test_instructable_embed_is_that_of_the_client(stand_in, fields, access, instruction):
    """The field is called input; an instruction may be empty."""
    told = FIELDS[fields]
    spec = Spec("aleph-alpha", MODEL, instruction=instruction, **told)
    found, mine = ours(stand_in, spec, request(controls=(SPANS,)), **ACCESS[access])
    asked = aa.embedding.InstructableEmbeddingRequest(prompt(), instruction, **_defaults(told))
    read, other = theirs(
        stand_in, lambda client: client.instructable_embed(asked, MODEL), ACCESS[access]
    )
    assert mine == other
    assert found.vectors.tolist() == [np.float32(read.embedding).tolist()]
    assert found.tokens == read.num_tokens_prompt_total


def test_each_role_may_have_its_instruction(stand_in):
    """So queries and documents are of one spec, and can be compared."""
    pairs = (("document", ""), ("query", "Find what answers this"))
    spec = Spec("aleph-alpha", MODEL, instructions=pairs)
    for role, instruction in pairs:
        _, mine = ours(stand_in, spec, request(role=role))
        asked = aa.embedding.InstructableEmbeddingRequest(
            prompt(spans=()), instruction, normalize=True
        )
        _, other = theirs(stand_in, lambda c, r=asked: c.instructable_embed(r, MODEL), {})
        assert mine == other


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("dimensions", [None, 16])
def test_embeddings_is_that_of_the_client(stand_in, dimensions, access):
    """OpenAI's form: base64, which their client hands on and we decode; None is left out."""
    texts = (TEXT, "b", "c")
    spec = Spec("aleph-alpha", MODEL, endpoint="embeddings", dimensions=dimensions)
    found, mine = ours(stand_in, spec, request(texts), **ACCESS[access])
    asked = aa.EmbeddingV2Request(list(texts), dimensions, "base64")
    read, other = theirs(stand_in, lambda client: client.embeddings(asked, MODEL), ACCESS[access])
    assert mine == other
    plain = aa.EmbeddingV2Request(list(texts), dimensions, "float")
    numbers, _ = theirs(stand_in, lambda client: client.embeddings(plain, MODEL), {})
    assert found.vectors.tolist() == [np.float32(e.embedding).tolist() for e in numbers.data]
    assert (found.tokens, found.model_version) == (read.usage.total_tokens, read.model)


def _defaults(told):
    return {"normalize": True} | told


@pytest.fixture(scope="module")
def stand_in():
    with running() as server:
        yield server
