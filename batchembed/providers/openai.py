"""The embeddings API of OpenAI and of the many servers that speak it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from batchembed.exchange import Call, Limits, Outcome, Request, Vectors
from batchembed.providers import parsing
from batchembed.providers.answers import Answer, Reading, judged
from batchembed.providers.catalogue import OPENAI_URL
from batchembed.spec import Spec

PATH = "embeddings"
MOST_TEXTS = 2048
MOST_TOKENS = 300_000
MOST_TOKENS_PER_TEXT = 8192
FEW_TEXTS = 64  # for a server that is not known: more gain nothing and may be refused
_UNIT = 4e-3  # how far from 1 the squared norm of a vector in half precision may be


@dataclass(frozen=True, slots=True)
class OpenAI:
    """The dialect of `/embeddings`: base64 is asked for, numbers are taken as well.

    The API knows no roles: the spec's prefix for the request's role goes before each text.
    """

    spec: Spec
    limits: Limits

    def build(self, request: Request) -> Call:
        """Return the call for `request`."""
        prefix = dict(self.spec.prefixes).get(request.role, "")
        texts = [prefix + text for text in request.texts] if prefix else request.texts
        body: dict[str, Any] = {"input": texts, "model": self.spec.name}
        if self.spec.dimensions is not None:
            body["dimensions"] = self.spec.dimensions
        body["encoding_format"] = "base64"
        return Call(path=PATH, body=orjson.dumps(body))

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; `index` is the order of the texts."""
        answer = Answer(request, status, headers, body)
        return judged(answer, self._read, dimensions=self.spec.dimensions)

    def _read(self, found: Any, answer: Answer) -> Reading:
        vectors = parsing.indexed(found.get("data"), len(answer.request), answer.body)
        if self.spec.normalize:
            vectors = unit(vectors)
        return vectors, parsing.usage(found), parsing.text(found, "model")


def limits(spec: Spec) -> Limits:
    """Return OpenAI's own limits, or careful ones for another server's address."""
    if spec.base_url not in (None, OPENAI_URL):
        return Limits(texts_per_request=FEW_TEXTS, concurrency=16)
    return Limits(
        texts_per_request=MOST_TEXTS,
        tokens_per_request=MOST_TOKENS,
        tokens_per_text=MOST_TOKENS_PER_TEXT,
        concurrency=16,
    )


def unit(vectors: Vectors) -> Vectors:
    """Return the vectors at length 1, shape unchanged.

    OpenAI's are already, and some compatible servers' are not. What is 1 up to half precision
    is left as it came, bit for bit; what has no direction (zero, NaN, infinite) too.
    """
    squares = np.einsum("ij,ij->i", vectors, vectors)
    doubtful = np.flatnonzero(~(np.abs(squares - 1) <= _UNIT))
    if doubtful.size:
        exact = vectors[doubtful].astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", exact, exact))
        sound = np.isfinite(norms) & (norms > 0)
        vectors[doubtful[sound]] = exact[sound] / norms[sound, None]
    return vectors
