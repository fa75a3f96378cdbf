"""What the pacer knows: limits as told, and a state that is never changed in place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from batchembed.pacing.width import Knee

INF = math.inf
FIRST_GAP = 4.0
BUDGET_AT_FIRST = 3.0


@dataclass(frozen=True, slots=True)
class Rates:
    """Limits a minute as the job states them; None: not known.

    `concurrency`: the most requests open at once; `unpaced`: the most while no rate is known
    (None: as many). `fixed`: as many are open then, and the knee is not looked for. `find`: look
    for limits that nobody told; without it (a model on this machine) nothing but the known limits
    holds requests back. Of the limits that a server tells, ours is one of so many equal `parts`.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    texts_per_minute: float | None = None
    concurrency: int | None = None
    find: bool = True
    parts: int = 1
    unpaced: int | None = None
    fixed: bool = False

    def part(self, parts: int) -> Rates:
        """Return the limits of one of so many that have equal parts of those a minute."""
        stated = (self.requests_per_minute, self.tokens_per_minute, self.texts_per_minute)
        requests, tokens, texts = (limit and limit / parts for limit in stated)
        return replace(
            self,
            requests_per_minute=requests,
            tokens_per_minute=tokens,
            texts_per_minute=texts,
            parts=parts,
        )


class Permit(NamedTuple):
    """The right to one attempt. A probe is the one request that tries whether a hold may end.

    `tokens` is the request's own estimate; `cost` is what the budget was charged for it. `lease`
    is its number where a limiter granted it, and 0 where the run did.
    """

    tokens: float
    cost: float
    at: float
    probe: bool = False
    texts: int = 1
    lease: int = 0


class Finder(NamedTuple):
    """The search for a limit that nobody told, or that was told wrong.

    `since` and `base`: when the last episode of 429s ended, and how many had been accepted then.
    `marks`: (time, accepted) every few seconds. `troubled`: since when an episode goes on.
    `sure`: that cycle used up a window. `proven` is the highest rate that was held for a whole gap.
    """

    since: float = 0.0
    base: int = 0
    span: float = 0.0
    marks: tuple[tuple[float, int], ...] = ()
    mark_at: float = 0.0
    climb_at: float = INF
    look_at: float = 0.0
    gap: float = FIRST_GAP
    step: float = 0.02
    good: int = 0
    proven: float = INF
    doubt: float = INF
    ceiling: float = INF
    raised_at: float = 0.0
    raised_base: int = 0
    troubled: float | None = None
    refused_at: float = 0.0
    short: int = 0
    sure: bool = False


class Speed(NamedTuple):
    """How soon one run is answered: smoothed, and the `lowest` that was, of so many `answers`."""

    latency: float = 0.0
    lowest: float = INF
    answers: int = 0


class State(NamedTuple):
    """All that the pacer knows. Times are seconds of the monotonic clock, rates are per second.

    Three resources have a due time and a rate that is aimed at: requests, tokens, texts.
    `found`: the requests a second that the finder allows. `shut`: nothing starts but one probe
    at a time. `billed` is the learnt ratio of billed to estimated tokens. `budget`: how many more
    failures than answers may come before the circuit opens. `latency`: smoothed, of answers;
    `lowest`: smoothed too, the lowest that it was for the run whose answer it is; `own`: of the run
    whose answer comes next, as each that shares a limit has its own. `spacing`: smoothed, the
    seconds between two starts that the tightest rate asks for; 0: no rate is known.
    `told`: limits of requests, tokens and texts a minute, as the server tells them.
    """

    request_due: float = 0.0
    token_due: float = 0.0
    text_due: float = 0.0
    request_rate: float = INF
    token_rate: float = INF
    text_rate: float = INF
    held_until: float = 0.0
    shut: bool = False
    probing: bool = False
    open: int = 0
    most_open: float = INF
    billed: float = 1.0
    accepted: int = 0
    budget: float = BUDGET_AT_FIRST
    failures: int = 0
    failing_since: float | None = None
    latency: float = 0.0
    lowest: float = INF
    own: Speed = Speed()
    spacing: float = 0.0
    knee: Knee = Knee()
    found: float = INF
    finder: Finder = Finder()
    reason: str = ""
    told: tuple[float, float, float] = (INF, INF, INF)
