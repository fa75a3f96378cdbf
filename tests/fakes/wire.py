"""How the stand-in reads a request and writes an answer, in each provider's form."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from .faults import Reply

LAYERS = 40  # those of luminous-base


@dataclass(frozen=True)
class Asked:
    """One request, whatever its provider."""

    texts: list[str]
    role: str
    controls: list[list[tuple[int, int, float]]]
    model: str
    dimensions: int | None
    unit: bool
    form: str  # single | batch | openai | embed
    encoding: str = "float"
    outputs: tuple[tuple[int, str], ...] = ()  # layer and pooling, layers as they were asked for
    more: tuple = ()  # what else the vector is a function of: images, token ids, instruction, …


def read(path: str, body: bytes) -> Asked | None:
    """Return what a request asks for, or None when the path or body has no meaning."""
    readers = {
        "embeddings": _openai,
        "batch_semantic_embed": lambda told: _aleph_alpha(told, told["prompts"], "batch"),
        "semantic_embed": lambda told: _aleph_alpha(told, [told["prompt"]], "single"),
        "instructable_embed": lambda told: _aleph_alpha(told, [told["input"]], "single"),
        "embed": lambda told: _aleph_alpha(told, [told["prompt"]], "embed"),
    }
    try:
        return readers[path.rpartition("/")[2]](orjson.loads(body))
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def write(asked: Asked, reply: Reply, encoding: str | None) -> bytes:
    """Return the body of the answer."""
    if asked.form == "openai":
        return _write_openai(reply, encoding or asked.encoding)
    if asked.form == "embed":
        return _write_layers(asked, reply)
    rows: Any = [v.astype(np.float32) for v in reply.vectors]
    name = "embeddings" if asked.form == "batch" else "embedding"
    found = {
        "model_version": reply.model,
        name: rows if asked.form == "batch" else rows[0],
        "num_tokens_prompt_total": reply.tokens,
    }
    return _dumped(found, rows)


def _write_layers(asked: Asked, reply: Reply) -> bytes:
    """Write the vector of each layer and pooling; layers come back under their number."""
    rows = np.split(reply.vectors[0].astype(np.float32), len(asked.outputs))
    told: dict[str, Any] = {}
    for (layer, pooling), row in zip(asked.outputs, rows, strict=True):
        told.setdefault(f"layer_{absolute(layer)}", {})[pooling] = row
    found = {
        "model_version": reply.model,
        "embeddings": dict(sorted(told.items(), reverse=True)),
        "tokens": None,
        "num_tokens_prompt_total": reply.tokens,
    }
    return _dumped(found, rows)


def absolute(layer: int) -> int:
    """Return the number of a layer counted from the start."""
    return layer if layer >= 0 else LAYERS + 1 + layer


def _write_openai(reply: Reply, encoding: str) -> bytes:
    rows = [v.astype(np.float32) for v in reply.vectors]
    shown: list[Any] = rows
    if encoding == "base64":
        shown = [base64.b64encode(v.astype("<f4").tobytes()).decode() for v in rows]
    data = [
        {"object": "embedding", "index": i, "embedding": v}
        for i, v in zip(reply.indices, shown, strict=True)
    ]
    usage = {"prompt_tokens": reply.tokens, "total_tokens": reply.tokens}
    found = {"object": "list", "data": data, "model": reply.model, "usage": usage}
    return orjson.dumps(found) if encoding == "base64" else _dumped(found, rows)


def _dumped(found: Any, rows: list[np.ndarray]) -> bytes:
    """Return JSON, with NaN and infinity written as Python's json (and bad servers) write them."""
    if all(np.isfinite(v).all() for v in rows):
        return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)
    return json.dumps(found, default=lambda v: v.astype(float).tolist()).encode()


def _openai(told: dict[str, Any]) -> Asked:
    given = told["input"]
    given = [given] if isinstance(given, str) else given
    texts = [each if isinstance(each, str) else f"ids {each}" for each in given]
    return Asked(
        texts=texts,
        role=told.get("input_type") or "symmetric",
        controls=[[] for _ in texts],
        model=told["model"],
        dimensions=told.get("dimensions") or told.get("output_dimension"),
        unit=True,
        form="openai",
        encoding=told.get("encoding_format") or "float",
    )


def _aleph_alpha(told: dict[str, Any], prompts: list[Any], form: str) -> Asked:
    outputs = [(layer, pool) for layer in told.get("layers", ()) for pool in told["pooling"]]
    return Asked(
        texts=[said(prompt) for prompt in prompts],
        role=told.get("representation") or "symmetric",
        controls=[
            [
                (c["start"], c["length"], float(c["factor"]), *_overlap(c))
                for part in prompt
                if part["type"] == "text"
                for c in part.get("controls", ())
            ]
            for prompt in prompts
        ],
        model=told.get("model") or "",
        dimensions=told.get("compress_to_size"),
        unit=bool(told["normalize"]),
        form=form,
        outputs=tuple(outputs),
        more=(told["instruction"],) if "instruction" in told else (),
    )


def said(prompt: list[dict[str, Any]]) -> str:
    """Return a prompt in words: its texts as they are, of all else what it is a function of."""
    return "".join(_words(part) for part in prompt)


def _words(part: dict[str, Any]) -> str:
    if part["type"] == "text":
        return part["data"]
    if part["type"] == "token_ids":
        spans = [[c["index"], float(c["factor"])] for c in part.get("controls", ())]
        return f"<tokens {part['data']} {spans}>"
    digest = hashlib.sha256(base64.b64decode(part["data"])).hexdigest()[:16]
    crop = [part[name] for name in ("x", "y", "size") if name in part]
    spans = [[c["rect"], float(c["factor"]), *_overlap(c)] for c in part.get("controls", ())]
    return f"<image {digest} {crop} {json.dumps(spans, sort_keys=True)}>"


def _overlap(control: dict[str, Any]) -> tuple:
    return (control["token_overlap"],) if "token_overlap" in control else ()
