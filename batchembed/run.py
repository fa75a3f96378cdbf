"""The whole story: a corpus in, the same table with vectors out, nothing paid for twice."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchembed import completing, corpus, directory, equipping, preparing, publish, sharing
from batchembed.clock import Clock, SystemClock
from batchembed.embed import Feed, disk_error
from batchembed.engines import batch, local
from batchembed.errors import BatchembedError, CorpusError, NotFinishedError
from batchembed.gathering import gather
from batchembed.interrupts import raise_on_signal
from batchembed.job import Job
from batchembed.ledger import Ledger, has_submissions
from batchembed.lock import Hold
from batchembed.monitor import Monitor, Summary, let_go
from batchembed.packing import Packer
from batchembed.parts import Manifest
from batchembed.plan import Probe
from batchembed.preparing import Run, Trial
from batchembed.rejecting import leaving_rejects
from batchembed.shard import parse
from batchembed.spec import Spec
from batchembed.store import NEXT, SCRATCH, Store
from batchembed.survey import CorpusFeed, Survey, naming, over_tolerance

if TYPE_CHECKING:
    from batchembed.corpus import Corpus
    from batchembed.providers.local import Early


def run(
    job: Job,
    monitor: Monitor | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    retry_rejects: bool = False,
    cancelled: threading.Event | None = None,
    shard: str | None = None,
    force: bool = False,
) -> Summary:
    """Run a job, or continue it, and return what it came to.

    With `retry_rejects`, texts that were rejected before are asked again. Once `cancelled` is
    set, by any thread, what is in flight may land, is kept, and NotFinishedError is raised.
    A `shard`, such as "3/20", sends its share of the texts, beside the others, and publishes
    nothing; `merge` does that, or a run without one. `force`: also into a directory of another
    corpus, most of whose vectors are dropped by it.

    Raises UsageError before anything is sent, ActionNeededError when a person must act,
    NotFinishedError when the same call later will go on, InterruptedRunError after a signal.
    """
    clock, monitor = clock or SystemClock(), monitor or Monitor("quiet")
    store = Store(Path(job.output.path))
    told = Run(job, store, monitor, environ or os.environ, clock, retry_rejects=retry_rejects)
    part = None if shard is None else parse(shard)
    return _held(replace(told, shard=part, force=force), cancelled)


def merge(
    job: Job,
    monitor: Monitor | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    force: bool = False,
) -> Summary:
    """Publish what the shards of a run have: the run of the whole that sends nothing.

    Raises NotFinishedError, which names the shards, when texts are missing; and what `run` raises.
    """
    clock, monitor = clock or SystemClock(), monitor or Monitor("quiet")
    store = Store(Path(job.output.path))
    sharing.check_begun(store)
    told = Run(job, store, monitor, environ or os.environ, clock, merging=True, force=force)
    return _held(told)


def probe(
    job: Job,
    rows: int,
    monitor: Monitor | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Probe | None:
    """Send a few rows, keep what they cost, publish nothing; None: there was nothing to send.

    Raises what `run` raises: it is the same run, of fewer rows.
    """
    clock, monitor = clock or SystemClock(), monitor or Monitor("quiet")
    trial, store = Trial(rows), Store(Path(job.output.path))
    sharing.check_lane(store)
    if has_submissions(store):  # any row may be on its way in a batch
        return None
    summary = _held(Run(job, store, monitor, environ or os.environ, clock, trial=trial))
    if trial.tally is None:
        return None
    points = [point for one in monitor.history.earlier[-1:] for point in one.points]
    attempts = max(1, sum(point.attempts for point in points))
    return Probe(
        rows=summary.sent,
        requests=summary.requests,
        estimated=trial.tally.tokens,
        billed=summary.tokens,
        dimensions=summary.dimensions,
        seconds=sum(point.took for point in points) / attempts,
    )


def _held(run: Run, cancelled: threading.Event | None = None) -> Summary:
    """Tell the story while nobody else may write into the directory."""
    store, monitor = run.store, run.monitor
    hold = sharing.hold(run)
    try:
        with raise_on_signal():
            ours = partial(_check, hold, cancelled)
            return _story(replace(run, still_ours=ours, hold=hold))
    except BatchembedError as error:
        changed = isinstance(error, CorpusError) and monitor.summary.sent > 0
        why = NotFinishedError(error.message, hint=error.hint) if changed else error
        _stopped(hold, monitor, why.exit_code, why)
        if changed:  # the corpus was as it should be when the run began
            raise why from error
        raise
    except OSError as error:
        ended = disk_error(error)
        _stopped(hold, monitor, ended.exit_code, ended)
        raise ended from error
    except Exception:
        _stopped(hold, monitor, BatchembedError.exit_code)
        raise
    finally:
        let_go(monitor)
        if not hold.is_ours():
            hold.leave()
        else:
            known = directory.is_run(store)
            if known or run.shard is not None:
                run.own.delete(SCRATCH)
            hold.release(leave_nothing=not known)


def _stopped(hold: Hold, monitor: Monitor, code: int, why: BatchembedError | None = None) -> None:
    """End what the run says, in files only while the directory is its own."""
    if not hold.is_ours():
        let_go(monitor)
    monitor.close("stopped", code, why)


async def run_async(
    job: Job, monitor: Monitor | None = None, *, shard: str | None = None
) -> Summary:
    """Run a job from a loop of the caller's own; see `run`. Signals stay the caller's.

    Cancelled, it waits until what was in flight has landed and is kept, some seconds at most.
    """
    cancelled = threading.Event()
    running = asyncio.to_thread(run, job, monitor, cancelled=cancelled, shard=shard)
    work = asyncio.ensure_future(running)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancelled.set()
        with suppress(BatchembedError):
            await asyncio.shield(work)
        raise


def _check(hold: Hold, cancelled: threading.Event | None) -> None:
    """Raise unless the run may go on: its directory is still its own, and nobody cancelled it."""
    hold.check()
    if cancelled is not None and cancelled.is_set():
        raise NotFinishedError(
            "the run was cancelled; what was paid for is kept", hint="run it again to continue"
        )


def _story(run: Run) -> Summary:
    """Tell the run from its beginning to its end."""
    spec = preparing.checked_spec(run.job)
    assert run.hold is not None, "nobody else may write now"
    if directory.is_run(run.store) and publish.is_begun(run.store):
        with run.hold.alone():
            publish.roll_forward(run.store)
    rows = corpus.scan(run.job.corpus, scratch=run.own.path(SCRATCH))
    preparing.check_against(run.job, spec)
    preparing.check_columns(run.job, spec, rows)
    identity, shard = preparing.identity(run.job, spec), run.shard
    if shard is None:
        manifest = directory.claim(run.store, identity, run.clock)
    else:
        manifest = directory.last(run.store, identity)
    done = manifest if sharing.is_done(run, manifest, _told(run, rows)) else None
    if shard is not None:
        if done is not None:
            return sharing.nothing_to_do(run, done)
        run = replace(run, agreed=sharing.claim(run, identity))
    completing.listen(run)
    if done is not None:
        if run.trial is not None:
            return run.monitor.close("probed", 0)
        directory.keep_job(run.store, run.job.to_toml())
        return completing.only_compare(run, done)

    with local.begin(run.job, spec, rows.rows_about) as begun:
        return _made(run, spec, rows, before=manifest, begun=begun)


def _made(
    run: Run, spec: Spec, rows: Corpus, *, before: Manifest | None, begun: Early | None
) -> Summary:
    """Make what is not there yet: `before` is the manifest of what is."""
    survey = preparing.take_survey(run, rows, spec)
    ledger, damaged = directory.open_ledger(run.store, before, run.shard)
    preparing.say_damage(run.monitor, ledger, damaged)
    if run.retry_rejects:
        ledger.rejects.clear()
    leaving = leaving_rejects(run, rows, survey, ledger, before=before)
    with naming(survey, ledger, rows), leaving:
        return _bought(run, spec, rows, survey, ledger, before=before, begun=begun)


def _bought(
    run: Run,
    spec: Spec,
    rows: Corpus,
    survey: Survey,
    ledger: Ledger,
    *,
    before: Manifest | None,
    begun: Early | None,
) -> Summary:
    """Send what is missing, and publish."""
    missing = preparing.lacking(run, ledger, survey)
    preparing.check_dropped(run, missing)
    sharing.check_shards(run, ledger, survey, missing, before)
    most = preparing.most_rejects(run, survey, missing)
    rows.unchanged()
    directory.keep_job(run.store, run.job.to_toml())
    if preparing.wants_batches(run, missing):
        feed = batch.lines(rows, survey, missing, preparing.reading(run.job), spec)
        plant = equipping.plant(run, spec, ledger, most_rejects=most, lane="batch")
        batch.embed(run.job, feed, plant, ledger, run.own)
        known, (ledger, _) = ledger, directory.open_ledger(run.store, before, run.shard)
        known.rejects = ledger.rejects  # what names rejects looks there
        missing = preparing.lacking(run, ledger, survey)
        preparing.check_leftovers(run, missing)
    packer = Packer(local.limits(run.job, spec))
    feed = CorpusFeed(rows, survey, missing, preparing.reading(run.job), packer)
    allowed = most - survey.lost - missing.rejected
    if run.trial is not None or run.shard is not None:
        if missing.to_send:
            plant = equipping.plant(run, spec, ledger, most_rejects=allowed, begun=begun)
            _embed(run, ledger, run.trial.watch(feed) if run.trial else feed, plant)
        run.summary.dimensions = ledger.dimensions or 0
        return sharing.end(run, ledger, missing) if run.shard else run.monitor.close("probed", 0)
    with completing.staging(run, spec, rows, survey, ledger) as staging:
        if missing.to_send:
            plant = equipping.plant(
                run, spec, ledger, most_rejects=allowed, begun=begun, staging=staging
            )
            _embed(run, ledger, feed, plant)
        rows.unchanged()
        run.still_ours()
        run.monitor.phase("publishing", survey.total)
        staged = staging.end(run.advance)
    if staged.rejected > most:
        raise over_tolerance(staged.reasons, most)
    gather(run)
    draft = completing.manifest_of(run, spec, _told(run, rows), ledger, staged=staged)
    draft = completing.compare_as_asked(run, draft, run.store.path(NEXT))
    run.still_ours()
    publish.finish(run.store, draft)
    return completing.complete(run, draft)


def _embed(run: Run, ledger: Ledger, feed: Feed, plant: local.Plant) -> None:
    """Send what is missing; whatever ends this, all that was answered is durable then."""
    run.monitor.phase("embedding", run.summary.to_send, "texts")
    with closing(ledger):
        local.embed(run.job, feed, plant)


def _told(run: Run, rows: Corpus) -> dict[str, Any]:
    """Return what a manifest says of a corpus."""
    return {"fingerprint": rows.fingerprint(), "id": run.job.table.id}
