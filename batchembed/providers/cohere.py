"""Cohere's embed API, version 2: what to send for a request, and what an answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.exchange import Call, Limits, Outcome, Request
from batchembed.providers import parsing, pictures
from batchembed.providers.answers import Answer, Reading, judged
from batchembed.providers.entries import Model
from batchembed.spec import Spec


@dataclass(frozen=True, slots=True)
class Cohere:
    """The dialect of `/v2/embed`. `truncate` is NONE: a text that is too long is refused.

    Where rows have images, each is one of `inputs`; its role is told as that of texts.

    base64 is asked for; an answer may have numbers in its place, under their own name.
    """

    spec: Spec
    limits: Limits
    model: Model

    def build(self, request: Request) -> Call:
        """Return the call for `request`; ValueError for what is no text and no image."""
        given: dict[str, Any] = {"texts": request.texts}
        if request.prompts is not None:
            rows = [pictures.contents(prompt, _image) for prompt in request.prompts]
            given = {"inputs": [{"content": row} for row in rows]}
        body: dict[str, Any] = {
            **given,
            "model": self.spec.name,
            "input_type": (self.model.roles or {})[request.role],
            "embedding_types": ["base64"],
            "truncate": "NONE",
        }
        if self.spec.dimensions is not None:
            body["output_dimension"] = self.spec.dimensions
        return Call(path="v2/embed", body=orjson.dumps(body))

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; the position in the answer is the order of the texts."""
        answer = Answer(request, status, headers, body)
        return judged(answer, self._read, dimensions=self.spec.dimensions)

    def _read(self, found: Any, answer: Answer) -> Reading:
        told = found.get("embeddings")
        if not hasattr(told, "get"):
            raise parsing.AnswerError("the answer has no embeddings by type")
        n = len(answer.request)
        if told.get("base64") is not None:
            vectors = parsing.encoded(told.get("base64"), n)
        else:
            vectors = parsing.nested(told.get("float"), n, answer.body)
        return vectors, _tokens(found.get("meta")), ""


def _image(uri: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": uri}}


def _tokens(meta: Any) -> int | None:
    """Return the tokens billed, those of images included; None where none are told."""
    units: Any = meta.get("billed_units") if hasattr(meta, "get") else None
    if not hasattr(units, "get"):
        return None
    told = [_count(units.get(name)) for name in ("input_tokens", "image_tokens")]
    known = [one for one in told if one is not None]
    return sum(known) if known else None


def _count(told: Any) -> int | None:
    """Return a number of tokens, which may be written as 3 or as 3.0."""
    if type(told) is int or (isinstance(told, float) and told.is_integer()):
        return int(told) if told >= 0 else None
    return None
