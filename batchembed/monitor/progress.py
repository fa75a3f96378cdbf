"""Where a run stands at one moment: what bar, lines, JSON, `status` and metrics tell."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from batchembed.monitor.summary import Summary

RECENT_SECONDS = 30.0
A_BEGINNING = 5.0  # before that, what was used of a limit of a minute says nothing


@dataclass(frozen=True, slots=True)
class Standing:
    """Why nothing starts now. `kind` is "" where all may start, and one of these else.

    `throttled`: over the limit, after a 429. `circuit_open`: nothing but failures came.
    `limit`: the next start keeps to a
    limit, and comes many seconds from now. `answers`: requests are open, and
    nothing was answered for long. `budget`: `max_cost` waits for the bills of what is in flight.
    `stopping`: what is in flight may land. `waiting`: anything else.
    `seconds` until the next start, if that is known; `words` are for people, reason included.
    """

    kind: str = ""
    words: str = ""
    reason: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Used:
    """A limit a minute, the share of it that was used, and how many runs share it (0: none)."""

    name: str
    limit: float
    share: float
    shared_by: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. Rates are per second, over the last RECENT_SECONDS.

    `used` is the limit that was used most in that time.
    """

    at: str = ""
    phase: str = "starting"
    unit: str = "rows"
    done: int = 0
    total: int | None = None
    per_second: float | None = None
    seconds_left: float | None = None
    used: Used | None = None
    standing: Standing = field(default_factory=Standing)
    summary: Summary = field(default_factory=Summary)

    def told(self) -> dict[str, Any]:
        """Return plain JSON values: those of the summary beside its own."""
        own = {one.name: getattr(self, one.name) for one in fields(self)}
        del own["summary"]
        own |= {"standing": asdict(self.standing), "used": self.used and asdict(self.used)}
        return self.summary.to_dict() | own

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Progress:
        """Return what `told` gave, as far as another version's words can be understood."""
        own: Progress = _known(cls, told)
        return replace(
            own,
            used=_known(Used, told["used"]) if told.get("used") else None,
            standing=_known(Standing, told.get("standing") or {}),
            summary=_known(Summary, told),
        )


def _known(kind: Any, told: Mapping[str, Any]) -> Any:
    return kind(**{one.name: told[one.name] for one in fields(kind) if one.name in told})


@dataclass(slots=True)
class Recent:
    """What was done lately: marks of (second, done, requests, tokens, texts)."""

    marks: deque[tuple[float, int, int, int, int]] = field(default_factory=deque)

    def begin(self, now: float, done: int, summary: Summary) -> None:
        """Begin anew: another phase counts other things, and after a hold a rate is another."""
        self.marks.clear()
        self.note(now, done, summary)

    def note(self, now: float, done: int, summary: Summary) -> None:
        """Keep a mark, and those that are not older than RECENT_SECONDS."""
        marks = self.marks
        if marks and now - marks[-1][0] < 1.0 and len(marks) > 1:
            return
        marks.append((now, done, summary.requests, summary.tokens, summary.sent))
        while len(marks) > 2 and now - marks[1][0] >= RECENT_SECONDS:  # noqa: PLR2004 - two ends
            marks.popleft()

    def per_second(self, now: float, done: int) -> float | None:
        """Return how many were done a second; None: too soon to say."""
        since, before, *_ = self.marks[0]
        return (done - before) / (now - since) if now > since else None

    def used(self, now: float, summary: Summary) -> Used | None:
        """Return the limit a minute that was used most, and how far."""
        since, _, *before = self.marks[0]
        limits = {name: use["limit"] for name, use in summary.pace.get("limits", {}).items()}
        runs = summary.pace.get("shared_by", 0)
        if not limits or now - since < A_BEGINNING:
            return None
        counts = dict(zip(_KINDS, (summary.requests, summary.tokens, summary.sent), strict=True))
        spent = dict(zip(_KINDS, before, strict=True))
        shares = [
            Used(name, limit, 60.0 * (counts[name] - spent[name]) / (now - since) / limit, runs)
            for name, limit in limits.items()
        ]
        return max(shares, key=lambda one: one.share)


_KINDS = ("requests_per_minute", "tokens_per_minute", "texts_per_minute")
