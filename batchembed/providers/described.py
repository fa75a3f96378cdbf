"""The dialect of an API that a job describes: no code, and the same proofs as any other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson

from batchembed.described import Described, Step, split, steps
from batchembed.exchange import Call, Limits, Outcome, Request
from batchembed.providers import parsing
from batchembed.providers.answers import Answer, Reading, judged, prefixed
from batchembed.spec import Spec


@dataclass(frozen=True, slots=True)
class Http:
    """The dialect of an API that a job describes."""

    spec: Spec
    limits: Limits
    api: Described

    def build(self, request: Request) -> Call:
        """Return the call for `request`."""
        spec, api = self.spec, self.api
        words: dict[str, object] = {"model": spec.name}
        if spec.dimensions is not None:
            words["dimensions"] = spec.dimensions
        if role := dict(api.roles).get(request.role):
            words["role"] = role
        path = api.path.replace("{model}", quote(spec.name, safe=""))
        return Call(path, api.filled(prefixed(spec, request), words), query=dict(api.query))

    def parse(
        self, request: Request, *, status: int, headers: Mapping[str, str], body: bytes
    ) -> Outcome:
        """Return what the answer means; without `index` the position is the order of the texts."""
        if status != HTTPStatus.OK and self.api.error:
            body = _plain(body, steps(self.api.error))
        bare = not isinstance(steps(self.api.vectors)[0], str)
        answer = Answer(request, status, headers, body)
        return judged(answer, self._read, dimensions=self.spec.dimensions, bare=bare)

    def _read(self, found: Any, answer: Answer) -> Reading:
        api, n = self.api, len(answer.request)
        before, after = split(steps(api.vectors))
        there = parsing.at(found, before)
        if after is None:
            vectors = parsing.alone(there, answer.body)
        else:
            index = split(steps(api.index))[1] if api.index else None
            vectors = parsing.placed(there, after, index, n, answer.body)
        tokens = _value(found, api.tokens)
        return vectors, tokens if _is_count(tokens) else None, str(_value(found, api.version))[:200]


def _value(found: Any, path: str) -> Any:
    """Return what is at a path of the answer, "" where nothing is."""
    try:
        return parsing.at(found, steps(path)) if path else ""
    except parsing.AnswerError:
        return ""


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _plain(body: bytes, path: tuple[Step, ...]) -> bytes:
    """Return the body of an error with its message where every reader looks for it."""
    try:
        told = message = orjson.loads(body)
        for step in path:
            message = message[step]
    except (ValueError, KeyError, IndexError, TypeError):
        return body
    if not isinstance(told, dict) or not isinstance(message, str):
        return body
    error = told.get("error")
    inner = error if isinstance(error, dict) else {}
    return orjson.dumps({**told, "error": {**inner, "message": message}})
