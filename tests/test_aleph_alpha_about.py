"""What Aleph Alpha's server says of its models: before a run, and for an exact plan."""

import json

import numpy as np
import orjson
import pytest
from fakes import running
from fakes.runs import texts
from tokenizers import Tokenizer, models, pre_tokenizers

from batchembed.exchange import About, Limits, Request
from batchembed.prompts import Image, Text, Tokens
from batchembed.providers import defaults, limits
from batchembed.providers.aleph_alpha import about
from batchembed.providers.aleph_alpha.dialect import AlephAlpha
from batchembed.providers.tokenizing import TokenCounter
from batchembed.spec import Spec

GIVEN = texts(30)


def model(name="fake-model", **told):
    every = {
        "status": "available",
        "description": "",
        "multimodal": True,
        "max_context_size": 2048,
        "semantic_embedding": True,
        "embedding_type": "semantic",
    }
    return {"name": name} | every | told


def letters():
    """A tokenizer whose tokens are words, told apart by white space."""
    made = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return made.to_str().encode()


def spec(**told):
    return defaults(Spec("aleph-alpha", "fake-model", **told))


def learnt(answer, mine=None, status=200):
    mine = mine or spec()
    body = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    known = About(Limits(tokens_per_text=7))
    return AlephAlpha(mine, limits(mine)).learn(
        known, about.SETTINGS, status=status, headers={}, body=body
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [([model()], 404), ({}, 200), ([], 200), (["fake-model"], 200), ("x", 200), (None, 200)],
)
def test_an_answer_that_says_nothing_of_use_changes_nothing(answer, status):
    """Older servers have no such route; a proxy may answer anything."""
    assert learnt(answer, status=status) == About(Limits(tokens_per_text=7))


def test_an_answer_that_is_no_json_is_a_value_error():
    """The transport passes over it."""
    with pytest.raises(ValueError, match="unexpected"):
        learnt(b"<html>")


def test_context_and_images_are_learnt():
    """What the server says holds, also where it is less than what was known."""
    found = learnt([model("other"), model(max_context_size=99, multimodal=False)])
    assert (found.limits.tokens_per_text, found.images, found.end) == (99, False, None)
    odd = learnt([model(max_context_size="2048", multimodal=None)])
    assert (odd.limits.tokens_per_text, odd.images) == (7, None)


@pytest.mark.parametrize(
    ("told", "endpoint", "ends"),
    [
        ({"embedding_type": "none", "semantic_embedding": False}, {}, True),
        ({"embedding_type": "none"}, {"instruction": "x"}, True),
        ({"embedding_type": "none"}, {"layers": (1,), "pooling": ("mean",)}, True),
        ({"embedding_type": "raw", "semantic_embedding": False}, {}, True),
        ({"embedding_type": None, "semantic_embedding": False}, {}, True),
        ({"embedding_type": "instructable", "semantic_embedding": True}, {}, False),
        ({"embedding_type": "semantic"}, {"layers": (1,), "pooling": ("mean",)}, False),
        ({"embedding_type": None, "semantic_embedding": False}, {"instruction": "x"}, False),
        ({"embedding_type": None, "semantic_embedding": None}, {}, False),
    ],
)
def test_a_model_that_does_not_embed_ends_the_run(told, endpoint, ends):
    """Only what the server says outright; a kind that is not the one asked for is no proof."""
    found = learnt([model("good"), model(**told)], spec(**endpoint))
    assert (found.end is not None) == ends
    if ends:
        assert "`fake-model`" in found.end.reason
        assert "good" in found.end.hint


def test_a_model_that_is_not_listed_is_noted():
    """It may have another name there; the first request will tell."""
    found = learnt([model("other")])
    assert found.end is None
    assert found.notes == ("the server lists no model `fake-model`",)
    assert learnt([model(status="unavailable")]).notes


def test_a_run_asks_before_it_sends(place):
    """Without a query, with the key; a model that does not embed costs no request."""
    told = {"model-settings": json.dumps([model(embedding_type="none")]).encode()}
    with running(about=told, key="a-key") as server:
        job = place(GIVEN, server=server, provider="aleph-alpha", access__nice=True)
        ended = job.run(code=4)
        assert "makes no vectors" in ended.err
        assert server.bill.requests == 0
        ((path, query, headers),) = server.inquiries
        assert (path, query) == ("/model-settings", {})
        assert headers["Authorization"] == "Bearer a-key"
        server.about = {"model-settings": json.dumps([model()]).encode()}
        job.run()
        assert job.wrong() == []


def test_images_for_a_model_without_eyes_end_the_run(place):
    """Before the first of them is sent."""
    told = {"model-settings": json.dumps([model(multimodal=False)]).encode()}
    with running(about=told) as server:
        job = place(GIVEN, server=server, provider="aleph-alpha", corpus__image="text")
        job.set(corpus__image="text", limits__max_rejects="100%")
        (job.folder / "a.png").write_bytes(b"x")
        job.fill(["a.png"])
        settings = job.job.read_text().replace('text = "text"\n', "")
        job.job.write_text(settings)
        assert "takes no images" in job.run(code=4).err
        assert server.bill.requests == 0


def test_a_plan_that_asks_is_exact(place):
    """Tokens by the model's own tokenizer, texts that are too long for it; nothing on the bill."""
    words = [text.split() for text in GIVEN]
    context = 20
    told = {
        "model-settings": json.dumps([model(max_context_size=context)]).encode(),
        "models/fake-model/tokenizer": letters(),
    }
    with running(about=told, key="a-key") as server:
        job = place(GIVEN, server=server, provider="aleph-alpha")
        found = job.run("plan", job.job, "--ask", "--json").json
        total = sum(map(len, words))
        assert (found["exact"], found["tokens"]) == (True, [total] * 3)
        assert found["context"] == context
        assert found["too_long"] == sum(len(each) > context for each in words) > 0
        said = job.run("plan", job.job, "--ask").out
        assert f"{total:,}, counted by the model's own tokenizer" in said
        assert f"{context} tokens a text; {found['too_long']} texts too long for that" in said
        assert server.bill.requests == 0

        plain = job.run("plan", job.job, "--json").json
        assert (plain["exact"], plain["context"]) == (False, None)
        server.about = {}
        without = job.run("plan", job.job, "--ask", "--json").json
        assert without["exact"] is False
        assert without["tokens"] == plain["tokens"]
        assert "tokenizer" in without["notes"][0]
        server.about = told | {
            "model-settings": json.dumps(
                [model(semantic_embedding=False, embedding_type="raw")]
            ).encode()
        }
        assert "makes no vectors" in job.run("plan", job.job, "--ask", code=4).err


def test_images_and_token_ids_are_counted_too():
    """144 tokens an image, one a token id."""
    given = [(Image(b"x"), Text("two words")), (Tokens((1, 2, 3)),), (Text("one"),)]
    sent = Request(np.zeros((3, 16), np.uint8), ("two words", "", "one"), prompts=tuple(given))
    assert TokenCounter(letters()).counts(sent) == [146, 3, 1]
    with pytest.raises(ValueError, match="no tokenizer"):
        TokenCounter(b"{}")
