"""What every dialect does with an answer: status first, then proof, then the dimension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeAlias

from batchembed.exchange import Fatal, Malformed, Outcome, Request, Response, Unavailable, Vectors
from batchembed.providers import byteorder, parsing, sayings, status
from batchembed.spec import Spec

Reading: TypeAlias = (
    tuple[Vectors, int | None, str] | tuple[Vectors, int | None, str, tuple[str, ...]]
)
"""Vectors (n, d), tokens billed, model version; names of what each is joined of, if of several."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer to one request. `headers` has lower-case names."""

    request: Request
    status: int
    headers: Mapping[str, str]
    body: bytes


def prefixed(spec: Spec, request: Request) -> Sequence[str]:
    """Return the texts to send: the spec's prefix for the request's role goes before each."""
    prefix = dict(spec.prefixes).get(request.role, "")
    return [prefix + text for text in request.texts] if prefix else request.texts


def judged(
    answer: Answer,
    read: Callable[[Any, Answer], Reading],
    *,
    dimensions: int | None,
    bare: bool = False,
) -> Outcome:
    """Return the outcome of an answer whose vectors `read` takes from its JSON.

    Never raises, but for what `read` raises besides AnswerErrors. `bare`: the JSON is an array,
    with nothing around it.
    """
    if answer.status != HTTPStatus.OK:
        return status.sort(
            answer.request, status=answer.status, headers=answer.headers, body=answer.body
        )
    try:
        taken = _read(read, answer, bare=bare)
    except parsing.AnswerError as error:
        return _unproven(answer, error)
    except byteorder.ByteOrderError:
        return Fatal(
            "the server sends its numbers' bytes in the other order: not little-endian float32",
            hint="mend the server, or a proxy before it: its base64 has to be little-endian",
            billed=True,
        )
    vectors, tokens, version = taken[:3]
    if dimensions is not None and vectors.shape[1] != dimensions:
        return Fatal(
            f"asked for vectors of `{dimensions}` dimensions, got `{vectors.shape[1]}`",
            hint="set `dimensions` under [model] to what this model gives, or leave it out",
        )
    outputs = taken[3] if len(taken) == 4 else ()  # noqa: PLR2004 - see Reading
    request_id = status.request_id(answer.headers)
    return Response(vectors, tokens, version, request_id, outputs=outputs)


def _read(read: Callable[[Any, Answer], Reading], answer: Answer, *, bare: bool) -> Reading:
    """Return what `read` takes from an answer, also from one in which some numbers are none."""
    try:
        return read(parsing.read(answer.body, bare=bare), answer)
    except parsing.AnswerError:
        mended = parsing.without_nan(answer.body)
        if mended is None:
            raise
        return read(parsing.read(mended, bare=bare), replace(answer, body=mended))


def _unproven(answer: Answer, error: parsing.AnswerError) -> Outcome:
    """Return what a 200 without proof means.

    No JSON (a proxy's page, nothing at all) was never written by the model's server: it is
    down, and no text is at fault. JSON that is wrong or cut short may come of these very texts
    (some servers break on them), so it is asked again alone; torn JSON once more as it was.
    """
    if not error.json:
        kind = answer.headers.get("content-type", "no content type")
        size = len(answer.body)
        return Unavailable(f"200, but {error} ({size} bytes, {kind})", sayings.wait(answer.headers))
    request_id = status.request_id(answer.headers)
    told = status.disguised(answer.request, answer.body)
    return told or Malformed(str(error), request_id, torn=error.torn)
