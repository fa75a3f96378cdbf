"""What the engine is given to buy texts with: key, price, budget, and what looks on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchembed import costing, limiter, preparing, publish, sharing
from batchembed.engines import local
from batchembed.guarding import Guard
from batchembed.ledger import Ledger
from batchembed.preparing import Run
from batchembed.prices import Lane
from batchembed.spec import Spec
from batchembed.watching import watching

if TYPE_CHECKING:
    from batchembed.providers.local import Early


def plant(
    run: Run,
    spec: Spec,
    ledger: Ledger,
    *,
    most_rejects: int,
    lane: Lane = "online",
    staging: publish.Ahead | None = None,
    begun: Early | None = None,
) -> local.Plant:
    """Return what the engine works with; what is paid from now on has the price of `lane`."""
    price = costing.price_of(run.job, spec, lane)
    stops = run.job.limits.on_model_change == "stop"

    def unstaged() -> int:
        return run.summary.rows - (staging.rows if staging is not None else 0)

    made = local.Plant(
        spec=spec,
        key=preparing.provider_key(run.job, spec, run.environ),
        renew=preparing.key_reader(run.job, spec, run.environ),
        versions=frozenset(ledger.bill.model_versions) if stops else None,
        objection=Guard(run, unstaged).objection,
        watching=watching(run, preparing.reading(run.job).role, run.summary.to_send),
        ledger=ledger,
        monitor=run.monitor,
        clock=run.clock,
        most_rejects=most_rejects,
        dimensions=ledger.dimensions,
        outputs=ledger.outputs,
        budget=sharing.budget(run, spec, price, ledger),
        begun=begun,
        parts=sharing.at_once(run),
        limiter=limiter.of_job(run.job.limits.share, run.environ),
    )
    ledger.rate = costing.rate_of(price)
    bill = ledger.own if run.shard else ledger.bill
    run.monitor.paid = lambda: costing.cost_of(bill, price)
    return made
