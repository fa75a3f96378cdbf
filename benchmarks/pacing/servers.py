"""Servers that limit: windows, buckets, open requests; outages, brown-outs, strangers; headers."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Kind = Literal["accepted", "throttled", "failed"]


class Limiter(Protocol):
    """One limit of a server. `wait` is 0 for what may pass, else the seconds until it may."""

    def wait(self, now: float, cost: float) -> float:
        """Return how long a request of that cost would have to wait."""

    def take(self, now: float, cost: float) -> None:
        """Count a request."""

    def left(self, now: float) -> tuple[float, float]:
        """Return what is left of the limit, and the seconds until all of it is there again."""


def always(limit: float) -> Callable[[float], float]:
    """Return a limit that never changes."""
    return lambda _now: limit


@dataclass(slots=True)
class FixedWindow:
    """At most `limit` a second, counted in windows of `window` seconds that begin at `phase`."""

    limit: Callable[[float], float]
    window: float
    phase: float = 0.0
    used: float = 0.0
    number: float = -1.0

    def wait(self, now: float, cost: float) -> float:
        """Return the time until the next window, if this one is used up."""
        self._turn(now)
        fits = self.used + cost <= self.limit(now) * self.window + 1e-9
        return 0.0 if fits else (self.number + 1) * self.window + self.phase - now

    def take(self, now: float, cost: float) -> None:
        """Count a request."""
        self._turn(now)
        self.used += cost

    def left(self, now: float) -> tuple[float, float]:
        """Return what this window has left, and when it ends."""
        self._turn(now)
        ends = (self.number + 1) * self.window + self.phase - now
        return max(0.0, self.limit(now) * self.window - self.used), ends

    def _turn(self, now: float) -> None:
        number = math.floor((now - self.phase) / self.window)
        if number != self.number:
            self.number, self.used = number, 0.0


@dataclass(slots=True)
class SlidingWindow:
    """At most `limit` a second in any `window` seconds."""

    limit: Callable[[float], float]
    window: float
    taken: deque[tuple[float, float]] = field(default_factory=deque)
    used: float = 0.0

    def wait(self, now: float, cost: float) -> float:
        """Return the time until enough has left the window."""
        self._pass(now)
        over = self.used + cost - self.limit(now) * self.window
        if over <= 1e-9:  # noqa: PLR2004 - rounding
            return 0.0
        for when, what in self.taken:
            over -= what
            if over <= 1e-9:  # noqa: PLR2004
                return when + self.window - now
        return self.window

    def take(self, now: float, cost: float) -> None:
        """Count a request."""
        self._pass(now)
        self.taken.append((now, cost))
        self.used += cost

    def left(self, now: float) -> tuple[float, float]:
        """Return what the window has left, and when it will be empty."""
        self._pass(now)
        ends = self.taken[-1][0] + self.window - now if self.taken else 0.0
        return max(0.0, self.limit(now) * self.window - self.used), ends

    def _pass(self, now: float) -> None:
        while self.taken and self.taken[0][0] <= now - self.window:
            self.used -= self.taken.popleft()[1]


@dataclass(slots=True)
class Bucket:
    """A bucket that holds `depth` seconds of `limit` and fills at that rate; full at first."""

    limit: Callable[[float], float]
    depth: float
    level: float = math.inf
    at: float = 0.0

    def wait(self, now: float, cost: float) -> float:
        """Return the time until the bucket holds that much."""
        self._fill(now)
        return max(0.0, cost - self.level - 1e-9) / self.limit(now)

    def take(self, now: float, cost: float) -> None:
        """Take it out; what failed and counts may leave the bucket below empty."""
        self._fill(now)
        self.level = max(self.level - cost, -cost)

    def left(self, now: float) -> tuple[float, float]:
        """Return what it holds, and when it will be full."""
        self._fill(now)
        return max(0.0, self.level), self.depth - self.level / self.limit(now)

    def _fill(self, now: float) -> None:
        full = self.depth * self.limit(now)
        self.level = min(full, self.level + (now - self.at) * self.limit(now))
        self.at = now


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered, and how long that took. `told`: header fields, if it sends them."""

    kind: Kind
    seconds: float
    wait: float | None = None
    told: tuple[float, float, float] | None = None  # limit a minute, remaining, reset


