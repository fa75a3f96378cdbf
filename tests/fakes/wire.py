"""How the stand-in reads a request and writes an answer, in each provider's form."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from .faults import Reply


@dataclass(frozen=True)
class Asked:
    """One request, whatever its provider."""

    texts: list[str]
    role: str
    controls: list[list[tuple[int, int, float]]]
    model: str
    dimensions: int | None
    unit: bool
    form: str  # single | batch | openai
    encoding: str = "float"


def read(path: str, body: bytes) -> Asked | None:
    """Return what a request asks for, or None when the path or body has no meaning."""
    try:
        told = orjson.loads(body)
        if path.endswith("/embeddings"):
            return _openai(told)
        if path.endswith("/batch_semantic_embed"):
            return _aleph_alpha(told, told["prompts"], "batch")
        if path.endswith("/semantic_embed"):
            return _aleph_alpha(told, [told["prompt"]], "single")
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return None


def write(asked: Asked, reply: Reply, encoding: str | None) -> bytes:
    """Return the body of the answer."""
    if asked.form == "openai":
        return _write_openai(reply, encoding or asked.encoding)
    rows: Any = [v.astype(np.float32) for v in reply.vectors]
    name = "embeddings" if asked.form == "batch" else "embedding"
    found = {
        "model_version": reply.model,
        name: rows if asked.form == "batch" else rows[0],
        "num_tokens_prompt_total": reply.tokens,
    }
    return _dumped(found, rows)


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
    texts = [given] if isinstance(given, str) else given
    return Asked(
        texts=texts,
        role="symmetric",
        controls=[[] for _ in texts],
        model=told["model"],
        dimensions=told.get("dimensions"),
        unit=True,
        form="openai",
        encoding=told.get("encoding_format") or "float",
    )


def _aleph_alpha(told: dict[str, Any], prompts: list[Any], form: str) -> Asked:
    return Asked(
        texts=["".join(part["data"] for part in prompt) for prompt in prompts],
        role=told["representation"],
        controls=[
            [(c["start"], c["length"], float(c["factor"])) for p in prompt for c in p["controls"]]
            for prompt in prompts
        ],
        model=told.get("model") or "",
        dimensions=told["compress_to_size"],
        unit=bool(told["normalize"]),
        form=form,
    )
