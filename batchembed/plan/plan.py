"""A plan: what would be sent, what that would take, and what a probe found."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from batchembed.exchange import Limits, Request
from batchembed.ledger import Missing
from batchembed.plan.oddities import Odd
from batchembed.plan.similarity import Comparison

TOKENS_LOW, TOKENS_HIGH = 0.75, 1.6
SPREAD = 0.5  # how far one row's tokens may be from the calibrated estimate, as a share
OVERHEAD_A_ROW = 16
AIM = 0.98


class Requests(Protocol):
    """What a plan needs of a feed."""

    def upcoming(self) -> Iterator[list[Request]]:
        """Yield lists of requests."""

    def fit(self, limits: Limits) -> None:
        """Make requests within `limits`."""

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Make further requests hold no more than this."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What sending a few real rows told.

    `estimated` and `billed` are their tokens; `seconds` is what a request took on average.
    """

    rows: int
    requests: int
    estimated: int
    billed: int
    dimensions: int
    seconds: float


@dataclass(slots=True)
class Plan:
    """What a run would do. `tokens` are (low, likely, high), and `tokens_by` is how they are known.

    `seconds` is the least time that is known and `bound_by` what binds; both are empty when nothing
    is known; `times` has each bound. `excess` counts rows without a text beyond what
    `limits.max_rejects` allows: with any, a run sends nothing. `odd` are rows to look at, by what
    is odd about them; `scripts` counts rows by the script of most of their letters. `disk` is in
    bytes, None while the dimension is unknown. `cost` is (low, likely, high) like the tokens, of
    what is to be sent, None while no price is known; `paid_cost` is what the directory has cost
    before. Where the server was asked about itself, `context` is how many tokens of a text its
    model reads, and `exact` says that tokens were counted by its own tokenizer; `too_long` counts
    the texts of more.
    """

    rows: int = 0
    distinct: int = 0
    duplicates: int = 0
    paid: int = 0
    to_send: int = 0
    unsendable: dict[str, int] = field(default_factory=dict)
    excess: int = 0
    odd: dict[str, Odd] = field(default_factory=dict)
    scripts: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    tokens: tuple[int, int, int] = (0, 0, 0)
    tokens_by: str = "estimated from bytes"
    longest: int = 0
    probe: Probe | None = None
    seconds: float | None = None
    bound_by: str = ""
    times: dict[str, float] = field(default_factory=dict)
    cost: tuple[float, float, float] | None = None
    currency: str = ""
    price: str = ""
    paid_cost: float | None = None
    over_budget: bool = False
    disk: int | None = None
    disk_free: int = 0
    similarity: Comparison | None = None
    provider: str = ""
    model: str = ""
    exact: bool = False
    context: int | None = None
    too_long: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tally:
    """A feed that counts what passes: requests, and their tokens by estimate."""

    feed: Requests
    requests: int = 0
    tokens: int = 0

    def upcoming(self) -> Iterator[list[Request]]:
        """Yield what the feed yields."""
        for some in self.feed.upcoming():
            self.requests += len(some)
            self.tokens += sum(request.tokens for request in some)
            yield some

    def fit(self, limits: Limits) -> None:
        """Let the feed make requests within `limits`."""
        self.feed.fit(limits)

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Let the feed make further requests hold no more than this."""
        self.feed.tighten(texts, size)


def count(
    plan: Plan,
    missing: Missing,
    feed: Requests,
    counts: Callable[[Request], Sequence[int]] | None = None,
) -> None:
    """Fill in what is to be sent: texts, requests, tokens, the longest text in characters.

    `counts` returns the tokens of each text of a request; without it they are estimated.
    """
    plan.distinct, plan.paid, plan.to_send = missing.distinct, missing.paid, missing.to_send
    plan.duplicates = missing.sendable - missing.distinct
    tally, counted = Tally(feed), 0
    if missing.to_send:
        for some in tally.upcoming():
            if counts is not None:
                tokens = [number for request in some for number in counts(request)]
                counted += sum(tokens)
                plan.too_long += sum(number > (plan.context or number) for number in tokens)
            longest = max((len(text) for r in some for text in r.texts), default=0)
            plan.longest = max(plan.longest, longest)
    plan.requests, likely, plan.exact = tally.requests, tally.tokens, counts is not None
    plan.tokens = (round(TOKENS_LOW * likely), likely, round(TOKENS_HIGH * likely))
    if plan.exact:
        plan.tokens = (counted, counted, counted)


def calibrate(plan: Plan, probe: Probe | None) -> None:
    """Correct the tokens by what a probe was billed; the more rows it had, the narrower."""
    plan.probe = probe
    if plan.exact or probe is None or not probe.estimated or not probe.billed:
        return
    likely = plan.tokens[1] * probe.billed / probe.estimated
    spread = SPREAD / math.sqrt(probe.rows)
    low, high = likely / (1 + spread), likely * (1 + spread)
    plan.tokens = (math.floor(low), round(likely), math.ceil(high))
    plan.tokens_by = f"calibrated with {probe.rows:,} rows"


def time_under(plan: Plan, limits: Limits) -> None:
    """Fill in the time that each known bound asks for, and which of them binds."""
    bounds = {
        "requests_per_minute": (plan.requests, limits.requests_per_minute),
        "tokens_per_minute": (plan.tokens[1], limits.tokens_per_minute),
    }
    for name, (amount, limit) in bounds.items():
        if limit is not None:
            plan.times[name] = 60.0 * amount / (AIM * limit)
    if plan.probe is not None and plan.probe.seconds:
        most = limits.most_open if plan.times else limits.concurrency  # a rate gets what it needs
        rounds = math.ceil(plan.requests / most)
        plan.times["concurrency"] = rounds * plan.probe.seconds
    if plan.times:
        plan.bound_by, plan.seconds = max(plan.times.items(), key=lambda bound: bound[1])


def space(plan: Plan, dimensions: int | None, bytes_a_number: int) -> None:
    """Fill in what the run directory will take: the checkpoint and the parts, both at once."""
    if dimensions is not None:
        checkpoint = plan.to_send * (dimensions * 4 + OVERHEAD_A_ROW)
        plan.disk = checkpoint + plan.rows * (dimensions * bytes_a_number + OVERHEAD_A_ROW)
