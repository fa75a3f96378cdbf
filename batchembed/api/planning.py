"""What a run would send and take: `plan`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from batchembed import corpus, costing, directory, providers
from batchembed.clock import SystemClock
from batchembed.engines import local
from batchembed.exchange import Request
from batchembed.job import Job
from batchembed.ledger import Bill
from batchembed.monitor import Monitor
from batchembed.packing import Packer
from batchembed.parts import read_manifest, read_voucher
from batchembed.plan import Oddities, Plan, calibrate, comparison, count, space, time_under
from batchembed.preparing import (
    check_columns,
    checked_spec,
    identity,
    languages_for,
    provider_key,
    reading,
)
from batchembed.providers.tokenizing import TokenCounter
from batchembed.run import probe as send_few
from batchembed.spec import Keyer, Spec
from batchembed.store import Store, free_bytes
from batchembed.survey import CorpusFeed, Seen, Survey

LONG = {
    "reject": "a text that is too long for the model will have no vector: see `model.on_long_text`",
    "truncate": "a text that is too long for the model is embedded by its beginning, and told by "
    "row; what is cut off is counted here as if it were sent",
    "mean": "a text that is too long for the model is embedded as the mean of its sections, and "
    "told by row; each section is a request of its own, and is not counted as one here",
}


def plan(
    job: Job,
    monitor: Monitor | None = None,
    *,
    ask: bool = False,
    probe: int = 0,
    environ: Mapping[str, str] | None = None,
) -> Plan:
    """Return what a run of `job` would send and take. Sends nothing and writes nothing.

    With `ask` the server is asked about itself, which costs nothing: whether its model embeds, how
    long a text may be, and its tokenizer, by which tokens are then counted.

    With `probe`, so many rows are sent first, as a run would, and kept in its directory: what
    they were billed, and how long that took, is what the plan then builds on.

    Raises SpecChangedError where a run would: for a directory with vectors of another spec.
    """
    monitor = monitor or Monitor("quiet")
    probed = None
    if probe:
        probed = send_few(
            job, probe, Monitor(monitor.voice.mode, stream=monitor.stream), environ=environ
        )
    spec = checked_spec(job)
    store = Store(Path(job.output.path))
    manifest = read_manifest(store) or read_voucher(store)
    directory.check_spec(store, identity(job, spec), manifest)
    found = Plan(provider=spec.provider, model=spec.name, disk_free=free_bytes(store.root))
    counts = _asked(found, job, spec, environ or os.environ) if ask else None
    with tempfile.TemporaryDirectory(prefix="batchembed-") as folder:
        scratch = Path(folder)
        rows = corpus.scan(job.corpus, scratch=scratch)
        check_columns(job, spec, rows)
        monitor.phase("reading", rows.rows_known)
        survey = Survey(scratch)
        limits = local.limits(job, spec)
        languages = languages_for(spec)
        oddities = Oddities(found.context or limits.tokens_per_text)
        seen = Seen(Seen(rows, oddities.look), languages.look)
        survey.take(seen, Keyer(spec), reading(job), monitor.advance)
        found.odd, found.scripts = oddities.odd(rows.where), oddities.scripts()
        found.notes += filter(None, [languages.note()])
        found.rows, found.unsendable = survey.total, survey.unsendable
        found.excess = max(0, survey.lost - job.limits.max_rejects.rows(survey.total))
        ledger, _ = directory.open_ledger(store, manifest)
        missing = ledger.missing(survey.keys(), scratch=scratch)
        feed = CorpusFeed(rows, survey, missing, reading(job), Packer(limits))
        count(found, missing, feed, counts)
    calibrate(found, probed)
    time_under(found, limits)
    usual = providers.info(spec.provider).model_of(spec.name).dimensions
    dimensions = ledger.dimensions or spec.dimensions or usual
    space(found, dimensions, 2 if job.output.dtype == "float16" else 4)
    _cost(found, job, spec, ledger.bill)
    _note(found, job, spec)
    _compare(found, job, dimensions)
    monitor.close("planned", 0)
    return found


def _asked(
    found: Plan, job: Job, spec: Spec, environ: Mapping[str, str]
) -> Callable[[Request], Sequence[int]] | None:
    """Fill in what the server says of itself; return what counts tokens, if it gave a tokenizer."""
    about = local.ask(job, spec, key=provider_key(job, spec, environ), clock=SystemClock())
    local.check_about(job, about)
    found.context, found.notes = about.limits.tokens_per_text, list(about.notes)
    try:
        return TokenCounter(about.tokenizer).counts
    except ValueError:
        found.notes.append("the server gives no tokenizer: tokens are estimated")
        return None


def _note(found: Plan, job: Job, spec: Spec) -> None:
    """Add what a person should know of the provider before paying it."""
    provider = providers.info(spec.provider)
    if spec.on_long_text != "reject" or found.too_long or "too_long" in found.odd:
        found.notes.append(LONG[spec.on_long_text])
    if job.pieces and provider.model_of(spec.name).pieces:
        found.notes.append("the tokens of an image are a guess; --probe finds them out")
    if job.access.lane == "batch":
        found.notes.append(f"handed in as batches: {provider.lane}")


def _compare(found: Plan, job: Job, dimensions: int | None) -> None:
    """Fill in what the comparison at the end of the run would take."""
    wanted = job.similarity
    if wanted is None or dimensions is None:
        return
    other = read_manifest(Store(Path(wanted.against))) if wanted.against else None
    rows = found.rows - sum(found.unsendable.values())
    right = None if other is None else other.counts["rows"] - other.counts["rejected"]
    found.similarity = comparison(
        (rows, right),
        dimensions,
        top_k=wanted.top_k,
        dense=wanted.dense,
        bytes_a_score=2 if wanted.dtype == "float16" else 4,
    )


def _cost(found: Plan, job: Job, spec: Spec, bill: Bill) -> None:
    """Fill in what the run would cost, and whether that could be more than it may."""
    price = costing.price_of(job, spec)
    paid = costing.cost_of(bill, price)
    found.paid_cost = None if paid.amount is None else float(paid.amount)
    if price is None:
        return
    low, likely, high = map(price.of, found.tokens)
    found.cost = (float(low), float(likely), float(high))
    found.currency, found.price = price.currency, price.told()
    bound = costing.budget(job, spec, price, bill)
    found.over_budget = bound is not None and bound.paid + high > bound.most
