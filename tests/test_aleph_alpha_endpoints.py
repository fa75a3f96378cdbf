"""Aleph Alpha's endpoints: which one is chosen, what each refuses, how /embed is read."""

import base64
import json
from pathlib import Path

import numpy as np
import orjson
import pytest

from batchembed.errors import JobError
from batchembed.exchange import Control, Fatal, Malformed, Request, Response
from batchembed.prompts import Image, Text, TokenControl, Tokens
from batchembed.providers import check, defaults, limits
from batchembed.providers.aleph_alpha.dialect import AlephAlpha
from batchembed.spec import Spec

EVERY = {
    "auto": {},
    "semantic_embed": {},
    "batch_semantic_embed": {},
    "embed": {"layers": (-1,), "pooling": ("mean",)},
    "instructable_embed": {"instruction": "x"},
    "embeddings": {},
}


def spec(**told):
    return defaults(Spec("aleph-alpha", "luminous-base", **told))


def dialect(**told):
    mine = spec(**told)
    return AlephAlpha(mine, limits(mine))


def request(*texts):
    return Request(np.zeros((len(texts), 16), np.uint8), texts)


def parse(mine, answer, sent=None, status=200):
    return mine.parse(sent or request("a"), status=status, headers={}, body=orjson.dumps(answer))


@pytest.mark.parametrize(
    ("told", "path"),
    [
        ({}, "batch_semantic_embed"),
        ({"dimensions": 128}, "batch_semantic_embed"),
        ({"endpoint": "semantic_embed"}, "semantic_embed"),
        ({"layers": (0,), "pooling": ("max",)}, "embed"),
        ({"instruction": ""}, "instructable_embed"),
        ({"instructions": (("query", "q"),)}, "instructable_embed"),
        ({"endpoint": "embeddings"}, "embeddings"),
    ],
)
def test_auto_takes_the_endpoint_that_the_settings_are_for(told, path):
    """Only layers and instructions need another one than the batch."""
    mine = dialect(**told)
    assert mine.build(request("a")).path == path
    one = path in ("semantic_embed", "embed", "instructable_embed")
    assert mine.limits.texts_per_request == (1 if one else 100)


@pytest.mark.parametrize(
    ("told", "name", "mend"),
    [
        ({"endpoint": "nonsense"}, "nonsense", "semantic_embed"),
        ({"layers": (1,)}, "pooling", "pooling = "),
        ({"pooling": ("mean",)}, "layers", "layers = "),
        ({"endpoint": "embed"}, "layers", "layers = "),
        ({"layers": (1, 1), "pooling": ("mean",)}, "1", "once"),
        ({"layers": (1,), "pooling": ("mean", "mean")}, "mean", "once"),
        ({"endpoint": "instructable_embed"}, "instruction", "instruction = "),
        ({"endpoint": "semantic_embed", "layers": (1,)}, "layers", 'endpoint = "embed"'),
        ({"endpoint": "embeddings", "pooling": ("mean",)}, "pooling", 'endpoint = "embed"'),
        ({"endpoint": "embed", "instruction": "x"}, "instruction", "instructable_embed"),
        ({"instruction": "x", "layers": (1,), "pooling": ("mean",)}, "instruction", "leave it"),
        ({"instruction": "x", "dimensions": 128}, "dimensions", "semantic_embed"),
        ({"layers": (1,), "pooling": ("mean",), "dimensions": 128}, "dimensions", "semantic"),
        ({"dimensions": 256}, "256", "128"),
        ({"endpoint": "embeddings", "control_log_additive": False}, "control_log", "leave it"),
        ({"endpoint": "embeddings", "contextual_control_threshold": 0.5}, "threshold", "leave it"),
        ({"prefixes": (("query", "q"),)}, "prefixes", "representation"),
    ],
)
def test_what_an_endpoint_cannot_do_is_refused_with_the_mend(told, name, mend):
    """Before anything is sent, never silently."""
    with pytest.raises(JobError, match=name) as caught:
        spec(**told)
    assert mend in caught.value.hint


