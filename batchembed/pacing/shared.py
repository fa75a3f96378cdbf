"""A pace that several runs share: what a limiter tells of it, and how a run goes on without one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from batchembed.exchange import Outcome
from batchembed.pacing import finding
from batchembed.pacing.state import FIRST_GAP, INF, Permit, Rates, State
from batchembed.pacing.step import begin, restate

Three: TypeAlias = tuple[float | None, float | None, float | None]
Counts: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Shared:
    """How a shared limit stands. `workers` share it; rates are a second, of all of them together.

    None: no such rate, or not now. `most_open`: requests that all may have open together. `held`:
    nothing starts for so many seconds; `failing`: since so many seconds nothing but failures came
    back. `stated` and `told` are a minute: the limits of requests, tokens and texts that the runs
    state, and those that the server tells. `done`: how many of each were answered so far.
    """

    workers: int
    found: float | None = None
    stated: Three = (None, None, None)
    told: Three = (None, None, None)
    done: Counts = (0.0, 0.0, 0.0)
    rate: float | None = None
    most_open: float | None = None
    held: float = 0.0
    failing: float | None = None
    shut: bool = False
    probing: bool = False
    troubled: bool = False
    reason: str = ""


@dataclass(slots=True)
class Together:
    """What all that share a limit did while a run took part, in so many `seconds`.

    `runs`: how many they were at most. `done`: requests, tokens and texts that were answered.
    """

    runs: int = 0
    seconds: float = 0.0
    done: Counts = (0.0, 0.0, 0.0)
    _heard: tuple[float, Counts] | None = None

    def hear(self, standing: Shared | None, now: float) -> None:
        """Add what was done since the limiter told it last; a new one begins to count anew."""
        if standing is None:
            self._heard = None
            return
        self.runs = max(self.runs, standing.workers)
        if self._heard is not None:
            at, before = self._heard
            self.seconds += now - at
            each = zip(self.done, standing.done, before, strict=True)
            requests, tokens, texts = (done + new - old for done, new, old in each)
            self.done = requests, tokens, texts
        self._heard = now, standing.done


class Link(Protocol):
    """A way to a limiter. What it returns when it is not `up` says so: the run goes on alone."""

    @property
    def up(self) -> bool:
        """Whether the limiter is there."""

    async def permit(self, tokens: float, texts: int) -> tuple[Permit, str] | None:
        """Wait for a start; None: the limiter is gone. And what the start had to wait for."""

    def settle(self, permit: Permit, outcome: Outcome | None) -> bool:
        """Tell how an attempt ended; False: there is no limiter that could be told."""

    def stop(self) -> None:
        """Let whoever waits for a start have None."""


def stand(state: State, rates: Rates, workers: int, done: Counts, now: float) -> Shared:
    """Return how a limit stands that so many workers share, who did so much."""
    rate = min(state.request_rate, state.found)
    since = state.failing_since
    return Shared(
        workers=workers,
        found=_told(state.found),
        stated=(rates.requests_per_minute, rates.tokens_per_minute, rates.texts_per_minute),
        told=(_told(state.told[0]), _told(state.told[1]), _told(state.told[2])),
        done=done,
        rate=_told(rate),
        most_open=_told(state.most_open),
        held=max(0.0, state.held_until - now),
        failing=None if since is None else max(0.0, now - since),
        shut=state.shut,
        probing=state.probing,
        troubled=state.finder.troubled is not None,
        reason=state.reason,
    )


def follow(state: State, standing: Shared, joined: float, now: float) -> State:
    """Return a worker's own state as the limiter's stands: what people and patience look at.

    It `joined` then: an outage that others had before is none that it has waited for.
    """
    failing = None if standing.failing is None else min(standing.failing, now - joined)
    return state._replace(
        found=_rate(standing.found),
        told=(_rate(standing.told[0]), _rate(standing.told[1]), _rate(standing.told[2])),
        most_open=_rate(standing.most_open),
        held_until=now + standing.held,
        failing_since=None if failing is None else now - failing,
        shut=standing.shut,
        probing=standing.probing,
        finder=state.finder._replace(troubled=now if standing.troubled else None),
        reason=standing.reason,
    )


def part(rates: Rates, standing: Shared | None) -> Rates:
    """Return the limits of a worker whose limiter is gone: an equal part of those of all."""
    if standing is None:
        return rates
    workers = max(1, standing.workers)
    own = (rates.requests_per_minute, rates.tokens_per_minute, rates.texts_per_minute)
    requests, tokens, texts = (
        min(filter(None, (one, all_of and all_of / workers)), default=None)
        for one, all_of in zip(own, standing.stated, strict=True)
    )
    return replace(
        rates,
        requests_per_minute=requests,
        tokens_per_minute=tokens,
        texts_per_minute=texts,
        parts=max(rates.parts, workers),
    )


def alone(rates: Rates, standing: Shared | None, opened: int, now: float) -> State:
    """Return the state of a worker whose limiter is gone, with so many of its requests open.

    `rates` are its part. Of a rate that was found it begins with its share, and looks for more.
    """
    state = begin(rates, now)._replace(open=opened)
    if standing is None:
        return state
    requests, tokens, texts = (_rate(told) / rates.parts for told in standing.told)
    state = restate(state._replace(told=(requests, tokens, texts)), rates, now)
    if standing.rate is None:
        return state
    return going_on(state, standing.rate / max(1, standing.workers), now)


def going_on(state: State, rate: float, now: float) -> State:
    """Return a state that goes on with a rate a second, and looks for more."""
    finder = finding.begin(now)._replace(
        proven=rate, climb_at=now + FIRST_GAP, raised_at=now, look_at=now
    )
    return state._replace(found=rate, finder=finder)


def _told(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rate(value: float | None) -> float:
    return INF if value is None else value
