"""What can go wrong with one answer of the stand-in server, composable with `|`."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from email.utils import formatdate

import numpy as np

PAGE = b"<!doctype html><html><head><title>Welcome to nginx!</title></head><body>hi</body></html>"


@dataclass(frozen=True)
class Reply:
    """A right answer before it is written down: what an `edit` may spoil."""

    vectors: list[np.ndarray]
    indices: list[int]
    model: str
    tokens: int


@dataclass(frozen=True)
class Seen:
    """What a fault script may look at: the number of the request (from 0) and its content."""

    number: int
    path: str
    texts: list[str]
    role: str
    seconds: float


Edit = Callable[[Reply], Reply]


@dataclass(frozen=True)
class Fault:
    """What is done to one answer. `a | b` does both; where they clash, `b` wins."""

    status: int | None = None  # an error: nothing is charged
    body: bytes | None = None  # sent as it is, with status 200 unless `status` says otherwise
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    reset: bool = False  # the connection is torn down in place of the answer
    keep: float | None = None  # which share of the answer's bytes is written before the end
    encoding: str | None = None  # openai's encoding_format, whatever was asked for
    edits: Sequence[Edit] = ()

    def __or__(self, other: Fault) -> Fault:
        return Fault(
            status=self.status if other.status is None else other.status,
            body=self.body if other.body is None else other.body,
            headers={**self.headers, **other.headers},
            delay=self.delay + other.delay,
            reset=self.reset or other.reset,
            keep=self.keep if other.keep is None else other.keep,
            encoding=other.encoding or self.encoding,
            edits=(*self.edits, *other.edits),
        )

    def reply(self, right: Reply) -> Reply:
        """Return the reply as all edits leave it."""
        for edit in self.edits:
            right = edit(right)
        return right


def status(code: int, body: bytes | str = b"", **headers: str) -> Fault:
    """Answer with an error status; header names are written with underscores."""
    raw = body.encode() if isinstance(body, str) else body
    told = {name.replace("_", "-"): str(value) for name, value in headers.items()}
    return Fault(status=int(code), body=raw or b'{"error":"scripted"}', headers=told)


def throttled(seconds: float | str | None = None) -> Fault:
    """Answer 429, with Retry-After when a number of seconds, or any words, are given."""
    return status(429) if seconds is None else status(429, retry_after=str(seconds))


def throttled_until(now: float, seconds: float) -> Fault:
    """Answer 429 with Retry-After as a date, `seconds` after the answer's own Date."""
    dates = (formatdate(now, usegmt=True), formatdate(now + seconds, usegmt=True))
    return status(429, date=dates[0], retry_after=dates[1])


def out_of_money(code: str = "insufficient_quota") -> Fault:
    """Answer 429 as OpenAI does when the money is gone."""
    error = {"message": "no money", "type": "insufficient_quota", "param": None, "code": code}
    return status(429, json.dumps({"error": error}))


def delay(seconds: float) -> Fault:
    """Answer later."""
    return Fault(delay=float(seconds))


def hang() -> Fault:
    """Never answer, and charge nothing."""
    return Fault(delay=math.inf)


def reset() -> Fault:
    """Do the work, charge for it, and tear the connection down."""
    return Fault(reset=True)


def truncate(share: float = 0.5) -> Fault:
    """Promise the whole answer and close after a share of its bytes."""
    return Fault(keep=float(share))


def html() -> Fault:
    """Answer 200 with a web page."""
    return Fault(body=PAGE, headers={"Content-Type": "text/html"})


def empty() -> Fault:
    """Answer 200 with nothing."""
    return Fault(body=b"")


def bomb(size: int = 200_000_000) -> Fault:
    """Answer 200 with a small body that is `size` bytes of JSON once it is unpacked."""
    packed = gzip.compress(b'{"data":[' + b" " * int(size) + b"]}", compresslevel=1)
    return Fault(body=packed, headers={"Content-Encoding": "gzip"})


def encoding(name: str) -> Fault:
    """Answer floats or base64, whatever was asked for."""
    return Fault(encoding=name)


def edited(edit: Edit) -> Fault:
    """Spoil the reply in a way of one's own."""
    return Fault(edits=(edit,))


def shuffled(seed: int = 7) -> Fault:
    """Give the vectors in another order, with the right index each."""

    def edit(right: Reply) -> Reply:
        order = np.random.default_rng(int(seed)).permutation(len(right.vectors))
        return replace(
            right,
            vectors=[right.vectors[i] for i in order],
            indices=[right.indices[i] for i in order],
        )

    return edited(edit)


def dropped() -> Fault:
    """Leave the last vector out."""
    return edited(lambda r: replace(r, vectors=r.vectors[:-1], indices=r.indices[:-1]))


def duplicated() -> Fault:
    """Give the first index twice."""
    return edited(lambda r: replace(r, indices=[0, *r.indices[:-1]][: len(r.indices)]))


def dimension(size: int) -> Fault:
    """Give every vector another dimension."""
    return edited(lambda r: replace(r, vectors=[np.resize(v, int(size)) for v in r.vectors]))


def ragged() -> Fault:
    """Give the last vector one number less."""
    return edited(lambda r: replace(r, vectors=[*r.vectors[:-1], r.vectors[-1][:-1]]))


def spoiled(number: float = float("nan")) -> Fault:
    """Put a number (NaN, infinity) into the first vector."""

    def edit(right: Reply) -> Reply:
        first = right.vectors[0].copy()
        first[0] = float(number)
        return replace(right, vectors=[first, *right.vectors[1:]])

    return edited(edit)


def zeroed() -> Fault:
    """Make the first vector all zeros."""
    return edited(lambda r: replace(r, vectors=[r.vectors[0] * 0, *r.vectors[1:]]))


def version(name: str) -> Fault:
    """Answer as another version of the model."""
    return edited(lambda r: replace(r, model=str(name)))


_ALL = (status, throttled, out_of_money, delay, hang, reset, truncate, html, empty, bomb, encoding)
_EDITS = (shuffled, dropped, duplicated, dimension, ragged, spoiled, zeroed, version)
BY_NAME: Mapping[str, Callable[..., Fault]] = {made.__name__: made for made in _ALL + _EDITS}


def named(words: str) -> tuple[int | None, Fault]:
    """Return request number and fault of `name[=value][@number]`, as the command line has it."""
    told, _, number = words.partition("@")
    name, _, value = told.partition("=")
    if name not in BY_NAME:
        raise SystemExit(f"no fault `{name}`; there are: {', '.join(sorted(BY_NAME))}")
    made = BY_NAME[name]
    argument = (float(value) if value.replace(".", "", 1).isdigit() else value,) if value else ()
    return (int(number) if number else None), made(*argument)
