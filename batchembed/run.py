"""The whole story: a corpus in, the same table with vectors out, nothing paid for twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from batchembed import corpus, directory, providers, publish
from batchembed.clock import Clock, SystemClock
from batchembed.directory import PROGRESS, SCRATCH, Identity
from batchembed.embed import disk_error, too_many_rejects
from batchembed.engines import local
from batchembed.errors import ActionNeededError, JobError
from batchembed.exchange import Reject, Role
from batchembed.interrupts import raise_on_signal
from batchembed.job import Job, RoleColumn, secret
from batchembed.ledger import Ledger, Missing
from batchembed.monitor import Monitor, Summary
from batchembed.packing import Packer
from batchembed.parts import FORMAT, SIMILARITY, FileNote, Manifest, RunVectors
from batchembed.similarity import SimilaritySettings, compare
from batchembed.spec import Keyer, Spec
from batchembed.store import Hold, Store
from batchembed.survey import REASONS, CorpusFeed, Reading, Survey
from batchembed.version import VERSION


def run(
    job: Job,
    monitor: Monitor | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Summary:
    """Run a job, or continue it, and return what it came to.

    Raises UsageError before anything is sent, ActionNeededError when a person must act,
    NotFinishedError when the same call later will go on, InterruptedRunError after a signal.
    """
    clock, monitor = clock or SystemClock(), monitor or Monitor("quiet")
    store = Store(Path(job.output.path))
    hold = Hold(store.root, directory.holder(clock))
    monitor.keep = lambda told: _keep_progress(store, told)
    try:
        with raise_on_signal():
            return _story(_Run(job, store, monitor, environ or os.environ, clock))
    except OSError as error:
        raise disk_error(error) from error
    finally:
        store.delete_folder(SCRATCH)
        hold.release()


async def run_async(job: Job, monitor: Monitor | None = None) -> Summary:
    """Run a job from a loop of the caller's own; see `run`. Signals stay the caller's."""
    return await asyncio.to_thread(run, job, monitor)


@dataclass(frozen=True, slots=True)
class _Run:
    """What every step of one run is given."""

    job: Job
    store: Store
    monitor: Monitor
    environ: Mapping[str, str]
    clock: Clock

    @property
    def summary(self) -> Summary:
        return self.monitor.summary


def _story(run: _Run) -> Summary:
    """Tell the run from its beginning to its end."""
    spec = checked_spec(run.job)
    publish.roll_forward(run.store)
    manifest = directory.claim(run.store, _identity(run.job, spec), run.job.to_toml(), run.clock)
    rows = corpus.scan(run.job.corpus, scratch=run.store.path(SCRATCH))
    told = {"fingerprint": rows.fingerprint(), "id": run.job.table.id}
    if manifest is not None and directory.is_done(run.store, manifest, told):
        return _only_compare(run, manifest)

    survey = _survey(run, rows, spec)
    ledger, damaged = directory.open_ledger(run.store, manifest)
    _say_damage(run.monitor, ledger, damaged)
    missing = ledger.missing(survey.keys(), scratch=run.store.path(SCRATCH))
    most = _most_rejects(run, survey, missing)
    rows.unchanged()
    if missing.to_send:
        feed = CorpusFeed(
            rows, survey, missing, reading(run.job), Packer(local.limits(run.job, spec))
        )
        plant = local.Plant(
            spec=spec,
            key=provider_key(run.job, spec, run.environ),
            ledger=ledger,
            monitor=run.monitor,
            clock=run.clock,
            most_rejects=most - survey.lost,
            dimensions=ledger.dimensions,
        )
        run.monitor.phase("embedding", missing.to_send, "texts")
        with closing(ledger):
            local.embed(run.job, feed, plant)

    rows.unchanged()
    run.monitor.phase("publishing", survey.total)
    staged = _stage(run, spec, rows, survey, ledger)
    if staged.rejected > most:
        raise too_many_rejects(staged.rejected, most, Reject(b"", "see rejects", ""))
    draft = _manifest(run, spec, told, ledger, staged=staged, before=manifest)
    draft = _compare(run, draft, run.store.path(publish.NEXT))
    publish.finish(run.store, draft, ledger)
    return _complete(run, draft)


# -- before anything is sent --------------------------------------------------------------------


def checked_spec(job: Job) -> Spec:
    """Return the spec with the provider's defaults; raises JobError for what it cannot do."""
    spec = providers.defaults(job.spec())
    roles: tuple[Role, ...] = () if isinstance(job.role, RoleColumn) else (job.role,)
    providers.check(spec, roles=roles, controls=bool(job.patterns or job.table.controls))
    if job.limits.max_cost is not None and spec.provider != "local":
        raise JobError(
            f"`limits.max_cost` cannot be kept: no price is known for `{spec.name}`",
            hint="leave it out; prices come with the price table of a later version",
        )
    return spec


