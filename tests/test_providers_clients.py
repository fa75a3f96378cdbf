"""Proof against the real clients: what they send is what we send, and both read the same."""

import numpy as np
import pytest
from fakes import running, vector
from fakes.clients import listed, ours, plain, request, seen

from batchembed.exchange import Control
from batchembed.spec import Spec

aleph_alpha_client = pytest.importorskip(
    "aleph_alpha_client", reason="NOT PROVEN against aleph-alpha-client: install the group clients"
)
openai = pytest.importorskip(
    "openai", reason="NOT PROVEN against openai: install the group clients"
)

TEXTS = ("I want to play on my TV.", 'Größe 🎉 naïve "quoted" \\ \n tab\t', "x")
SPANS = ((Control(10, 4, 7.0),), (), (Control(0, 1, 0.5), Control(0, 1, 2.25)))


def prompts(texts, spans):
    aa = aleph_alpha_client
    whole = spans or [()] * len(texts)
    return [
        aa.Prompt([aa.Text(t, [aa.TextControl(c.start, c.length, plain(c.factor)) for c in s])])
        for t, s in zip(texts, whole, strict=True)
    ]


SETTINGS = {
    "plain": ({}, {}),
    "compressed": ({"dimensions": 128}, {}),
    "raw": ({"normalize": False}, {}),
    "threshold": ({"contextual_control_threshold": 0.25}, {}),
    "linear": ({"control_log_additive": False}, {}),
    "nice": ({}, {"nice": True}),
    "hosted": ({}, {"hosting": "aleph-alpha", "tags": ("a", "b")}),
    "all": ({"dimensions": 128, "normalize": False}, {"nice": True, "hosting": "aleph-alpha"}),
}


@pytest.mark.parametrize("role", ["symmetric", "document", "query"])
@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("spans", [None, SPANS], ids=["no controls", "controls"])
def test_batches_are_those_of_aleph_alpha_client(stand_in, role, settings, spans):
    """Field by field, order and nulls included, and the vectors are equal."""
    aa, (spec, access) = aleph_alpha_client, SETTINGS[settings]
    spec = Spec("aleph-alpha", "luminous-base", **spec)
    found, mine = ours(stand_in, spec, request(TEXTS, role=role, controls=spans), **access)

    client = aa.Client("TOKEN", host=stand_in.url, total_retries=0, **listed(access))
    theirs = client.batch_semantic_embed(
        aa.BatchSemanticEmbeddingRequest(prompts(TEXTS, spans), **_told(spec, role)), spec.name
    )
    client.session.close()
    assert mine == seen(stand_in)
    assert found.vectors.tolist() == np.float32(theirs.embeddings).tolist()
    assert found.tokens == theirs.num_tokens_prompt_total
    assert found.model_version == theirs.model_version


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_single_calls_are_those_of_aleph_alpha_client(stand_in, settings, at):
    """The endpoint for one text, with its controls."""
    aa, (spec, access) = aleph_alpha_client, SETTINGS[settings]
    spec = Spec("aleph-alpha", "luminous-base", endpoint="semantic_embed", **spec)
    sent = request([TEXTS[at]], "query", (SPANS[at],))
    found, mine = ours(stand_in, spec, sent, **access)

    client = aa.Client("TOKEN", host=stand_in.url, total_retries=0, **listed(access))
    (prompt,) = prompts([TEXTS[at]], [SPANS[at]])
    theirs = client.semantic_embed(
        aa.SemanticEmbeddingRequest(prompt, **_told(spec, "query")), spec.name
    )
    client.session.close()
    assert mine == seen(stand_in)
    assert found.vectors.tolist() == [np.float32(theirs.embedding).tolist()]


def test_a_host_with_a_path_is_joined_as_by_aleph_alpha_client(stand_in):
    """On-premise hosts have a prefix, with a slash at the end or not."""
    aa, spec = aleph_alpha_client, Spec("aleph-alpha", "luminous-base")
    for host in (stand_in.url + "/v1", stand_in.url + "/v1/"):
        _, mine = ours(stand_in, spec, request(TEXTS), base_url=host)
        client = aa.Client("TOKEN", host=host, total_retries=0)
        told = _told(spec, "symmetric")
        client.batch_semantic_embed(
            aa.BatchSemanticEmbeddingRequest(prompts(TEXTS, None), **told), spec.name
        )
        client.session.close()
        assert mine == seen(stand_in)
        assert mine["path"] == "/v1/batch_semantic_embed"


@pytest.mark.parametrize(("texts", "dimensions"), [(TEXTS, None), (TEXTS[:1], 64)])
def test_calls_are_those_of_the_openai_client(stand_in, texts, dimensions):
    """The same fields as the SDK with its default encoding; test_vendors has the other hosts."""
    spec = Spec("openai", "text-embedding-3-small", dimensions=dimensions)
    found, mine = ours(stand_in, spec, request(texts), base_url=stand_in.openai_url)
    told = {} if dimensions is None else {"dimensions": dimensions}
    with openai.OpenAI(api_key="TOKEN", base_url=stand_in.openai_url, max_retries=0) as client:
        theirs = client.embeddings.create(model=spec.name, input=list(texts), **told)
    other = seen(stand_in)
    assert sorted(mine.pop("body")) == sorted(other.pop("body"))
    assert mine == other
    assert found.vectors.tolist() == [np.float32(e.embedding).tolist() for e in theirs.data]
    assert found.tokens == theirs.usage.total_tokens
    assert found.model_version == theirs.model


def test_the_recorder_would_see_a_difference(stand_in):
    """Control: another role is another request, and another vector."""
    spec = Spec("aleph-alpha", "luminous-base")
    one, mine = ours(stand_in, spec, request(TEXTS, role="query"))
    two, other = ours(stand_in, spec, request(TEXTS, role="document"))
    assert mine != other
    assert one.vectors.tolist() != two.vectors.tolist()
    right = vector(TEXTS[0], role="query", model=spec.name)
    assert one.vectors[0].tolist() == right.tolist()


def _told(spec, role):
    return {
        "representation": getattr(aleph_alpha_client.SemanticRepresentation, role.capitalize()),
        "compress_to_size": spec.dimensions,
        "normalize": spec.normalize,
        "contextual_control_threshold": spec.contextual_control_threshold,
        "control_log_additive": spec.control_log_additive,
    }


@pytest.fixture(scope="module")
def stand_in():
    with running() as server:
        yield server
