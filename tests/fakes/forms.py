"""Every provider's form, spoken by one stand-in: requests read, right answers written."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from batchembed.described import Described

from .replay import Asked, Said
from .vectors import vectors

DESCRIBED = Described(
    path="v9/described",
    body='{"engine":"{model}","rows":[{"content":"{text}"}],"size":"{dimensions}","cut":false}',
    vectors="result.rows[*].vector",
    index="result.rows[*].row",
    tokens="bill.units",
    version="engine",
    error="problem.words",
    texts_per_request=32,
)
"""An API that nobody offers, described as a job would do it."""

Rows = list[np.ndarray]
Edit = Callable[[Rows], Rows]


@dataclass(frozen=True)
class Read:
    """What a request asks for: `role` is the provider's own word, "" where it says none."""

    texts: list[str]
    role: str
    dimensions: int | None
    base64: bool


def read(asked: Asked) -> Read:
    """Return what a request asks for, in whatever form its path says it has."""
    told = asked.json
    form = form_of(asked.path)
    size = told.get("dimensions") or told.get("output_dimension")
    if form == "gemini":
        first = told["requests"][0]
        texts = [one["content"]["parts"][0]["text"] for one in told["requests"]]
        size = first.get("outputDimensionality")
        return Read(texts, first.get("taskType", ""), size, base64=False)
    if form == "aleph-alpha":
        texts = [prompt[0]["data"] for prompt in told["prompts"]]
        return Read(texts, told["representation"], told["compress_to_size"], base64=False)
    if form == "cohere":
        return Read(told["texts"], told["input_type"], size, "base64" in told["embedding_types"])
    if form == "described":
        assert told["cut"] is False
        return Read([row["content"] for row in told["rows"]], "", told.get("size"), base64=False)
    if form == "tei":
        return Read(told["inputs"], told.get("prompt_name", ""), size, base64=False)
    role = told.get("input_type") or told.get("task") or ""
    return Read(told["input"], role, size, told.get("encoding_format") == "base64")


def form_of(path: str) -> str:
    """Return the form that is spoken at a path."""
    for ending, form in (
        (":batchEmbedContents", "gemini"),
        ("/batch_semantic_embed", "aleph-alpha"),
        ("/v2/embed", "cohere"),
        ("/v9/described", "described"),
        ("/api/embed", "ollama"),
        ("/embed", "tei"),
        ("/embeddings", "openai"),
    ):
        if path.endswith(ending):
            return form
    raise AssertionError(f"no form at {path}")


def right(texts: list[str] | tuple[str, ...], role: str = "", size: int | None = None) -> Rows:
    """Return the right vectors: a function of text and role, of length 1."""
    return list(vectors(texts, role=role, dimensions=size or 32))


def speaking(edit: Edit = list, answer: Callable[[Asked], Said | None] = lambda _: None):
    """Return a stand-in for all providers; `edit` spoils its vectors, `answer` goes before it."""

    def serve(asked: Asked) -> Said:
        said = answer(asked)
        if said is not None:
            return said
        if asked.method == "GET" or asked.path.endswith("/api/show"):
            return Said(404, b"{}")
        seen = read(asked)
        return written(asked, edit(right(seen.texts, seen.role, seen.dimensions)))

    return serve


def written(asked: Asked, rows: Rows) -> Said:
    """Return an answer with these vectors, in the form of the request."""
    form, seen = form_of(asked.path), read(asked)
    plain = [row.astype(float).tolist() for row in rows]
    packed = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows]
    tokens = len(seen.texts)
    told: object
    if form == "gemini":
        told = {"embeddings": [{"values": row} for row in plain]}
    elif form == "aleph-alpha":
        told = {"model_version": "1", "embeddings": plain, "num_tokens_prompt_total": tokens}
    elif form == "cohere":
        shown = {"base64": packed} if seen.base64 else {"float": plain}
        told = {"embeddings": shown, "meta": {"billed_units": {"input_tokens": tokens}}}
    elif form == "ollama":
        told = {"model": "m", "embeddings": plain, "prompt_eval_count": tokens}
    elif form == "described":
        found = [{"row": at, "vector": row} for at, row in enumerate(plain)]
        found.reverse()
        told = {"result": {"rows": found}, "bill": {"units": tokens}, "engine": "m"}
    elif form == "tei":
        told = plain
    else:
        data = [
            {"object": "embedding", "index": at, "embedding": row}
            for at, row in enumerate(packed if seen.base64 else plain)
        ]
        told = {"object": "list", "data": data, "model": "m", "usage": {"total_tokens": tokens}}
    return Said(body=json.dumps(told).encode(), headers={"x-compute-tokens": str(tokens)})