@pytest.mark.parametrize("endpoint", EVERY)
def test_roles_controls_and_images_are_had_where_they_are_told(endpoint):
    """The table of docs/providers.md, endpoint by endpoint."""
    mine = spec(endpoint=endpoint, **EVERY[endpoint])
    semantic = endpoint in ("auto", "semantic_embed", "batch_semantic_embed")
    can = {
        "roles": (semantic, {"roles": ("query", "document")}),
        "controls": (endpoint != "embeddings", {"controls": True}),
        "images": (endpoint != "embeddings", {"pieces": ("image",)}),
        "prompts": (endpoint != "embeddings", {"pieces": ("prompt",)}),
        "token ids": (True, {"pieces": ("tokens",)}),
        "symmetric": (True, {"roles": ("symmetric",)}),
    }
    for what, (possible, wish) in can.items():
        if possible:
            check(mine, **wish)
            continue
        with pytest.raises(JobError, match=f"`{endpoint}`") as caught:
            check(mine, **wish)
        assert caught.value.hint, what


def test_a_role_needs_its_instruction():
    """An instruction by role makes roles of them; one that is missing is named."""
    mine = spec(instructions=(("document", ""), ("query", "q")))
    check(mine, roles=("document", "query"))
    with pytest.raises(JobError, match="`symmetric`") as caught:
        check(mine, roles=("symmetric",))
    assert "instruction = { symmetric" in caught.value.hint
    with pytest.raises(JobError, match="`query`"):
        check(spec(instruction="one for all"), roles=("query",))


@pytest.mark.parametrize("provider", ["openai", "local"])
@pytest.mark.parametrize("setting", ["image", "tokens", "prompt"])
def test_others_embed_texts_only(provider, setting):
    """The setting is named, and who can."""
    with pytest.raises(JobError, match=f"`corpus.{setting}`") as caught:
        check(defaults(Spec(provider, "")), pieces=(setting,))
    assert "aleph-alpha" in caught.value.hint


# -- /embed --------------------------------------------------------------------------------------


def embeddings(**layers):
    return {
        "model_version": "v",
        "embeddings": layers,
        "tokens": None,
        "num_tokens_prompt_total": 3,
    }


def test_layers_are_read_in_the_order_asked_for_whatever_that_of_the_answer():
    """-1 comes back under its number; the vector is theirs, one after the other."""
    mine = dialect(layers=(-1, 0), pooling=("mean", "max"))
    answer = embeddings(
        layer_0={"max": [7.0, 8.0], "mean": [5.0, 6.0]},
        layer_40={"mean": [1.0, 2.0], "max": [3, 4]},
    )
    found = parse(mine, answer)
    assert isinstance(found, Response)
    assert found.vectors.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert found.outputs == ("layer_40_mean", "layer_40_max", "layer_0_mean", "layer_0_max")
    assert (found.tokens, found.model_version) == (3, "v")


@pytest.mark.parametrize(
    ("layers", "there", "outputs"),
    [
        ((-1, -2, 3), (40, 39, 3), ("layer_40_mean", "layer_39_mean", "layer_3_mean")),
        ((-2, 40), (40, 39), ("layer_39_mean", "layer_40_mean")),
        (
            (2, -3, 1, -1),
            (1, 2, 3, 5),
            ("layer_2_mean", "layer_3_mean", "layer_1_mean", "layer_5_mean"),
        ),
    ],
)
def test_layers_from_the_end_are_told_from_others(layers, there, outputs):
    """Those asked for by number are set aside; the rest belongs to those from the end."""
    answer = embeddings(**{f"layer_{n}": {"mean": [float(n), 1.0]} for n in there})
    found = parse(dialect(layers=layers, pooling=("mean",)), answer)
    assert found.outputs == outputs
    numbers = [float(name.split("_")[1]) for name in outputs]
    assert found.vectors[0, ::2].tolist() == numbers


