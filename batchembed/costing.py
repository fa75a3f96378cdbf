"""What a job costs: the price that holds for it, what was paid, the bound that it sets."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from batchembed import prices, providers
from batchembed.embed import Budget
from batchembed.errors import JobError
from batchembed.job import Job
from batchembed.ledger import Bill
from batchembed.prices import Cost, Lane, Price
from batchembed.spec import Spec

GIVE = "give it: --set price.per_million_tokens=… (and price.currency), or a table as price.file"


def price_of(job: Job, spec: Spec, lane: Lane | None = None) -> Price | None:
    """Return what the job's tokens cost: as it says, as its table says, or as ours; else None."""
    given, lane = job.price, lane or job.access.lane
    if given.per_million_tokens is not None:
        return Price(Decimal(str(given.per_million_tokens)), given.currency)
    if _images_apart(job, spec):
        return None
    own = spec.base_url == providers.info(spec.provider).base_url
    if given.file is not None:
        lines = prices.read(Path(given.file))
        found = prices.find(
            spec.provider, spec.name, lane=lane, address=None, own_address=True, tables=[lines]
        )
        if found is not None:
            return found
    return prices.find(
        spec.provider,
        spec.name,
        lane=lane,
        address=spec.base_url,
        own_address=own,
        tables=[prices.table()],
    )


def check_bound(job: Job, spec: Spec) -> None:
    """Raise JobError for a `limits.max_cost` that could not be kept."""
    if job.limits.max_cost is None:
        return
    if _images_apart(job, spec):
        raise JobError(
            f"`limits.max_cost` cannot be kept: `{spec.provider}` does not say beforehand what an "
            "image costs",
            hint="leave it out, and try some rows first: batchembed plan JOB.toml --probe 20",
        )
    price = price_of(job, spec)
    if price is None:
        raise JobError(
            f"`limits.max_cost` cannot be kept: the price of `{spec.name}` at `{spec.provider}` "
            "is not known",
            hint=GIVE,
        )
    if price.source == prices.PRIVATE:
        raise JobError(
            f"`limits.max_cost` has no meaning: `{spec.base_url}` is in a private network, so it "
            "is taken for a server of your own, which bills nothing",
            hint=f"leave it out; or, where that server is one that passes on and bills, {GIVE}",
        )


def _images_apart(job: Job, spec: Spec) -> bool:
    """Whether there may be images whose tokens have no bound and no price that is known."""
    return bool(job.pieces) and bool(providers.info(spec.provider).model_of(spec.name).pieces)


def rate_of(price: Price | None) -> str:
    """Return the price as it is noted with every answer; "" where it is not known for sure."""
    return price.rate if price is not None and price.source != prices.PRIVATE else ""


def cost_of(bill: Bill, price: Price | None) -> Cost:
    """Return what was paid for a run directory, as far as prices are known."""
    return prices.cost(bill.rates, price)


def budget(job: Job, spec: Spec, price: Price | None, bill: Bill) -> Budget | None:
    """Return what the run may cost; None: as much as it takes.

    `bill` is of all runs of the directory. Raises JobError when it is in another currency.
    """
    if job.limits.max_cost is None or price is None:
        return None
    paid = cost_of(bill, price)
    if paid.amount is None or paid.currency != price.currency:
        raise JobError(
            f"`limits.max_cost` cannot be kept: this directory was paid for in another currency "
            f"than `{price.currency}`",
            hint="give price.per_million_tokens in the currency of before, with price.currency",
        )
    before_a_text = [text for _, text in spec.prefixes] + [spec.instruction or ""]
    return Budget(
        price=price,
        most=Decimal(str(job.limits.max_cost)),
        paid=paid.amount + price.of(bill.unsure),
        unsure=bill.unsure,
        overhead=max(len(text.encode()) for text in before_a_text),
    )
