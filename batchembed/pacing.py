"""When the next request may start: budgets a minute, holds, and what failures teach.

Theory of operation. Requests leave through one gate, in order. Each resource (requests, tokens)
has a *due time*: the moment from which the next start keeps the rate; a start moves it on by
cost / rate. There is no bucket that could be full at the start, so there is no burst, and a
server whose window begins anywhere sees at most its limit. A start that comes late, because
timers do, is made up for: up to `LATE` seconds, or every timer would cost some of the rate. We
aim at `AIM` of a limit: the rest is for that and for jitter on the way. Tokens are estimated at
the start and corrected by the bill, which may come `BILL_LATE` seconds too late to be used.

An outcome that says "slower" or "down" sets a *hold*: nothing starts before it ends, and then
one request alone goes as a probe. Any end of the probe lets the next one try; a success opens
the gate. Waits double with every failure in a row, with jitter, unless the server named one.

The step is pure: (state, outcome, now) -> state. `Pacer` adds the waiting.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, replace

from batchembed.clock import Clock
from batchembed.exchange import Outcome, Response, Throttled, Unavailable

AIM = 0.98
LATE = 0.05
BILL_LATE = 0.2
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Known limits a minute; None: no known limit."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """All that the pacer knows. Times are seconds of the monotonic clock.

    `billed` is the learnt ratio of billed to estimated tokens. `failures` counts since the last
    success; `failing_since` is when that row began.
    """

    request_due: float = 0.0
    token_due: float = 0.0
    held_until: float = 0.0
    billed: float = 1.0
    failures: int = 0
    failing_since: float | None = None
    reason: str = ""


def admit(state: State, rates: Rates, tokens: int, now: float) -> tuple[State, float]:
    """Return the state after one more start, and when that start may happen."""
    start = _start(state, now)
    if rates.requests_per_minute is None and rates.tokens_per_minute is None:
        return state, start
    request_due, token_due = state.request_due, state.token_due
    if rates.requests_per_minute is not None:
        request_due = max(request_due, now - LATE) + 60.0 / (AIM * rates.requests_per_minute)
    if rates.tokens_per_minute is not None:
        cost = tokens * state.billed
        token_due = max(token_due, now - BILL_LATE) + 60.0 * cost / (AIM * rates.tokens_per_minute)
    return replace(state, request_due=request_due, token_due=token_due), start


def _start(state: State, now: float) -> float:
    return max(now, state.held_until, state.request_due, state.token_due)


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to one attempt. A probe is the one request that tries whether a hold may end.

    `tokens` is the request's own estimate; `cost` is what the budget was charged for it.
    """

    tokens: int
    cost: float
    probe: bool


def learn(
    state: State, rates: Rates, permit: Permit, outcome: Outcome, *, now: float, draw: float
) -> State:
    """Return the state after an outcome of the attempt that had `permit`.

    `draw` is a random number in [0, 1) for the jitter.
    """
    if isinstance(outcome, Throttled | Unavailable):
        return _failed(state, outcome, now, draw)
    if state.failing_since is not None:
        state = replace(state, failures=0, failing_since=None, reason="")
    if not isinstance(outcome, Response) or not outcome.tokens or not permit.tokens:
        return state
    if rates.tokens_per_minute is None:
        return state
    excess = outcome.tokens - permit.cost
    token_due = state.token_due + 60.0 * excess / (AIM * rates.tokens_per_minute)
    billed = 0.95 * state.billed + 0.05 * outcome.tokens / permit.tokens
    return replace(state, token_due=token_due, billed=billed)


def _failed(state: State, outcome: Throttled | Unavailable, now: float, draw: float) -> State:
    backoff = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(state.failures, 10)) * (0.5 + draw / 2)
    wait = backoff if outcome.wait is None else outcome.wait + 0.02 + 0.1 * draw
    # Failures of requests that left before the hold began tell nothing new.
    already_held = state.held_until > now
    until = now + ((outcome.wait or 0.0) if already_held else wait)
    return replace(
        state,
        failures=state.failures + (not already_held),
        failing_since=now if state.failing_since is None else state.failing_since,
        held_until=max(state.held_until, until),
        reason=outcome.reason,
    )


class Pacer:
    """Lets requests start when they may. One per run; use on one event loop."""

    def __init__(self, rates: Rates, clock: Clock, *, rng: random.Random) -> None:
        now = clock.monotonic()
        self.rates = rates
        self.state = State(request_due=now, token_due=now)
        self.waited = 0.0
        self._clock = clock
        self._rng = rng
        self._gate = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._probe_ended = asyncio.Event()
        self._probe_ended.set()

    async def permit(self, tokens: int) -> Permit | None:
        """Wait for the start of a request of so many estimated tokens; None: the run stops.

        Every permit must be given to `settle` when its attempt has ended, however it ended.
        """
        async with self._gate:
            began = self._clock.monotonic()
            while not self._stopped.is_set():
                if self.state.failures and not self._probe_ended.is_set():
                    await self._probe_ended.wait()
                elif (wait := self._wait()) > 0:
                    await self._pause(wait)
                else:
                    break
            now = self._clock.monotonic()
            self.waited += now - began
            if self._stopped.is_set():
                return None
            permit = Permit(tokens, tokens * self.state.billed, self.state.failures > 0)
            self.state, _ = admit(self.state, self.rates, tokens, now)
            if permit.probe:
                self._probe_ended.clear()
            return permit

    def settle(self, permit: Permit, outcome: Outcome | None) -> None:
        """Note how an attempt ended; None: it was lost."""
        if outcome is not None:
            self.state = learn(
                self.state,
                self.rates,
                permit,
                outcome,
                now=self._clock.monotonic(),
                draw=self._rng.random(),
            )
        if permit.probe or not self.state.failures:
            self._probe_ended.set()

    def stop(self) -> None:
        """Let nothing start any more; whoever waits gets None."""
        self._stopped.set()
        self._probe_ended.set()

    def failing_for(self) -> float:
        """Return for how many seconds nothing but failures came back."""
        since = self.state.failing_since
        return 0.0 if since is None else self._clock.monotonic() - since

    def held_for(self) -> float:
        """Return for how many seconds from now nothing may start."""
        return max(0.0, self.state.held_until - self._clock.monotonic())

    def _wait(self) -> float:
        now = self._clock.monotonic()
        return _start(self.state, now) - now

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
