"""What a run would send and what that would take, without sending anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from batchembed.exchange import Limits, Request
from batchembed.ledger import Missing

TOKENS_LOW, TOKENS_HIGH = 0.75, 1.6
OVERHEAD_A_ROW = 16
AIM = 0.98


class Requests(Protocol):
    """What a plan needs of a feed."""

    def upcoming(self) -> Iterator[list[Request]]:
        """Yield lists of requests."""


@dataclass(slots=True)
class Plan:
    """What a run would do. `tokens` are (low, likely, high), estimated from the bytes of texts.

    `seconds` is the least time under the known limits and `bound_by` the limit that binds;
    both are empty when no limit is known. `excess` counts rows without a text beyond what
    `limits.max_rejects` allows: with any, a run sends nothing. `disk` is in bytes, None
    while the dimension is unknown. `cost` is (low, likely, high) like the tokens, of what is to
    be sent, None while no price is known; `paid_cost` is what the directory has cost before.
    Where the server was asked about itself, `context` is how many tokens of a text its model
    reads, and `exact` says that tokens were counted by its own tokenizer; `too_long` counts the
    texts of more.
    """

    rows: int = 0
    distinct: int = 0
    duplicates: int = 0
    paid: int = 0
    to_send: int = 0
    unsendable: dict[str, int] = field(default_factory=dict)
    excess: int = 0
    requests: int = 0
    tokens: tuple[int, int, int] = (0, 0, 0)
    longest: int = 0
    seconds: float | None = None
    bound_by: str = ""
    cost: tuple[float, float, float] | None = None
    currency: str = ""
    price: str = ""
    paid_cost: float | None = None
    over_budget: bool = False
    disk: int | None = None
    disk_free: int = 0
    provider: str = ""
    model: str = ""
    exact: bool = False
    context: int | None = None
    too_long: int = 0
    notes: list[str] = field(default_factory=list)


def count(
    plan: Plan,
    missing: Missing,
    requests: Requests,
    counts: Callable[[Request], Sequence[int]] | None = None,
) -> None:
    """Fill in what is to be sent: texts, requests, tokens, the longest text in characters.

    `counts` returns the tokens of each text of a request; without it they are estimated.
    """
    plan.distinct, plan.paid, plan.to_send = missing.distinct, missing.paid, missing.to_send
    plan.duplicates = missing.sendable - missing.distinct
    likely = 0
    if missing.to_send:
        for some in requests.upcoming():
            plan.requests += len(some)
            if counts is not None:
                tokens = [number for request in some for number in counts(request)]
                likely += sum(tokens)
                plan.too_long += sum(number > (plan.context or number) for number in tokens)
            else:
                likely += sum(request.tokens for request in some)
            longest = max((len(text) for r in some for text in r.texts), default=0)
            plan.longest = max(plan.longest, longest)
    plan.exact = counts is not None
    low, high = (1.0, 1.0) if plan.exact else (TOKENS_LOW, TOKENS_HIGH)
    plan.tokens = (round(low * likely), likely, round(high * likely))


def time_under(plan: Plan, limits: Limits) -> None:
    """Fill in the least time that the known limits allow, and which of them binds."""
    bounds = {
        "requests_per_minute": (plan.requests, limits.requests_per_minute),
        "tokens_per_minute": (plan.tokens[1], limits.tokens_per_minute),
    }
    for name, (amount, limit) in bounds.items():
        if limit is not None:
            seconds = 60.0 * amount / (AIM * limit)
            if plan.seconds is None or seconds > plan.seconds:
                plan.seconds, plan.bound_by = seconds, name


def space(plan: Plan, dimensions: int | None, bytes_a_number: int) -> None:
    """Fill in what the run directory will take: the checkpoint and the parts, both at once."""
    if dimensions is not None:
        checkpoint = plan.to_send * (dimensions * 4 + OVERHEAD_A_ROW)
        plan.disk = checkpoint + plan.rows * (dimensions * bytes_a_number + OVERHEAD_A_ROW)
