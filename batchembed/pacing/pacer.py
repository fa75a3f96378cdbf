"""The gate that requests start through: the step, with waiting added."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress

from batchembed.clock import Clock
from batchembed.exchange import Outcome, Refused, Unavailable
from batchembed.monitor import Standing
from batchembed.monitor.telling import span
from batchembed.pacing import shared
from batchembed.pacing.figures import Figures, Tally
from batchembed.pacing.shared import Link, Shared, Together
from batchembed.pacing.state import INF, Permit, Rates
from batchembed.pacing.step import FIRST_WAIT, LONGEST_WAIT, admit, begin, bound_by, learn, ready

LONG = 10.0
LATE_START = 10.0


class Pacer:
    """Lets requests start when they may. One per run; use on one event loop."""

    def __init__(
        self,
        rates: Rates,
        clock: Clock,
        *,
        rng: random.Random,
        heard: Callable[[float], None] = lambda _: None,
        link: Link | None = None,
    ) -> None:
        """`heard` is told how many seconds each attempt took that had an outcome.

        While the limiter at the end of `link` is there, starts are its to grant.
        """
        self.rates = self._part = rates
        self.shared: Shared | None = None
        self._link = link
        self._open = self._asking = 0
        self._together = Together()
        self._joined: float | None = None
        self._asked_since = 0.0
        self._heard = heard
        self.state = begin(rates, clock.monotonic())
        self.waits: dict[str, float] = {}
        self._tally = Tally(clock.monotonic())
        self._clock = clock
        self._rng = rng
        self._started = clock.monotonic()
        self._gate = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._turned = asyncio.Event()  # away from our own gate: the run stops, or a limiter came
        self._ended = asyncio.Event()

    async def permit(self, tokens: int, texts: int = 1) -> Permit | None:
        """Wait for the start of a request of so many estimated tokens; None: the run stops.

        Every permit must be given to `settle` when its attempt has ended, however it ended.
        """
        permit, link = None, self._link
        while permit is None and not self._stopped.is_set():
            if link is not None and link.up:
                permit = await self._asked(link, tokens, texts)
            else:
                permit = await self._own(tokens, texts)
        if permit is not None:
            self._started = self._started if self._open else permit.at
            self._open += 1
        return permit

    async def _own(self, tokens: int, texts: int) -> Permit | None:
        """Wait at our own gate; None: the run stops, or a limiter came."""
        async with self._gate:
            now = self._clock.monotonic()
            while not self._turned.is_set() and (when := ready(self.state, now)) > now:
                why = bound_by(self.state, now)
                if when == INF:
                    self._ended.clear()
                    await self._ended.wait()
                else:
                    await _either(self._turned, when - now)
                began, now = now, self._clock.monotonic()
                self._note(why, now - began)
            if self._turned.is_set():
                return None
            self.state, permit = admit(self.state, tokens, texts, now)
            return permit

    async def _asked(self, link: Link, tokens: int, texts: int) -> Permit | None:
        """Wait for the limiter; None: it is gone, or the run stops."""
        if not self._asking:
            self._asked_since = self._clock.monotonic()
        self._asking += 1
        try:
            granted = await link.permit(tokens, texts)
        finally:
            self._asking -= 1
        if granted is None:
            return None
        permit, why = granted
        self._note(why or "limiter", permit.at - self._asked_since)
        self._asked_since = permit.at
        return permit

    def settle(self, permit: Permit, outcome: Outcome | None) -> None:
        """Note how an attempt ended; None: it was lost."""
        if isinstance(outcome, Refused) and not outcome.sent:
            outcome = None  # that tells nothing of the server, least of all that it is up
        now, draw = self._clock.monotonic(), self._rng.random()
        self._open -= 1
        if self._link is None or not self._link.settle(permit, outcome):
            self.state = learn(self.state, self._part, permit, outcome, now=now, draw=draw)
        self._tally.note(permit, outcome, now)
        if outcome is not None:
            self._heard(now - permit.at)
        self._ended.set()

    async def rest(self, outcome: Outcome, tries: int) -> None:
        """Let a request wait that was unavailable so many times: the others go on meanwhile."""
        if not tries or not isinstance(outcome, Unavailable) or outcome.wait is not None:
            return
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(tries - 1, 10))
        await _either(self._stopped, longest * (0.5 + self._rng.random() / 2.0))

    def stop(self) -> None:
        """Let nothing start any more; whoever waits gets None."""
        self._stopped.set()
        self._turned.set()
        self._ended.set()
        if self._link is not None:
            self._link.stop()

    def hear(self, standing: Shared | None) -> None:
        """Hear from the limiter how the limit stands: it grants the starts; None: it is gone."""
        now = self._clock.monotonic()
        self._together.hear(standing, now)
        if standing is not None:
            self._joined = now if self._joined is None else self._joined
            self.state = shared.follow(self.state, standing, self._joined, now)
            self._turned.set()
            self._ended.set()
        else:
            self._part = shared.part(self.rates, self.shared)
            self.state = shared.alone(self._part, self.shared, self._open, now)
            if not self._stopped.is_set():
                self._turned.clear()
        self.shared = standing

    def failing_for(self) -> float:
        """Return for how many seconds nothing but failures came back."""
        since = self.state.failing_since
        return 0.0 if since is None else self._clock.monotonic() - since

    def held_for(self) -> float:
        """Return for how many seconds from now nothing may start."""
        return max(0.0, self.state.held_until - self._clock.monotonic())

    def standing(self) -> Standing:
        """Return why nothing but a probe may start, and when the next one goes."""
        state, now = self.state, self._clock.monotonic()
        if self._stopped.is_set():
            words = f"stopping, {_open(self._open)} may still be answered"
            return Standing("stopping", words) if self._open else Standing()
        if not state.shut:
            return self._late(now)
        kind = "circuit_open" if state.finder.troubled is None else "throttled"
        what = "circuit open" if kind == "circuit_open" else "over the limit"
        held = None if state.probing else self.held_for()
        probe = "a probe is out" if held is None else f"next probe in {span(held)}"
        return Standing(kind, f"{what}, {probe}: {state.reason}", state.reason, held)

    def _late(self, now: float) -> Standing:
        """Return what makes a start or an answer late, where nothing failed."""
        state = self.state
        when = ready(state, now) if self.shared is None else INF  # the limiter's to know
        silent = now - max(self._tally.last, self._started)
        if self._open and silent >= LONG:
            words = f"{_open(self._open)} out, no answer for {span(silent)}"
            return Standing("answers", words)
        if when < INF and when - now >= LATE_START:
            what = bound_by(state, now)
            words = f"the limit of {what} lets the next request go in {span(when - now)}"
            return Standing("limit", words, what, when - now)
        return Standing()

    def limits(self) -> tuple[float | None, float | None]:
        """Return the requests and the tokens a minute that are kept to; None: none is known.

        Of a limit that runs share, an equal part.
        """
        uses, runs = self.figures().limits, self.shared.workers if self.shared else 1
        found = (uses.get("requests_per_minute"), uses.get("tokens_per_minute"))
        requests, tokens = (None if use is None else use.limit / max(1, runs) for use in found)
        return requests, tokens

    def figures(self) -> Figures:
        """Return how well the limits were used so far."""
        rates = self.rates if self.shared is None else Rates(*self.shared.stated)
        return self._tally.figures(rates, self.state, self.waits, self._together)

    def _note(self, why: str, seconds: float) -> None:
        self.waits[why] = self.waits.get(why, 0.0) + seconds


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, or until so many seconds are over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _open(count: int) -> str:
    return f"{count} request" + ("" if count == 1 else "s")
