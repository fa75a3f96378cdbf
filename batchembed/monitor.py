"""What a run says while it runs and when it has ended: a bar, plain lines, progress, a summary."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol, SupportsFloat, TextIO

from batchembed.clock import Clock, SystemClock
from batchembed.exchange import Reject
from batchembed.history import History

LINE_SECONDS = 30.0
BAR_SECONDS = 0.5
PROGRESS_SECONDS = 1.0
TICK_SECONDS = 0.1  # a look at all that may be due costs a few percent of a request of one text
Mode = Literal["auto", "bar", "lines", "quiet"]


@dataclass(slots=True)
class Summary:
    """What a run came to. `seconds` are of this execution, the bill of all in this directory.

    `cost` is None while a price is not known; `unsure_tokens` may have been billed as well: their
    answers were lost. `to_send` and `sent` count texts of this execution; `reused` texts were
    paid for before; `columns` names those of vectors where there are several; `failures` counts
    attempts by kind, `reasons` rejected rows; `server` is what it said it runs,
    `learnt` what its refusals showed that a request may hold. `needless_tokens` of `tokens`
    bought nothing that was kept; `pace`: how well the limits were used, as `pacing.Figures`
    tells it.
    """

    path: str = ""
    state: str = "started"
    rows: int = 0
    distinct: int = 0
    reused: int = 0
    to_send: int = 0
    sent: int = 0
    rejected: int = 0
    requests: int = 0
    tokens: int = 0
    billed_tokens: int = 0
    unsure_tokens: int = 0
    cost: float | None = None
    currency: str = ""
    dimensions: int = 0
    columns: list[str] = field(default_factory=list)
    parts: int = 0
    similarity: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    needless_tokens: int = 0
    pace: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    server: str = ""
    learnt: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


class _Bar(Protocol):
    """The little of tqdm that is used here."""

    n: float
    total: float | None

    def update(self, n: float | None = 1) -> object: ...
    def set_postfix_str(self, s: str = "", refresh: bool = True) -> None: ...  # noqa: FBT001, FBT002 - tqdm's
    def close(self) -> None: ...


class _Figures(Protocol):
    """What `pacing.Figures` is here."""

    def told(self) -> dict[str, Any]: ...


class _Pacing(Protocol):
    """What a pacer tells of itself."""

    @property
    def waited(self) -> float: ...
    def standing(self) -> str: ...
    def figures(self) -> _Figures: ...


class _Paid(Protocol):
    """What was paid so far; see `prices.Cost`."""

    @property
    def amount(self) -> SupportsFloat | None: ...
    @property
    def currency(self) -> str: ...


class Monitor:
    """Hears what a run does. Say nothing more often than a person or a log can bear."""

    def __init__(
        self,
        mode: Mode = "auto",
        *,
        stream: TextIO | None = None,
        clock: Clock | None = None,
        keep: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.stream = stream or sys.stderr
        self.mode: Mode = mode
        if mode == "auto":
            self.mode = "bar" if self.stream.isatty() else "lines"
        self.keep = keep
        self.paid: Callable[[], _Paid] | None = None
        self.pacing: _Pacing | None = None
        self.summary = Summary()
        self.history = History()
        self._clock = clock or SystemClock()
        self._began = self._line_at = self._kept_at = self._drawn_at = self._clock.monotonic()
        self._ticked_at = self._began
        self._embedding_since = 0.0
        self._phase, self._phase_at = "starting", self._began
        self._reached = (0, 0)
        self._why = ""
        self._bar: _Bar | None = None

    def phase(self, name: str, total: int | None = None, unit: str = "rows") -> None:
        """Say that a part of the run begins; `total` counts what `advance` will tell."""
        self._close_bar()
        self._see_pace()
        self._phase, self._why = name, ""
        now = self._phase_at = self._clock.monotonic()
        self._reached = (0, 0)
        self.history.end(now)
        if name == "embedding":
            self._embedding_since = now
            began = self._clock.now().isoformat(timespec="seconds")
            self.history.begin(now, began, self.summary.to_send)
        if self.mode == "bar":
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                desc=name,
                unit=f" {unit}",
                file=self.stream,
                dynamic_ncols=True,
                mininterval=0.2,
                leave=False,
                smoothing=0.05,
            )
        self._keep_progress(force=True)

    def advance(self, count: int) -> None:
        """Say that so many more of the phase's total are done."""
        if self._bar is not None:
            self._bar.update(count)
        self.tick()

    def reach(self, done: int, total: int) -> None:
        """Say how many of a total are done."""
        self._reached = done, total
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        self.tick()

    def answered(self, texts: int, tokens: int) -> None:
        """Vectors were kept."""
        self.summary.sent += texts
        self.summary.requests += 1
        self.summary.tokens += tokens
        self.summary.needless_tokens += 0 if texts else tokens
        self.history.answered(texts, tokens)
        self._why = ""
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
        self._why = f"waiting {wait:.0f} s: {reason}" if wait >= 1 else ""
        self.history.held(self._clock.monotonic(), wait, kind, reason)
        self.tick()

    def say(self, words: str) -> None:
        """Say a line to people, whatever the mode but quiet."""
        if self.mode == "quiet":
            return
        self._close_bar()
        self._print(words)

    def tick(self) -> None:
        """Let time pass: say a line or keep the progress when it is time to."""
        now = self._clock.monotonic()
        if now - self._ticked_at < TICK_SECONDS:
            return
        self._ticked_at = now
        self.summary.seconds = now - self._began
        if self._bar is not None and now - self._drawn_at >= BAR_SECONDS:
            self._drawn_at = now
            self._bar.set_postfix_str(self._standing(), refresh=True)
        if self.mode == "lines" and now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            self._print(self.line())
        self.history.tick(now)
        self._keep_progress(force=False)

    def line(self) -> str:
        """Return where the run stands, in one plain line."""
        self._see_cost()
        s = self.summary
        words = f"{self._phase}" + self._reached_words()
        if s.to_send:
            spent = max(1e-9, self._clock.monotonic() - self._embedding_since)
            rate = s.sent / spent
            left = s.to_send - s.sent
            eta = f"{left / rate:.0f} s left" if rate > 0 else "no rate yet"
            share = 100 * s.sent / s.to_send
            words += f" {s.sent}/{s.to_send} texts ({share:.0f} %), {rate:.0f} a second, {eta}"
        if s.cost:
            words += f", {s.cost:,.4f} {s.currency} paid"
        if s.failures:
            words += ", " + ", ".join(f"{n} {kind}" for kind, n in sorted(s.failures.items()))
        standing = self._standing()
        return words + (f"; {standing}" if standing else "")

    def _see_pace(self) -> None:
        """Note how well the limits were used so far."""
        if self.pacing is not None:
            self.summary.waited = self.pacing.waited
            self.summary.pace = self.pacing.figures().told()

    def _standing(self) -> str:
        """Return why nothing is sent now, as the pacer tells it, or as the last failure did."""
        told = self.pacing.standing() if self.pacing is not None else self._why
        return told if self._phase == "embedding" or self.pacing is None else ""

    def _reached_words(self) -> str:
        done, total = self._reached
        if not done:
            return ""
        spent = self._clock.monotonic() - self._phase_at
        return f" {100 * done / total:.0f} %, {spent / done * (total - done):.0f} s left"

    def close(self, state: str, exit_code: int) -> Summary:
        """End the run and return what it came to."""
        self._close_bar()
        self.summary.state, self.summary.exit_code = state, exit_code
        now = self._clock.monotonic()
        self.summary.seconds = now - self._began
        self.history.end(now)
        self._see_cost()
        self._keep_progress(force=True)
        return self.summary

    def _see_cost(self) -> None:
        if self.paid is not None:
            paid = self.paid()
            self.summary.cost = None if paid.amount is None else float(paid.amount)
            self.summary.currency = paid.currency

    def _keep_progress(self, *, force: bool) -> None:
        now = self._clock.monotonic()
        if self.keep is None or not (force or now - self._kept_at >= PROGRESS_SECONDS):
            return
        self._kept_at = now
        self._see_pace()
        self._see_cost()
        told = self.summary.to_dict()
        told |= {"phase": self._phase, "waiting": self._standing(), "line": self.line()}
        self.keep(told | {"at": self._clock.now().isoformat(timespec="seconds")})

    def _print(self, words: str) -> None:
        """Print a line; when nobody can read it any more, the run goes on without."""
        with suppress(OSError):
            print(words, file=self.stream, flush=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
