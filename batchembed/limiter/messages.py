"""What runs and a limiter say to each other: one JSON object a line, bounded and checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, TypeAlias, TypeVar

import numpy as np
import orjson
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from batchembed.exchange import Outcome, Response, Throttled, Told, Unavailable
from batchembed.pacing import Rates, Shared

VERSION = 1
SHOWN = 8
MOST = 1e15
MOST_COUNT = 2**53
LEAST = 1e-9  # of what others divide by
NO_STATUS = "no answer"
_REASON = 200
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_NO_VECTORS = np.zeros((0, 1), np.float32)

Number: TypeAlias = Annotated[int, Field(ge=1, le=MOST_COUNT)]
Count: TypeAlias = Annotated[int, Field(ge=0, le=MOST_COUNT)]
Amount: TypeAlias = Annotated[float, Field(ge=0, le=MOST)]
Rate: TypeAlias = Annotated[float, Field(ge=LEAST, le=1e12)]
Words: TypeAlias = Annotated[str, Field(max_length=_REASON)]
Six: TypeAlias = Annotated[tuple[Amount | None, ...], Field(min_length=6, max_length=6)]
Name: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Shown: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]


@dataclass(frozen=True, slots=True)
class Hello:
    """A run takes part: in the limit of this `name`, with these limits a minute stated.

    `open`, `unpaced` and `fixed` are of the requests that it may have open, as in `Rates`. `rate`:
    the requests a second that it had while it was alone, if it comes back.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: Name
    requests: Rate | None
    tokens: Rate | None
    texts: Rate | None
    open: Number | None = None
    unpaced: Number | None = None
    fixed: bool = False
    rate: Rate | None = None
    version: int = VERSION
    say: Literal["hello"] = "hello"


@dataclass(frozen=True, slots=True)
class Want:
    """A run asks for a start, of so many estimated tokens and texts."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    number: Number
    tokens: Amount
    texts: Count
    say: Literal["want"] = "want"


@dataclass(frozen=True, slots=True)
class End:
    """How an attempt ended, or that its start is not wanted any more (`lost`)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    number: Number
    kind: Literal["answered", "throttled", "unavailable", "lost"]
    tokens: Count | None = None
    wait: Amount | None = None
    reason: Words = ""
    told: Six | None = None
    say: Literal["end"] = "end"


@dataclass(frozen=True, slots=True)
class Here:
    """Nothing, but that the run goes on: what it holds does not expire."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    say: Literal["here"] = "here"


@dataclass(frozen=True, slots=True)
class Look:
    """Someone asks how all limits stand, and takes no part."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    say: Literal["look"] = "look"


@dataclass(frozen=True, slots=True)
class Start:
    """The limiter grants the start that was asked for; `cost`: the tokens it was charged."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    number: Number
    cost: Amount
    probe: bool = False
    why: Words = ""
    say: Literal["start"] = "start"


@dataclass(frozen=True, slots=True)
class Stands:
    """The limiter tells how the limit stands."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    standing: Shared
    say: Literal["stands"] = "stands"


@dataclass(frozen=True, slots=True)
class Seen:
    """How one limit stands, for those who look: also how many starts it granted and has open.

    Of its name only the beginning is told: with the whole of it one could take part.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: Shown
    standing: Shared
    started: Count
    open: Count
    say: Literal["seen"] = "seen"


@dataclass(frozen=True, slots=True)
class No:
    """The limiter will not have this run, and says why. `for_good`: it will not have it later."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    reason: Words
    for_good: bool = False
    say: Literal["no"] = "no"


FromRun: TypeAlias = Hello | Want | End | Here | Look
FromLimiter: TypeAlias = Start | Stands | Seen | No
Message = TypeVar("Message")
_FROM_RUN: TypeAdapter[FromRun] = TypeAdapter(Annotated[FromRun, Field(discriminator="say")])
_FROM_LIMITER: TypeAdapter[FromLimiter] = TypeAdapter(
    Annotated[FromLimiter, Field(discriminator="say")]
)


class MessageError(ValueError):
    """What came is no message."""


