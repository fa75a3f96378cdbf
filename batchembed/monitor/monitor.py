"""What hears a run, and lets people, logs, `status` and metrics know where it stands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, SupportsFloat, TextIO

from batchembed.clock import Clock, SystemClock
from batchembed.errors import BatchembedError
from batchembed.exchange import Reject
from batchembed.history import History
from batchembed.monitor import telling
from batchembed.monitor.progress import Progress, Recent, Standing
from batchembed.monitor.summary import Summary
from batchembed.monitor.voice import Mode, Voice

PROGRESS_SECONDS = 1.0
TICK_SECONDS = 0.1  # a look at all that may be due costs a few percent of a request of one text
NOTHING = Standing()
HELD = frozenset({"circuit_open", "throttled", "waiting"})


class _Figures(Protocol):
    """What `pacing.Figures` is here."""

    def told(self) -> dict[str, Any]: ...


class _Pacing(Protocol):
    """What a pacer tells of itself."""

    @property
    def waits(self) -> Mapping[str, float]: ...
    def figures(self) -> _Figures: ...


class _Paid(Protocol):
    """What was paid so far; see `prices.Cost`."""

    @property
    def amount(self) -> SupportsFloat | None: ...
    @property
    def currency(self) -> str: ...


class Listener(Protocol):
    """Hears where a run stands: every second, and when it has ended."""

    def heard(self, progress: Progress, now: float) -> None:
        """Hear where the run stands at `now`, in seconds of the monotonic clock."""

    def ended(self, progress: Progress) -> None:
        """Hear what the run came to."""


class Monitor:
    """Hears what a run does. Say nothing more often than a person or a log can bear.

    `standings` are asked in turn why nothing starts; `listeners` are told where the run stands.
    """

    def __init__(
        self,
        mode: Mode = "auto",
        *,
        stream: TextIO | None = None,
        clock: Clock | None = None,
        keep: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.stream = stream or sys.stderr
        self.keep = keep
        self.listeners: list[Listener] = []
        self.paid: Callable[[], _Paid] | None = None
        self.pacing: _Pacing | None = None
        self.standings: Sequence[Callable[[], Standing]] = ()
        self.summary = Summary()
        self.history = History()
        self._clock = clock or SystemClock()
        self._began = self._kept_at = self._clock.monotonic()
        self._ticked_at = self._began
        self._phase, self._unit = "starting", "rows"
        self._done = 0
        self._total: int | None = None
        self._recent = Recent()
        self._recent.begin(self._began, 0, self.summary)
        self._failed = NOTHING
        self._why: BatchembedError | None = None
        self.voice = Voice(mode, self.stream, self._began)

    def phase(self, name: str, total: int | None = None, unit: str = "rows") -> None:
        """Say that a part of the run begins; `total` counts what `advance` will tell."""
        self._see_pace()
        now = self._clock.monotonic()
        self.history.end(now)
        if name == "embedding":
            began = self._clock.now().isoformat(timespec="seconds")
            self.history.begin(now, began, self.summary.to_send)
        self._phase, self._done, self._total, self._unit = name, 0, total, unit
        self._failed = NOTHING
        self._recent.begin(now, 0, self.summary)
        self.voice.phase(self.progress(), now)
        self._keep_progress(force=True)

    def advance(self, count: int) -> None:
        """Say that so many more of the phase's total are done."""
        self._done += count
        self.tick()

    def reach(self, done: int, total: int) -> None:
        """Say how many of a total are done."""
        self._done, self._total = done, total
        self.tick()

    def answered(self, texts: int, tokens: int, mended: int = 0) -> None:
        """Vectors were kept; `mended` of them came with another length than 1."""
        self.summary.sent += texts
        self.summary.mended += mended
        self.summary.requests += 1
        self.summary.tokens += tokens
        self.summary.needless_tokens += 0 if texts else tokens
        self.history.answered(texts, tokens)
        self._failed = NOTHING
        self.advance(texts)

    def rejected(self, rejects: list[Reject]) -> None:
        """Texts were rejected."""
        for reject in rejects:
            reasons = self.summary.reasons
            reasons[reject.reason] = reasons.get(reject.reason, 0) + 1
        self.advance(len(rejects))

    def failed(self, kind: str, reason: str, wait: float) -> None:
        """An attempt brought no vectors; nothing starts for `wait` seconds."""
        failures = self.summary.failures
        failures[kind] = failures.get(kind, 0) + 1
        words = f"waiting {wait:.0f} s: {reason}"
        self._failed = Standing("waiting", words, reason, wait) if wait >= 1 else NOTHING
        self.history.held(self._clock.monotonic(), wait, kind, reason)
        self.tick()

    def say(self, words: str) -> None:
        """Say a line to people, whatever the mode but quiet."""
        self.voice.say(words, self.progress())

    def tick(self) -> None:
        """Let time pass: say a line or keep the progress when it is time to."""
        now = self._clock.monotonic()
        if now - self._ticked_at < TICK_SECONDS:
            return
        self._ticked_at = now
        self.summary.seconds = now - self._began
        held = self._standing().kind in HELD
        (self._recent.begin if held else self._recent.note)(now, self._done, self.summary)
        if self.voice.is_due(now):
            self.voice.stands(self.progress(), now)
        self.history.tick(now)
        self._keep_progress(force=False)

    def progress(self) -> Progress:
        """Return where the run stands."""
        self._see_cost()
        self._see_pace()
        now, done, total = self._clock.monotonic(), self._done, self._total
        rate = self._recent.per_second(now, done)
        embedding = self._phase == "embedding"
        used = self._recent.used(now, self.summary) if embedding else None
        return Progress(
            at=self._clock.now().isoformat(timespec="seconds"),
            phase=self._phase,
            unit=self._unit,
            done=done,
            total=total,
            per_second=rate,
            seconds_left=(total - done) / rate if total and rate and done else None,
            used=used,
            standing=self._standing(),
            summary=self.summary,
        )

    def _see_pace(self) -> None:
        """Note how well the limits were used so far."""
        if self.pacing is not None:
            self.summary.waited = sum(self.pacing.waits.values())
            self.summary.pace = self.pacing.figures().told()

    def _standing(self) -> Standing:
        """Return why nothing is sent now, as the engine tells it, or as the last failure did."""
        if not self.standings:
            return self._failed
        if self._phase != "embedding":
            return NOTHING
        return next((told for ask in self.standings if (told := ask()).kind), NOTHING)

    def close(self, state: str, exit_code: int, why: BatchembedError | None = None) -> Summary:
        """End the run and return what it came to; `why` it ended early is left for `status`."""
        self._why = why
        first = self.summary.state == "started"
        self.summary.state, self.summary.exit_code = state, exit_code
        now = self._clock.monotonic()
        self.summary.seconds = now - self._began
        self.history.end(now)
        self._see_cost()
        self._keep_progress(force=True)
        if first and (words := telling.lengths(self.summary)):
            self.say(words)
        told = self.progress()
        if first:
            self.voice.end(told)
        for listener in self.listeners:
            listener.ended(told)
        self.listeners = []
        return self.summary

    def _see_cost(self) -> None:
        if self.paid is not None:
            paid = self.paid()
            self.summary.cost = None if paid.amount is None else float(paid.amount)
            self.summary.currency = paid.currency

    def _keep_progress(self, *, force: bool) -> None:
        now = self._clock.monotonic()
        nobody = self.keep is None and not self.listeners
        if nobody or not (force or now - self._kept_at >= PROGRESS_SECONDS):
            return
        self._kept_at = now
        progress = self.progress()
        if self.keep is not None:
            told = {"waiting": progress.standing.words, "line": telling.line(progress)}
            if self._why is not None:
                told |= {"error": self._why.message, "hint": self._why.hint or ""}
            self.keep(progress.told() | told)
        for listener in self.listeners:
            listener.heard(progress, now)


def let_go(monitor: Monitor) -> None:
    """Leave word in no file any more: the run directory may be another run's by now."""
    monitor.keep = monitor.history.keep = None
    monitor.listeners = []
