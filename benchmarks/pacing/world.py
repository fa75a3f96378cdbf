"""Virtual time: a client with endless demand against a server, an hour of it in seconds."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from benchmarks.pacing.servers import Answer, Server

LATE = 0.002
FLIGHT, JITTER = 0.02, 0.01
START, ARRIVE, ANSWERED, FREE, BATCH = range(5)


class Scheme(Protocol):
    """A way to decide when the next request starts."""

    def ready(self, now: float) -> float:
        """Return when a request may start; infinity: not before an answer."""

    def start(self, now: float, worker: int, tokens: float) -> object:
        """Note a start; what is returned comes back with its answer."""

    def settle(self, now: float, worker: int, permit: Any, answer: Answer, tokens: float) -> float:
        """Note an answer; return for how many seconds this worker rests."""


@dataclass(slots=True)
class Seen:
    """What became of the requests, second by second of their arrival."""

    seconds: int
    accepted: list[float] = field(init=False)
    tokens: list[float] = field(init=False)
    throttled: list[int] = field(init=False)
    failed: list[int] = field(init=False)
    latencies: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        size = self.seconds + 1
        self.accepted, self.tokens = [0.0] * size, [0.0] * size
        self.throttled, self.failed = [0] * size, [0] * size

    def note(self, now: float, answer: Answer, tokens: float) -> None:
        """Count an answer."""
        second = int(now)
        if answer.kind == "accepted":
            self.accepted[second] += 1
            self.tokens[second] += tokens
            self.latencies.append(answer.seconds)
        elif answer.kind == "throttled":
            self.throttled[second] += 1
        else:
            self.failed[second] += 1

    def used(
        self, limit: Callable[[float], float], begin: int = 0, end: int | None = None
    ) -> float:
        """Return the share of a limit of requests a second that was used in [begin, end)."""
        end = self.seconds if end is None else end
        return sum(self.accepted[begin:end]) / sum(map(limit, range(begin, end)))

    def refused(self, begin: int = 0, end: int | None = None) -> float:
        """Return the share of 429s among all requests that arrived in [begin, end)."""
        end = self.seconds if end is None else end
        bad = sum(self.throttled[begin:end])
        return bad / max(1.0, bad + sum(self.accepted[begin:end]) + sum(self.failed[begin:end]))

    def reached(
        self, limit: Callable[[float], float], share: float = 0.9, begin: int = 0, over: int = 10
    ) -> float:
        """Return after how many seconds `over` seconds in a row first used that share."""
        for second in range(begin, self.seconds - over):
            part = self.accepted[second : second + over]
            if sum(part) >= share * sum(map(limit, range(second, second + over))):
                return second - begin
        return math.inf


def run(
    scheme: Scheme,
    server: Server,
    *,
    seconds: int,
    seed: int,
    workers: int = 256,
    tokens: Callable[[random.Random], tuple[float, float]] = lambda _rng: (100.0, 100.0),
) -> Seen:
    """Let a scheme send to a server, and return what the server saw.

    `tokens` gives the estimate and the truth of each request. Timers come late by about 2 ms,
    requests are 20 ms on their way, and a random time with a mean of 10 ms longer.
    """
    return _World(
        [scheme], server, seconds, random.Random(seed), workers=workers, tokens=tokens
    ).run()[0]


def run_several(
    schemes: list[Scheme], server: Server, *, seconds: int, seed: int, workers: int = 64
) -> list[Seen]:
    """Let several clients share a server; return what it saw of each."""
    rng = random.Random(seed)
    alike = lambda _rng: (100.0, 100.0)  # noqa: E731
    return _World(schemes, server, seconds, rng, workers=workers, tokens=alike).run()


class _World:
    def __init__(
        self,
        schemes: list[Scheme],
        server: Server,
        seconds: int,
        rng: random.Random,
        *,
        workers: int,
        tokens: Callable[[random.Random], tuple[float, float]],
    ) -> None:
        self.schemes, self.server, self.rng, self.tokens = schemes, server, rng, tokens
        self.seconds = seconds
        self.seen = [Seen(seconds) for _ in schemes]
        self.idle = [deque(range(workers)) for _ in schemes]
        self.wakes = [math.inf] * len(schemes)
        self.order = itertools.count()
        self.events: list[tuple[float, int, int, int, tuple[Any, ...]]] = []
        self.waiting: deque[tuple[float, int, int, object, float]] = deque()
        self.working = False

    def run(self) -> list[Seen]:
        for who in range(len(self.schemes)):
            self.wakes[who] = 0.0
            self._add(0.0, START, who, (0.0,))
        while self.events:
            now, _, kind, who, told = heapq.heappop(self.events)
            if now >= self.seconds:
                break
            if kind == ARRIVE:
                self._arrive(now, who, *told)
                continue
            if kind == BATCH:
                self._batch(now)
                continue
            if kind == ANSWERED:
                self._answered(now, who, *told)
            elif kind == FREE:
                self.idle[who].append(told[0])
            elif kind == START and told[0] != self.wakes[who]:
                continue  # an earlier one was set since
            elif kind == START:
                self.wakes[who] = math.inf
            self._start(now, who)
        return self.seen

    def _add(self, when: float, kind: int, who: int, told: tuple[Any, ...]) -> None:
        heapq.heappush(self.events, (when, next(self.order), kind, who, told))

    def _start(self, now: float, who: int) -> None:
        """Start what may start, and set a timer for the next."""
        scheme, idle = self.schemes[who], self.idle[who]
        while idle:
            worker = idle[0]
            when = scheme.ready(now)
            if when > now:
                if when < self.wakes[who]:
                    self.wakes[who] = when
                    self._add(when + self.rng.expovariate(1 / LATE), START, who, (when,))
                return
            idle.popleft()
            estimate, truth = self.tokens(self.rng)
            permit = scheme.start(now, worker, estimate)
            arrival = now + FLIGHT + self.rng.expovariate(1 / JITTER)
            self._add(arrival, ARRIVE, who, (worker, permit, truth))

    def _arrive(self, now: float, who: int, worker: int, permit: object, tokens: float) -> None:
        answer = self.server.serve(now, tokens, self.rng)
        self.server.open += 1
        if self.server.batch and answer.kind == "accepted":
            self.waiting.append((now, who, worker, permit, tokens))
            if not self.working:
                self._batch(now)
            return
        self._answer(now, who, (worker, permit, answer, tokens))

    def _batch(self, now: float) -> None:
        """Begin with a batch of what waits, and answer it when it is done."""
        count = min(len(self.waiting), len(self.server.batch))
        self.working = count > 0
        if not count:
            return
        done = now + self.server.batch[count - 1]
        for _ in range(count):
            arrived, who, worker, permit, tokens = self.waiting.popleft()
            answer = Answer("accepted", done - arrived)
            self._answer(arrived, who, (worker, permit, answer, tokens))
        self._add(done, BATCH, 0, ())

    def _answer(self, arrived: float, who: int, told: tuple[int, object, Answer, float]) -> None:
        _, _, answer, tokens = told
        self.seen[who].note(arrived, answer, tokens)
        self._add(arrived + answer.seconds + FLIGHT, ANSWERED, who, told)

    def _answered(self, now: float, who: int, worker: int, permit: Any, *told: Any) -> None:
        answer, tokens = told
        self.server.open -= 1
        rest = self.schemes[who].settle(now, worker, permit, answer, tokens)
        if rest > 0:
            self._add(now + rest, FREE, who, (worker,))
        else:
            self.idle[who].append(worker)
