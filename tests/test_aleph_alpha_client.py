"""Proof against aleph-alpha-client: every endpoint and every kind of item, field by field."""

import numpy as np
import pytest
from fakes import running
from fakes.clients import listed, ours, plain, request, seen

from batchembed.exchange import Control
from batchembed.prompts import Image, ImageControl, Text, TokenControl, Tokens, words
from batchembed.spec import Spec

aa = pytest.importorskip(
    "aleph_alpha_client", reason="NOT PROVEN against aleph-alpha-client: install the group clients"
)

aa_prompt = pytest.importorskip("aleph_alpha_client.prompt")

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


def theirs(server, call, access):
    """Return what their client makes of an answer, and what the server saw of its request."""
    client = aa.Client("TOKEN", host=server.url, total_retries=0, **listed(access))
    try:
        return call(client), seen(server)
    finally:
        client.session.close()


def prompt(text=TEXT, spans=SPANS):
    controls = [aa.TextControl(c.start, c.length, plain(c.factor)) for c in spans]
    return aa.Prompt([aa.Text(text, controls)])


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("fields", FIELDS)
def test_embed_is_that_of_the_client(stand_in, fields, access):
    """Layers and poolings, counted from both ends; the same vectors, in the order asked for."""
    layers, pooling = (-1, 0, 17, -2), ("mean", "last_token", "abs_max")
    told = FIELDS[fields]
    spec = Spec("aleph-alpha", MODEL, layers=layers, pooling=pooling, **told)
    found, mine = ours(stand_in, spec, request([TEXT], controls=(SPANS,)), **ACCESS[access])
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
    found, mine = ours(stand_in, spec, request([TEXT], controls=(SPANS,)), **ACCESS[access])
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
        _, mine = ours(stand_in, spec, request([TEXT], role=role))
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


PIXELS = b"\x89PNG\r\n\x1a\n of a kind"
RECT = (0.25, 0.5, 0.5, 0.125)
PIECES = {
    "text": (Text(TEXT, SPANS),),
    "text with overlaps": (
        Text(TEXT, (Control(0, 5, 2.0, "complete"), Control(6, 1, 0.5, "partial"))),
    ),
    "image": (Image(PIXELS),),
    "image with crop": (Image(PIXELS, (3, 0, 40)),),
    "image with controls": (
        Image(PIXELS, None, (ImageControl(*RECT, 2.5), ImageControl(0.0, 0.0, 1.0, 1.0, 3.0))),
    ),
    "image with everything": (Image(PIXELS, (0, 7, 9), (ImageControl(*RECT, 0.5, "complete"),)),),
    "token ids": (Tokens((3544, 12, 99)),),
    "token ids with controls": (
        Tokens((3544, 12, 99), (TokenControl(1, 0.5), TokenControl(2, 4.0))),
    ),
    "mixed": (Text("What is "), Image(PIXELS), Text("?"), Tokens((1, 2)), Image(PIXELS, (0, 0, 1))),
}


def their_item(piece):
    overlaps = {None: None, **{each.value: each for each in aa.ControlTokenOverlap}}
    if isinstance(piece, Text):
        spans = [
            aa.TextControl(c.start, c.length, plain(c.factor), overlaps[c.overlap])
            for c in piece.controls
        ]
        return aa.Text(piece.text, spans)
    if isinstance(piece, Tokens):
        return aa.Tokens(
            list(piece.ids), [aa.TokenControl(c.index, plain(c.factor)) for c in piece.controls]
        )
    spans = [
        aa.ImageControl(c.left, c.top, c.width, c.height, plain(c.factor), overlaps[c.overlap])
        for c in piece.controls
    ]
    crop = None if piece.crop is None else aa_prompt.Cropping(*piece.crop)
    return aa.Image.from_bytes(piece.data, crop, spans)


@pytest.mark.parametrize(
    "endpoint", ["batch_semantic_embed", "semantic_embed", "embed", "instruct"]
)
@pytest.mark.parametrize("kind", PIECES)
def test_every_kind_of_item_is_that_of_the_client(stand_in, kind, endpoint):
    """Texts, images, token ids and mixtures, with their controls, at every endpoint."""
    mine, item = PIECES[kind], aa.Prompt([their_item(piece) for piece in PIECES[kind]])
    symmetric = aa.SemanticRepresentation.Symmetric
    calls = {
        "batch_semantic_embed": (
            {},
            lambda c: c.batch_semantic_embed(
                aa.BatchSemanticEmbeddingRequest([item, item], symmetric, normalize=True), MODEL
            ),
        ),
        "semantic_embed": (
            {"endpoint": "semantic_embed"},
            lambda c: c.semantic_embed(
                aa.SemanticEmbeddingRequest(item, symmetric, normalize=True), MODEL
            ),
        ),
        "embed": (
            {"layers": (3,), "pooling": ("max",)},
            lambda c: c.embed(aa.EmbeddingRequest(item, [3], ["max"], normalize=True), MODEL),
        ),
        "instruct": (
            {"instruction": "x"},
            lambda c: c.instructable_embed(
                aa.embedding.InstructableEmbeddingRequest(item, "x", normalize=True), MODEL
            ),
        ),
    }
    told, call = calls[endpoint]
    count = 2 if endpoint == "batch_semantic_embed" else 1
    sent = request([words(mine)] * count, prompts=(mine,) * count)
    found, ours_seen = ours(stand_in, Spec("aleph-alpha", MODEL, **told), sent)
    read, theirs_seen = theirs(stand_in, call, {})
    assert ours_seen == theirs_seen
    if endpoint == "embed":
        right = list(read.embeddings.values())
    else:
        right = read.embeddings if count == 2 else [read.embedding]
    assert found.vectors.tolist() == np.float32(right).tolist()


def test_token_ids_at_embeddings_are_those_of_the_client(stand_in):
    """A list of lists, as OpenAI's form has it."""
    ids = [(1, 2, 3), (4,)]
    sent = request(["", ""], prompts=tuple((Tokens(each),) for each in ids))
    spec = Spec("aleph-alpha", MODEL, endpoint="embeddings")
    _, mine = ours(stand_in, spec, sent)
    asked = aa.EmbeddingV2Request([list(each) for each in ids], None, "base64")
    _, other = theirs(stand_in, lambda client: client.embeddings(asked, MODEL), {})
    assert mine == other


def test_the_recorder_sees_a_control_that_is_lost(stand_in):
    """Control of this suite: without its control, an image is another request and vector."""
    spec = Spec("aleph-alpha", MODEL)
    whole, bare = PIECES["image with controls"], PIECES["image"]
    one, mine = ours(stand_in, spec, request([""], prompts=(whole,)))
    two, other = ours(stand_in, spec, request([""], prompts=(bare,)))
    assert mine != other
    assert one.vectors.tolist() != two.vectors.tolist()


def _defaults(told):
    return {"normalize": True} | told


@pytest.fixture(scope="module")
def stand_in():
    with running() as server:
        yield server
