"""How well the limits were used: the figures of merit of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from batchembed.exchange import Outcome, Response, Throttled, Unavailable
from batchembed.pacing.shared import Together
from batchembed.pacing.state import INF, Permit, Rates, State

SLICE = 10.0
SLICES = 1080
NEARLY = 0.9
A_WHILE = 5.0
Known: TypeAlias = dict[int, tuple[str, float, str]]


@dataclass(frozen=True, slots=True)
class Use:
    """A limit a minute, who told it (job, server or found), and the share of it that was used.

    `used_by_all`: by all runs that share it, while this one took part; None: it is shared by none.
    """

    limit: float
    told_by: str
    used: float
    used_by_all: float | None = None

    def told(self) -> dict[str, Any]:
        """Return plain JSON values, rounded."""
        told = {"limit": round(self.limit, 3), "told_by": self.told_by, "used": round(self.used, 4)}
        every = self.used_by_all
        return told if every is None else told | {"used_by_all": round(every, 4)}


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the attempts. Shares are of all attempts, seconds of time.

    `binds`: the limit that held requests back most. `seconds_to_90`: until 90 % of the limit that
    was used most was used for ten seconds; None: it never was. `waited`: why nothing could start.
    `shared_by`: how many runs shared the limits at most; 0: no limiter shared them out.
    """

    attempts: int = 0
    throttled: float = 0.0
    failed: float = 0.0
    limits: Mapping[str, Use] = field(default_factory=dict)
    binds: str = ""
    seconds_to_90: float | None = None
    waited: Mapping[str, float] = field(default_factory=dict)
    shared_by: int = 0

    def told(self) -> dict[str, Any]:
        """Return plain JSON values, rounded."""
        told = asdict(self)
        told["throttled"], told["failed"] = round(self.throttled, 6), round(self.failed, 6)
        told["limits"] = {name: use.told() for name, use in self.limits.items()}
        return told


@dataclass(slots=True)
class Tally:
    """Counts of attempts, in slices of ten seconds. Times are of the monotonic clock."""

    began: float
    last: float = 0.0
    attempts: int = 0
    answered: int = 0
    throttled: int = 0
    failed: int = 0
    tokens: float = 0.0
    texts: int = 0
    slices: list[tuple[int, float, int]] = field(default_factory=list)

    def note(self, permit: Permit, outcome: Outcome | None, now: float) -> None:
        """Count an attempt that ended."""
        if not self.attempts:
            self.began = permit.at
        self.attempts += 1
        self.last = now
        if isinstance(outcome, Throttled):
            self.throttled += 1
        elif outcome is None or isinstance(outcome, Unavailable):
            self.failed += 1
        else:
            self.answered += 1
            self.texts += permit.texts
            billed = outcome.tokens if isinstance(outcome, Response) else None
            self.tokens += permit.cost if billed is None else billed
        if len(self.slices) < SLICES and now >= self.began + SLICE * (len(self.slices) + 1):
            self.slices.append((self.answered, self.tokens, self.texts))

    def figures(
        self, rates: Rates, state: State, waits: Mapping[str, float], together: Together
    ) -> Figures:
        """Return what the counts come to, under the limits that are known by now."""
        seconds = max(1e-9, self.last - self.began)
        done = (self.answered, self.tokens, self.texts)
        limits = {
            name: Use(limit, who, 60.0 * done[at] / seconds / limit, _by_all(together, at, limit))
            for at, (name, limit, who) in _known(rates, state).items()
        }
        binds = max(waits, key=lambda why: waits[why], default="")
        most = max(limits.values(), key=lambda use: use.used, default=None)
        attempts = max(1, self.attempts)
        return Figures(
            attempts=self.attempts,
            throttled=self.throttled / attempts,
            failed=self.failed / attempts,
            limits=limits,
            binds=binds,
            seconds_to_90=self._reached(_known(rates, state), limits, most),
            waited={why: round(spent, 3) for why, spent in sorted(waits.items())},
            shared_by=together.runs,
        )

    def _reached(self, known: Known, limits: Mapping[str, Use], most: Use | None) -> float | None:
        """Return after how many seconds a slice first used nine tenths of its limit."""
        for at, (name, limit, _) in known.items():
            if limits[name] is not most:
                continue
            before = 0.0
            for number, counts in enumerate(self.slices):
                if counts[at] - before >= NEARLY * limit * SLICE / 60.0:
                    return SLICE * number
                before = counts[at]
        return None


def _by_all(together: Together, at: int, limit: float) -> float | None:
    """Return the share of a limit a minute that all used together; None: too soon to say."""
    if together.seconds < A_WHILE:
        return None
    return 60.0 * together.done[at] / together.seconds / limit


def _known(rates: Rates, state: State) -> Known:
    """Return the limits by resource: name, limit a minute, who told it."""
    found: Known = {}
    stated = (rates.requests_per_minute, rates.tokens_per_minute, rates.texts_per_minute)
    names = ("requests_per_minute", "tokens_per_minute", "texts_per_minute")
    for at, (name, ours, told) in enumerate(zip(names, stated, state.told, strict=True)):
        limit = min(ours or INF, told)
        if limit < INF:
            found[at] = (name, limit, "server" if told < (ours or INF) else "job")
    if 60.0 * state.found < found.get(0, ("", INF, ""))[1] * 0.97:
        found[0] = ("requests_per_minute", 60.0 * state.found, "found")
    return found