def _identity(job: Job, spec: Spec) -> Identity:
    role = f"column {job.role.column}" if isinstance(job.role, RoleColumn) else job.role
    return Identity(spec, role, job.patterns, job.output.dtype)


def reading(job: Job) -> Reading:
    """Return how the rows of a job's corpus become texts to send."""
    return Reading("symmetric" if isinstance(job.role, RoleColumn) else job.role, job.patterns)


def _survey(run: _Run, rows: corpus.Corpus, spec: Spec) -> Survey:
    run.monitor.phase("reading", rows.rows_known)
    survey = Survey(run.store.path(SCRATCH))
    survey.take(rows, Keyer(spec), reading(run.job), run.monitor.advance)
    run.summary.rows = survey.total
    run.summary.reasons = dict(survey.unsendable)
    return survey


def _most_rejects(run: _Run, survey: Survey, missing: Missing) -> int:
    """Return how many rejects the job allows; raises when rows without text are more than that."""
    summary = run.summary
    summary.distinct, summary.reused = missing.distinct, missing.paid
    summary.to_send = missing.to_send
    most = run.job.limits.max_rejects.rows(survey.total)
    if survey.lost > most:
        name = max(survey.unsendable, key=lambda reason: survey.unsendable[reason])
        raise too_many_rejects(survey.lost, most, Reject(b"", name))
    if not missing.distinct:
        raise ActionNeededError(
            f"no row of the corpus has a text to embed (`{survey.total}` rows)",
            hint="check `corpus.text`",
        )
    return most


def provider_key(job: Job, spec: Spec, environ: Mapping[str, str]) -> str | None:
    """Return the provider's key; None where a server of one's own is asked without one."""
    info, access = providers.info(spec.provider), job.access
    named = access.key_env or access.key_file or access.key_command
    own_server = spec.base_url != info.base_url
    if own_server and not named and (info.key_variable or "") not in environ:
        return None
    return secret(access, info.key_variable, environ=environ)


def _say_damage(monitor: Monitor, ledger: Ledger, damaged: list[Any]) -> None:
    for note in damaged:
        monitor.say(f"warning: {note.name} is missing or damaged; its rows are made again")
    if ledger.damage.frames:
        monitor.say(
            f"warning: {ledger.damage.bytes} bytes of the checkpoint are damaged or cut off; "
            "what they held is asked for again"
        )


# -- the end ------------------------------------------------------------------------------------


def _stage(
    run: _Run, spec: Spec, rows: corpus.Corpus, survey: Survey, ledger: Ledger
) -> publish.Staged:
    if ledger.dimensions is None:
        raise ActionNeededError(
            "every text was rejected, there is nothing to publish", hint="see the reasons above"
        )
    identity = _identity(run.job, spec)
    about = {
        "version": VERSION,
        "provider": spec.provider,
        "model": spec.name,
        "model_versions": sorted(ledger.bill.model_versions),
        "representation": identity.role,
        "dimensions": ledger.dimensions,
        "normalized": spec.normalize,
        "fingerprint": spec.fingerprint(),
    }
    form = publish.Form(ledger.dimensions, run.job.output.dtype, about, REASONS)
    return publish.stage(rows, survey, ledger, run.store, form=form, heard=run.monitor.advance)


