"""One limit and those who share it: whose request starts next, and when.

Theory of operation. All runs of one account (one key, one model) ask here before each start. The
answer comes when the pacer's step, the same that a run by itself uses, lets one more start; it is
told every outcome, so a 429 that one run saw holds them all, and what is found is found once.

Whose turn it is: *fair queuing*. Each run has a clock of its own, moved on by what its starts cost
of the limit that is dearest to them; of those that wait, the one whose clock is behind is next. A
run that wants little gets all it wants, and the others share what it leaves. When a limit rises,
as with a run that had stated a lower one and leaves, all clocks begin anew, level.

What a run holds is a *lease*: starts and tokens that were granted and of which no outcome was told
yet. It lasts as long as words come from the run. When its connection breaks, or nothing was heard
for `LEASE` seconds, its attempts count as lost, and its share is the others'.

A limiter that died knows nothing when it is back, and those who come back do not come at once. So
it begins with the rate that they bring: as much as each had while it was alone.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from batchembed.exchange import Outcome
from batchembed.limiter.messages import End, FromLimiter, Stands, Start, Want, outcome_of
from batchembed.pacing import Permit, Rates, Shared, shared
from batchembed.pacing.state import INF, Speed, State
from batchembed.pacing.step import admit, begin, bound_by, learn, ready, restate

LEASE = 10.0
COMING_BACK = 15.0
MOST_WAITING = 10_000  # a run may have as many requests open


@dataclass(slots=True, eq=False)
class Worker:
    """A run that takes part. `lease`: its open attempts by number; `clock`: see above.

    `asked`: the number of the start that it asked for last. `speed`: how soon it is answered, for
    which its texts matter as much as the server.
    """

    rates: Rates
    tell: Callable[[FromLimiter], None]
    heard_at: float
    waiting: deque[tuple[Want, float]] = field(default_factory=deque)
    lease: dict[int, Permit] = field(default_factory=dict)
    clock: float = 0.0
    asked: int = 0
    speed: Speed = field(default_factory=Speed)


class Account:
    """A limit that runs share. It does no input or output, and is told the time."""

    def __init__(self, rng: random.Random, now: float) -> None:
        self.workers: list[Worker] = []
        self.rates = Rates()
        self.state = begin(self.rates, now)
        self.left_at = now
        self.started = 0
        self.done: shared.Counts = (0.0, 0.0, 0.0)
        self._began, self._brought = now, 0.0
        self._rng = rng
        self._clock = 0.0
        self._why = ""
        self._shut = False

    def join(self, worker: Worker, now: float, brought: float | None = None) -> None:
        """Let a run take part, which brings a rate if it was here before.

        The lowest limits that anyone stated hold for all; of open requests each brings its own.
        """
        self.workers.append(worker)
        self._restate(now)
        if brought is not None and now - self._began < COMING_BACK:
            self._brought = min(self._brought + brought, self.state.request_rate)
            self.state = shared.going_on(self.state, self._brought, now)
        self.tell_all(now)

    def leave(self, worker: Worker, now: float) -> None:
        """Take back what a run holds, and forget what it waits for."""
        self.workers.remove(worker)
        worker.waiting.clear()
        while worker.lease:
            _, permit = worker.lease.popitem()
            self._learn(worker, permit, None, now)
        self.left_at = now
        if self.workers:
            self._restate(now)
            self.tell_all(now)
        else:  # what its requests cost and took is nothing to the next
            self.state = self.state._replace(latency=0.0, lowest=INF, spacing=0.0)

    def want(self, worker: Worker, want: Want, now: float) -> bool:
        """Note that a run wants a start; False: it asks for more than it should, or for one twice.

        Numbers of starts only grow, so that none can take the place of one that is held.
        """
        if want.number <= worker.asked:
            return False
        worker.asked = want.number
        worker.waiting.append((want, now))
        return len(worker.waiting) <= MOST_WAITING

    def end(self, worker: Worker, end: End, now: float) -> None:
        """Learn from how an attempt ended; or forget a start that is not wanted any more."""
        permit = worker.lease.pop(end.number, None)
        if permit is not None:
            self._count(permit, end)
            self._learn(worker, permit, outcome_of(end), now)
        elif end.kind == "lost":
            worker.waiting = deque(one for one in worker.waiting if one[0].number != end.number)

    def turn(self, now: float) -> float:
        """Grant what may start; return when to look again. Infinity: when something happened."""
        when = INF
        while waiting := [worker for worker in self.workers if worker.waiting]:
            when = ready(self.state, now)
            if when > now:
                self._why = bound_by(self.state, now)
                break
            self._grant(min(waiting, key=lambda worker: max(worker.clock, self._clock)), now)
        else:
            when = INF
        if self.state.shut != self._shut:
            self._shut = self.state.shut
            self.tell_all(now)
        return when

    def tell_all(self, now: float) -> None:
        """Tell everyone how the limit stands."""
        told = Stands(self.standing(now))
        for worker in self.workers:
            worker.tell(told)

    def expired(self, now: float) -> list[Worker]:
        """Return those of whom nothing was heard for too long."""
        return [worker for worker in self.workers if now - worker.heard_at > LEASE]

    def standing(self, now: float) -> Shared:
        """Return how the limit stands."""
        return shared.stand(self.state, self.rates, len(self.workers), self.done, now)

    def _grant(self, worker: Worker, now: float) -> None:
        want, since = worker.waiting.popleft()
        self.state, permit = admit(self.state, want.tokens, want.texts, now)
        self._clock = max(worker.clock, self._clock)
        worker.clock = self._clock + self._share(permit)
        worker.lease[want.number] = permit
        self.started += 1
        why = self._why if since < now else ""
        worker.tell(Start(want.number, permit.cost, permit.probe, why))

    def _share(self, permit: Permit) -> float:
        """Return what a start costs of the limit that is dearest to it, in seconds."""
        state = self.state
        rate = min(state.request_rate, state.found)
        costs = (1.0 / rate, permit.cost / state.token_rate, permit.texts / state.text_rate)
        return max(costs) or 1.0

    def _count(self, permit: Permit, end: End) -> None:
        if end.kind == "answered":
            requests, tokens, texts = self.done
            tokens += permit.cost if end.tokens is None else end.tokens
            self.done = requests + 1, tokens, texts + permit.texts

    def _learn(self, worker: Worker, permit: Permit, outcome: Outcome | None, now: float) -> None:
        draw, before = self._rng.random(), self.state._replace(own=worker.speed)
        self.state = learn(before, self.rates, permit, outcome, now=now, draw=draw)
        worker.speed = self.state.own
        self._level(before)

    def _restate(self, now: float) -> None:
        stated = [worker.rates for worker in self.workers]
        self.rates = Rates(
            min(filter(None, (r.requests_per_minute for r in stated)), default=None),
            min(filter(None, (r.tokens_per_minute for r in stated)), default=None),
            min(filter(None, (r.texts_per_minute for r in stated)), default=None),
            concurrency=_sum(r.concurrency for r in stated),
            unpaced=_sum(r.unpaced for r in stated),
            fixed=all(r.fixed for r in stated),
        )
        before, self.state = self.state, restate(self.state, self.rates, now)
        self._level(before)

    def _level(self, before: State) -> None:
        """Where a limit has risen, let the clocks forget what starts cost of the lower one."""
        pairs = zip(_rates(before), _rates(self.state), strict=True)
        if any(rate > old for old, rate in pairs):
            for worker in self.workers:
                worker.clock = min(worker.clock, self._clock)


def _rates(state: State) -> tuple[float, float, float]:
    return state.request_rate, state.token_rate, state.text_rate


def _sum(bounds: Iterable[int | None]) -> int | None:
    """Return how many requests runs may have open together; None: one of them has no bound."""
    found = list(bounds)
    return None if None in found else sum(filter(None, found))