def line(message: FromRun | FromLimiter) -> bytes:
    """Return a message as it is sent."""
    return orjson.dumps(message) + b"\n"


def hello(name: str, rates: Rates) -> Hello:
    """Return the first word of a run that has these limits."""
    stated = (rates.requests_per_minute, rates.tokens_per_minute, rates.texts_per_minute)
    return Hello(name, *stated, rates.concurrency, rates.unpaced, rates.fixed)


def rates_of(hello: Hello) -> Rates:
    """Return the limits that a run has."""
    stated = Rates(hello.requests, hello.tokens, hello.texts, hello.open)
    return replace(stated, unpaced=hello.unpaced, fixed=hello.fixed)


def other_version(told: bytes) -> int | None:
    """Return the version in a first word of a run, where that is another than ours."""
    try:
        said = orjson.loads(told)
    except orjson.JSONDecodeError:
        return None
    version = said.get("version") if isinstance(said, dict) else None
    return version if isinstance(version, int) and version != VERSION else None


def from_run(told: bytes) -> FromRun:
    """Return what a run said. Raises MessageError."""
    return _read(_FROM_RUN, told)


def from_limiter(told: bytes) -> FromLimiter:
    """Return what a limiter said. Raises MessageError."""
    message = _read(_FROM_LIMITER, told)
    if isinstance(message, Stands | Seen) and not _possible(message.standing):
        raise MessageError("no limit stands like that")
    return message


def _possible(standing: Shared) -> bool:
    """Return whether a pace can go by this: rates are more than nothing, and times pass."""
    rates = (standing.found, standing.rate, standing.most_open, *standing.stated, *standing.told)
    amounts = (*standing.done, standing.held, standing.failing or 0.0)
    return (
        standing.workers >= 1
        and all(rate is None or rate >= LEAST for rate in rates)
        and all(0.0 <= amount <= MOST for amount in amounts)
    )


def end_of(number: int, outcome: Outcome | None) -> End:
    """Return what a limiter is told of an outcome: nothing of the texts or their vectors."""
    if outcome is None:
        return End(number, "lost")
    if isinstance(outcome, Throttled):
        reason, told = _status(outcome.reason), _fields(outcome.told)
        return End(number, "throttled", None, _amount(outcome.wait), reason, told)
    if isinstance(outcome, Unavailable):
        reason = _status(outcome.reason)
        return End(number, "unavailable", None, _amount(outcome.wait), reason)
    if isinstance(outcome, Response):
        tokens = None if outcome.tokens is None else min(max(0, outcome.tokens), MOST_COUNT)
        return End(number, "answered", tokens, told=_fields(outcome.told))
    return End(number, "answered")


def outcome_of(end: End) -> Outcome | None:
    """Return the outcome, as far as it concerns the pace."""
    told = None if end.told is None else Told(*(_limit(one) for one in end.told[:2]), *end.told[2:])
    if end.kind == "answered":
        return Response(_NO_VECTORS, end.tokens, told=told)
    if end.kind == "throttled":
        return Throttled(end.reason, end.wait, told)
    return None if end.kind == "lost" else Unavailable(end.reason, end.wait)


def _status(reason: str) -> str:
    """Return the status in a reason: all else is for whoever sent the request."""
    status = re.match(r"\d{3}\b", reason)
    return status[0] if status else NO_STATUS


def _fields(told: Told | None) -> tuple[float | None, ...] | None:
    if told is None:
        return None
    return (
        _amount(told.requests_per_minute),
        _amount(told.tokens_per_minute),
        _amount(told.requests_left),
        _amount(told.tokens_left),
        _amount(told.requests_reset),
        _amount(told.tokens_reset),
    )


def _limit(value: float | None) -> float | None:
    """Return a limit that a server told, if it is one."""
    return None if value is None or value < LEAST else value


def _amount(value: float | None) -> float | None:
    """Return a number as a message may hold it: servers say anything."""
    return None if value is None or math.isnan(value) else min(max(0.0, value), MOST)


def _read(adapter: TypeAdapter[Message], told: bytes) -> Message:
    try:
        return adapter.validate_json(told)
    except ValidationError as error:
        raise MessageError(str(error)) from None
