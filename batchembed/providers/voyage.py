"""Voyage's multimodal API: texts and images of a row are one vector."""

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

MULTIMODAL = "voyage-multimodal"
"""How the names of models begin that are asked at a route of their own."""


@dataclass(frozen=True, slots=True)
class Multimodal:
    """The dialect of `/multimodalembeddings`. `truncation` is off: too long a row is refused."""

    spec: Spec
    limits: Limits
    model: Model

    def build(self, request: Request) -> Call:
        """Return the call for `request`; ValueError for what is no text and no image."""
        body: dict[str, Any] = {
            "inputs": [
                {"content": pictures.contents(prompt, _image)}
                for prompt in pictures.prompts(request)
            ],
            "model": self.spec.name,
            "truncation": False,
            "encoding_format": "base64",
        }
        if (role := (self.model.roles or {}).get(request.role)) is not None:
            body["input_type"] = role
        if self.spec.dimensions is not None:
            body["output_dimension"] = self.spec.dimensions
        return Call(path="multimodalembeddings", body=orjson.dumps(body))

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; `index` is the order of the rows."""
        answer = Answer(request, status, headers, body)
        return judged(answer, self._read, dimensions=self.spec.dimensions)

    def _read(self, found: Any, answer: Answer) -> Reading:
        vectors = parsing.indexed(found.get("data"), len(answer.request), answer.body)
        return vectors, parsing.usage(found), parsing.text(found, "model")


def _image(uri: str) -> dict[str, Any]:
    return {"type": "image_base64", "image_base64": uri}
