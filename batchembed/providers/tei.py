"""The native API of text-embeddings-inference: long texts are refused, never cut."""

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
class Tei:
    """The dialect of `/embed`. A role is a prompt of the model's, by the spec's name for it.

    `truncate` is always false: since 1.9 a server cuts long texts unless it is told not to.
    """

    spec: Spec
    limits: Limits

    def build(self, request: Request) -> Call:
        """Return the call for `request`."""
        spec = self.spec
        body: dict[str, Any] = {
            "inputs": prefixed(spec, request),
            "normalize": spec.normalize,
            "truncate": False,
        }
        prompt = dict(spec.prompts).get(request.role)
        if prompt:
            body["prompt_name"] = prompt
        if spec.dimensions is not None:
            body["dimensions"] = spec.dimensions
        return Call(path="embed", body=orjson.dumps(body))

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means: a bare array of vectors, in the order of the texts."""
        answer = Answer(request, status, headers, body)
        return judged(answer, _read, dimensions=self.spec.dimensions, bare=True)

    def inquiries(self) -> Sequence[Inquiry]:
        """Return what the server can be asked about itself."""
        return reports.inquiries("tei", self.spec)

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
        return reports.learn("tei", self.spec, known, inquiry, status=status, body=body)


def _read(found: Any, answer: Answer) -> Reading:
    vectors = parsing.nested(found, len(answer.request), answer.body)
    told = answer.headers.get("x-compute-tokens", "")
    return vectors, int(told) if told.isdecimal() and told.isascii() else None, ""