@dataclass(slots=True)
class Server:
    """A server with limits on requests and tokens, and weather.

    `failures_count`: what is refused counts against the limit too. `open_at_once`: a limit of
    concurrent requests. `knee`: how many it serves at once; more only wait. `batch`: it works on
    one batch at a time, of all that wait, up to as many as this has numbers, which are the seconds
    that a batch of one, two, … requests takes. `errors` gives the share of 503s at a time, 1.0 is
    an outage. `stranger`: requests a second of another client.
    """

    requests: Limiter | None = None
    tokens: Limiter | None = None
    latency: float = 0.3
    failures_count: bool = False
    retry_after: bool = False
    headers: Callable[[float], float] | None = None
    open_at_once: int | None = None
    knee: int | None = None
    batch: Sequence[float] = ()
    errors: Callable[[float], float] = lambda _now: 0.0
    slower: Callable[[float], float] = lambda _now: 1.0
    stranger: float = 0.0
    open: int = 0
    stranger_at: float = 0.0
    free_at: Sequence[float] = ()

    def serve(self, now: float, tokens: float, rng: random.Random) -> Answer:
        """Return what a request that arrives now gets. Times only grow."""
        self._strangers(now, rng)
        if rng.random() < self.errors(now):
            return Answer("failed", 0.05 + rng.expovariate(20.0))
        waits = [lim.wait(now, cost) for lim, cost in self._limits(tokens)]
        refused = max(waits, default=0.0)
        if self.open_at_once is not None and self.open >= self.open_at_once:
            refused = max(refused, 0.001)
        if refused and not self.failures_count:
            return self._refusal(now, refused, rng)
        for limiter, cost in self._limits(tokens):
            limiter.take(now, cost)
        if refused:
            return self._refusal(now, refused, rng)
        seconds = self.latency * self.slower(now) * (1 / 3 + rng.expovariate(1.5))
        return Answer("accepted", self._queued(now, seconds), None, self._told(now))

    def _limits(self, tokens: float) -> list[tuple[Limiter, float]]:
        found: list[tuple[Limiter, float]] = []
        if self.requests is not None:
            found.append((self.requests, 1.0))
        if self.tokens is not None:
            found.append((self.tokens, tokens))
        return found

    def _refusal(self, now: float, wait: float, rng: random.Random) -> Answer:
        """Refuse in a third of the time of an answer: nothing is computed for it."""
        seconds = self.latency / 3 * (1 / 3 + rng.expovariate(1.5))
        told = max(0.0, wait - seconds) if self.retry_after else None
        return Answer("throttled", seconds, told, self._told(now))

    def _told(self, now: float) -> tuple[float, float, float] | None:
        if self.headers is None or self.requests is None:
            return None
        left, reset = self.requests.left(now)
        return 60.0 * self.headers(now), left, reset

    def _queued(self, now: float, seconds: float) -> float:
        """Return when a request is done that may have to wait for others."""
        if self.knee is None:
            return seconds
        free = list(self.free_at) or [0.0] * self.knee
        first = min(range(self.knee), key=free.__getitem__)
        free[first] = max(now, free[first]) + seconds
        self.free_at = free
        return free[first] - now

    def _strangers(self, now: float, rng: random.Random) -> None:
        """Let the other client's requests come first."""
        while self.stranger and self.stranger_at <= now and self.requests is not None:
            if self.requests.wait(self.stranger_at, 1.0) == 0.0:
                self.requests.take(self.stranger_at, 1.0)
            self.stranger_at += rng.expovariate(self.stranger)
