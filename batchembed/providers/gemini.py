"""Google's Gemini embeddings: what to send for a request, and what an answer means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from batchembed.exchange import Call, Limits, Outcome, Request
from batchembed.providers import parsing
from batchembed.providers.answers import Answer, Reading, judged, prefixed
from batchembed.providers.entries import Model
from batchembed.spec import Spec


@dataclass(frozen=True, slots=True)
class Gemini:
    """The dialect of `:batchEmbedContents`: one entry of `requests` for each text.

    gemini-embedding-001 is told the role by `taskType`; gemini-embedding-2 has no ear for that
    and takes several parts of one content for one text, so that it gets prefixes and entries.
    """

    spec: Spec
    limits: Limits
    model: Model

    def build(self, request: Request) -> Call:
        """Return the call for `request`."""
        name = f"models/{self.spec.name}"
        more: dict[str, Any] = {}
        if task := (self.model.roles or {}).get(request.role):
            more["taskType"] = task
        if self.spec.dimensions is not None:
            more["outputDimensionality"] = self.spec.dimensions
        entries = [
            {"model": name, "content": {"parts": [{"text": text}], "role": "user"}, **more}
            for text in prefixed(self.spec, request)
        ]
        path = f"v1/models/{quote(self.spec.name, safe='')}:batchEmbedContents"
        return Call(path=path, body=orjson.dumps({"requests": entries}))

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; the position in the answer is the order of the texts."""
        answer = Answer(request, status, headers, body)
        return judged(answer, self._read, dimensions=self.spec.dimensions)

    def _read(self, found: Any, answer: Answer) -> Reading:
        vectors = parsing.named(found.get("embeddings"), "values", len(answer.request), answer.body)
        usage = found.get("usageMetadata")
        tokens = parsing.count(usage, "promptTokenCount") if hasattr(usage, "get") else None
        return vectors, tokens, ""
