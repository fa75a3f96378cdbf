"""The native API of Ollama: long texts are refused, never cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.exchange import About, Call, Inquiry, Limits, Outcome, Request
from batchembed.providers import parsing, reports
from batchembed.providers.answers import Answer, Reading, judged, prefixed
from batchembed.spec import Spec


@dataclass(frozen=True, slots=True)
class Ollama:
    """The dialect of `/api/embed`; `truncate` is always false, as Ollama cuts unless told not to.

    It answers an empty text with no vector at all, which the count of vectors shows.
    """

    spec: Spec
    limits: Limits

    def build(self, request: Request) -> Call:
        """Return the call for `request`."""
        body: dict[str, Any] = {
            "model": self.spec.name,
            "input": prefixed(self.spec, request),
            "truncate": False,
        }
        if self.spec.dimensions is not None:
            body["dimensions"] = self.spec.dimensions
        return Call(path="api/embed", body=orjson.dumps(body))

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; the position in the answer is the order of the texts."""
        answer = Answer(request, status, headers, body)
        return judged(answer, _read, dimensions=self.spec.dimensions)

    def inquiries(self) -> Sequence[Inquiry]:
        """Return what the server can be asked about the model."""
        return reports.inquiries("ollama", self.spec)

    def learn(
        self,
        known: About,
        inquiry: Inquiry,
        *,
        status: int,
        headers: Mapping[str, str],  # noqa: ARG002 - as every Inquirer
        body: bytes,
    ) -> About:
        """Return what is known with this answer."""
        return reports.learn("ollama", self.spec, known, inquiry, status=status, body=body)


def _read(found: Any, answer: Answer) -> Reading:
    vectors = parsing.nested(found.get("embeddings"), len(answer.request), answer.body)
    return vectors, parsing.count(found, "prompt_eval_count"), parsing.text(found, "model")
