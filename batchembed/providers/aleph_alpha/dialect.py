"""Aleph Alpha's wire form: requests as the official client sends them, answers checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.exchange import About, Call, Fatal, Inquiry, Limits, Outcome, Request
from batchembed.providers import parsing
from batchembed.providers.aleph_alpha import about, layers
from batchembed.providers.aleph_alpha.endpoints import (
    BATCH,
    COMPATIBLE,
    EMBED,
    INSTRUCTABLE,
    Endpoint,
    endpoint,
)
from batchembed.providers.aleph_alpha.prompts import inputs, prompts
from batchembed.providers.answers import Answer, Reading, judged
from batchembed.spec import Spec

CONTEXT = {"luminous-base": 2048, "pharia-1-embedding-4608-control": 2048}
MOST_BYTES = 4 << 20  # no limit of the API: so much of texts and images is in memory for a request


@dataclass(frozen=True, slots=True)
class AlephAlpha:
    """The dialect of the endpoint that `spec` is for.

    Fields that are not set go out as null, as the official client sends them; at `/embeddings`,
    again like it, they are left out.
    """

    spec: Spec
    limits: Limits
    nice: bool = False
    hosting: str | None = None
    tags: tuple[str, ...] = ()
    tokenizer: bool = False

    @property
    def _own(self) -> Endpoint:
        return endpoint(self.spec)

    def build(self, request: Request) -> Call:
        """Return the call for `request`; raises ValueError for a control that JSON cannot hold."""
        body = self._asked(request) | {"model": self.spec.name}
        if self.hosting is not None:
            body["hosting"] = self.hosting
        if self.tags:
            body["tags"] = self.tags
        return Call(
            path=self._own.name,
            body=orjson.dumps(body),
            query={"nice": "true"} if self.nice else {},
        )

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; without an index, its order is the order of the texts."""
        answer = Answer(request, status, headers, body)
        try:
            return judged(answer, self._read, dimensions=self.spec.dimensions)
        except layers.SameLayerError as error:
            return Fatal(
                f"two of `layers` are the same layer of `{self.spec.name}`: {error}",
                hint="leave one of them out of `layers` under [model]",
            )

    def inquiries(self) -> Sequence[Inquiry]:
        """Return what to ask before a run: the models' settings and, if wished, the tokenizer."""
        return [about.SETTINGS, *([about.tokenizer(self.spec)] if self.tokenizer else [])]

    def learn(
        self,
        known: About,
        inquiry: Inquiry,
        *,
        status: int,
        headers: Mapping[str, str],  # noqa: ARG002 - the answers have no use for them
        body: bytes,
    ) -> About:
        """Return what is known with this answer; ValueError for one that is no JSON."""
        return about.learn(known, inquiry, self.spec, status=status, body=body)

    def _asked(self, request: Request) -> dict[str, Any]:
        spec, own = self.spec, self._own
        if own is COMPATIBLE:
            shorter = {} if spec.dimensions is None else {"dimensions": spec.dimensions}
            return {"input": inputs(request), **shorter, "encoding_format": "base64"}
        asked = prompts(request)
        last: dict[str, Any] = {
            "normalize": spec.normalize,
            "contextual_control_threshold": spec.contextual_control_threshold,
            "control_log_additive": spec.control_log_additive,
        }
        if own is EMBED:
            what: dict[str, Any] = {"layers": spec.layers, "pooling": spec.pooling}
            return {"prompt": asked[0], **what, "type": None, "tokens": False, **last}
        if own is INSTRUCTABLE:
            instruction = dict(spec.instructions).get(request.role, spec.instruction or "")
            return {"input": asked[0], "instruction": instruction, **last}
        given = {"prompts": asked} if own is BATCH else {"prompt": asked[0]}
        what = {"representation": request.role, "compress_to_size": spec.dimensions}
        return {**given, **what, **last}

    def _read(self, found: Any, answer: Answer) -> Reading:
        own, count = self._own, len(answer.request)
        if own is COMPATIBLE:
            vectors = parsing.indexed(found.get("data"), count, answer.body)
            return vectors, parsing.usage(found), parsing.text(found, "model")
        tokens = parsing.count(found, "num_tokens_prompt_total")
        version = parsing.text(found, "model_version")
        if own is EMBED:
            outputs = layers.names(found, self.spec.layers, self.spec.pooling)
            return layers.joined(found, outputs, answer.body), tokens, version, outputs
        if own is BATCH:
            vectors = parsing.nested(found.get("embeddings"), count, answer.body)
        else:
            vectors = parsing.single(found.get("embedding"), answer.body)
        return vectors, tokens, version


def limits(spec: Spec) -> Limits:
    """Return the API's own limits at the endpoint that `spec` is for."""
    texts = endpoint(spec).texts
    return Limits(
        texts_per_request=texts,
        bytes_per_request=MOST_BYTES,
        tokens_per_text=CONTEXT.get(spec.name),
        concurrency=32 if texts == 1 else 16,
    )