@pytest.mark.parametrize("layers", [(-1, 40), (40, -2, -1)])
def test_two_names_of_one_layer_end_the_run(layers):
    """Only the answer shows that -1 is 40; no row is at fault."""
    there = {f"layer_{n}": {"mean": [1.0]} for n in (40, 39)[: len(layers) - 1]}
    found = parse(dialect(layers=layers, pooling=("mean",)), embeddings(**there))
    assert isinstance(found, Fatal)
    assert "same layer" in found.reason
    assert "layers" in found.hint


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"embeddings": None},
        {"embeddings": []},
        embeddings(),
        embeddings(layer_4={"mean": [1.0]}, layer_5={"mean": [1.0]}),
        embeddings(layer_3={"mean": [1.0]}, layer_40={"mean": [1.0]}, layer_7={"mean": [1.0]}),
        embeddings(layer_3={"max": [1.0]}, layer_40={"mean": [1.0]}),
        embeddings(layer_3={"mean": []}, layer_40={"mean": [1.0]}),
        embeddings(layer_3={"mean": [1.0, 2.0]}, layer_40={"mean": [1.0]}),
        embeddings(layer_3={"mean": [[1.0]]}, layer_40={"mean": [1.0]}),
        embeddings(layer_3=[1.0], layer_40={"mean": [1.0]}),
        embeddings(layer_x={"mean": [1.0]}, layer_3={"mean": [1.0]}),
        embeddings(layer_3={"mean": "AAAA"}, layer_40={"mean": [1.0]}),
    ],
)
def test_an_answer_of_embed_that_does_not_prove_itself_is_malformed(answer):
    """Layers that were not asked for, poolings that lack, vectors of two sizes."""
    found = parse(dialect(layers=(3, -1), pooling=("mean",)), answer)
    assert isinstance(found, Malformed), found


WIRE = Path(__file__).parent / "fakes" / "aleph_alpha_recorded.json"


@pytest.mark.parametrize("recorded", json.loads(WIRE.read_text("utf-8")), ids=lambda r: r["path"])
def test_what_the_real_server_answered_is_read(recorded):
    """Shapes of answers of the live API, with vectors cut to their first four numbers."""
    mine = dialect(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in recorded["spec"].items()}
    )
    found = parse(mine, recorded["body"])
    assert isinstance(found, Response), found
    assert mine.build(request("a")).path == recorded["path"]
    assert found.vectors.shape[1] == 4 * mine.spec.outputs
    assert found.tokens == recorded["body"]["num_tokens_prompt_total"]
    assert found.model_version == recorded["body"]["model_version"]
    assert list(found.outputs) == recorded.get("outputs", [])


CAPTURED = json.loads((WIRE.parent / "aleph_alpha_captured.json").read_text("utf-8"))


def asked_for(path, body):
    """The spec and the request of which a captured body must come, read back from it."""
    told = {
        "normalize": body.get("normalize", True),
        "dimensions": body.get("compress_to_size"),
        "contextual_control_threshold": body.get("contextual_control_threshold"),
        "control_log_additive": body.get("control_log_additive", True),
        "instruction": body.get("instruction"),
        "layers": tuple(body.get("layers", ())),
        "pooling": tuple(body.get("pooling", ())),
    }
    mine = defaults(Spec("aleph-alpha", body["model"], endpoint=path.strip("/"), **told))
    if path == "/embeddings":
        prompts = [(Tokens(tuple(ids)),) for ids in body["input"]]
    else:
        given = body.get("prompts") or [body.get("prompt") or body["input"]]
        prompts = [tuple(map(piece, items)) for items in given]
    keys = np.zeros((len(prompts), 16), np.uint8)
    role = body.get("representation", "symmetric")
    return mine, Request(keys, ("",) * len(prompts), role, prompts=tuple(prompts))


def piece(item):
    if item["type"] == "text":
        spans = [Control(c["start"], c["length"], float(c["factor"])) for c in item["controls"]]
        return Text(item["data"], tuple(spans))
    if item["type"] == "image":
        return Image(base64.b64decode(item["data"]))
    spans = [TokenControl(c["index"], float(c["factor"])) for c in item["controls"]]
    return Tokens(tuple(item["data"]), tuple(spans))


@pytest.mark.parametrize("captured", CAPTURED, ids=lambda c: c["name"])
def test_requests_are_those_that_were_captured_of_the_client(captured):
    """Byte for byte but for white space, nulls and order of fields included."""
    mine, sent = asked_for(captured["path"], captured["body"])
    nice = captured["query"] == "nice=true"
    call = AlephAlpha(mine, limits(mine), nice=nice).build(sent)
    assert "/" + call.path == captured["path"]
    assert dict(call.query) == ({"nice": "true"} if nice else {})
    assert json.dumps(json.loads(call.body)) == json.dumps(captured["body"])