def _manifest(
    run: _Run,
    spec: Spec,
    told: dict[str, Any],
    ledger: Ledger,
    *,
    staged: publish.Staged,
    before: Manifest | None,
) -> Manifest:
    summary, bill = run.summary, ledger.bill
    paid = before.bill if before else {"requests": 0, "texts": 0, "tokens": 0}
    versions = {*bill.model_versions, *(before.model_versions if before else ())}
    summary.rejected = staged.rejected
    return Manifest(
        format=FORMAT,
        batchembed=VERSION,
        identity=_identity(run.job, spec).told(),
        corpus=told,
        parts=tuple(staged.parts),
        rejects=staged.rejects,
        similarity=(),
        compared=None,
        counts={
            "rows": summary.rows,
            "distinct": summary.distinct,
            "embedded": summary.sent,
            "reused": summary.reused,
            "rejected": staged.rejected,
        },
        bill={name: paid[name] + getattr(bill, name) for name in ("requests", "texts", "tokens")},
        dimensions=ledger.dimensions or 0,
        dtype=run.job.output.dtype,
        model_versions=tuple(sorted(versions)),
        seconds=round(run.summary.seconds, 3),
        finished=run.clock.now().isoformat(timespec="seconds"),
    )


def _wanted(job: Job) -> dict[str, Any] | None:
    """Return what a job wants compared, as the manifest tells it."""
    return None if job.similarity is None else orjson.loads(orjson.dumps(job.similarity))


def _compare(run: _Run, draft: Manifest, folder: Path) -> Manifest:
    """Make the job's comparison from files in `folder`; return the manifest that names it."""
    wanted = run.job.similarity
    if wanted is None:
        return draft
    run.monitor.phase("comparing", None, "blocks")
    left = RunVectors(folder, draft, name=run.store.root.name)
    right = RunVectors(Path(wanted.against)) if wanted.against else None
    settings = SimilaritySettings(
        wanted.top_k, wanted.min_score, wanted.dense, wanted.metric, wanted.dtype
    )
    name = f"{SIMILARITY}/{settings.kind}.arrow"
    with run.store.create(f"{publish.NEXT}/{name}") as writer:
        compared = compare(left, right, settings, write=writer)
        writer.commit()
    note = FileNote(name, compared.left_rows, writer.size, writer.sha256)
    return replace(draft, similarity=(note,), compared=_wanted(run.job))


def _only_compare(run: _Run, manifest: Manifest) -> Summary:
    """Return the summary of a run that is complete; make its comparison if that is another now."""
    summary = run.summary
    summary.rows, summary.distinct = manifest.counts["rows"], manifest.counts["distinct"]
    summary.reused = summary.distinct
    summary.rejected = manifest.counts["rejected"]
    if not directory.is_compared(run.store, manifest, _wanted(run.job)):
        run.store.delete_folder(publish.NEXT)
        manifest = _compare(run, replace(manifest, similarity=(), compared=None), run.store.root)
        publish.finish(run.store, manifest, Ledger(run.store))
    return _complete(run, manifest)


def _complete(run: _Run, manifest: Manifest) -> Summary:
    summary = run.summary
    summary.path = str(run.store.root)
    summary.parts = len(manifest.parts)
    summary.dimensions = manifest.dimensions
    summary.similarity = [note.name for note in manifest.similarity]
    summary.billed_tokens = manifest.bill["tokens"]
    summary.cost = 0.0 if manifest.identity["spec"]["provider"] == "local" else None
    return run.monitor.close("complete", 3 if summary.rejected else 0)


def _keep_progress(store: Store, told: dict[str, Any]) -> None:
    """Leave word of the progress for `batchembed status`; never the reason why a run ends."""
    temporary = store.path(f"{PROGRESS}.new")
    with suppress(OSError):
        temporary.write_bytes(orjson.dumps(told))
        temporary.rename(store.path(PROGRESS))
