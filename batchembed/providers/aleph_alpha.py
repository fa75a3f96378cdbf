"""Aleph Alpha's semantic embeddings: what to send for a request, and what an answer means."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.exchange import Call, Control, Limits, Outcome, Request
from batchembed.providers import parsing
from batchembed.providers.answers import Answer, Reading, judged
from batchembed.spec import Spec

BATCH = "batch_semantic_embed"
SINGLE = "semantic_embed"
MOST_TEXTS = 100
CONTEXT = {"luminous-base": 2048, "pharia-1-embedding-4608-control": 2048}


@dataclass(frozen=True, slots=True)
class AlephAlpha:
    """The dialect of `/semantic_embed` (one text) and `/batch_semantic_embed` (up to 100).

    Fields that are not set go out as null, as the official client sends them.
    """

    spec: Spec
    limits: Limits
    nice: bool = False
    hosting: str | None = None
    tags: tuple[str, ...] = ()

    def build(self, request: Request) -> Call:
        """Return the call for `request`; raises ValueError for a control that JSON cannot hold."""
        controls = request.controls or ((),) * len(request)
        prompts = [
            [{"type": "text", "data": text, "controls": [_control(c) for c in spans]}]
            for text, spans in zip(request.texts, controls, strict=True)
        ]
        single = self.spec.endpoint == SINGLE
        body: dict[str, Any] = {"prompt": prompts[0]} if single else {"prompts": prompts}
        body |= {
            "representation": request.role,
            "compress_to_size": self.spec.dimensions,
            "normalize": self.spec.normalize,
            "contextual_control_threshold": self.spec.contextual_control_threshold,
            "control_log_additive": self.spec.control_log_additive,
            "model": self.spec.name,
        }
        if self.hosting is not None:
            body["hosting"] = self.hosting
        if self.tags:
            body["tags"] = self.tags
        return Call(
            path=SINGLE if single else BATCH,
            body=orjson.dumps(body),
            query={"nice": "true"} if self.nice else {},
        )

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; the position in the answer is the order of the texts."""
        answer = Answer(request, status, headers, body)
        return judged(answer, self._read, dimensions=self.spec.dimensions)

    def _read(self, found: Any, answer: Answer) -> Reading:
        if self.spec.endpoint == SINGLE:
            vectors = parsing.single(found.get("embedding"), answer.body)
        else:
            vectors = parsing.nested(found.get("embeddings"), len(answer.request), answer.body)
        tokens = parsing.count(found, "num_tokens_prompt_total")
        return vectors, tokens, parsing.text(found, "model_version")


def limits(spec: Spec) -> Limits:
    """Return the API's own limits at the endpoint that `spec` names."""
    single = spec.endpoint == SINGLE
    return Limits(
        texts_per_request=1 if single else MOST_TEXTS,
        tokens_per_text=CONTEXT.get(spec.name),
        concurrency=32 if single else 16,
    )


def _control(control: Control) -> dict[str, int | float]:
    factor = float(control.factor)
    if not math.isfinite(factor):
        raise ValueError(f"the control's factor `{factor}` is not a number")
    return {
        "start": control.start,
        "length": control.length,
        "factor": int(factor) if factor.is_integer() else factor,
    }
