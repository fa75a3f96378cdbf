"""A run after its last answer: the parts, the comparison, the manifest, the summary."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from batchembed import directory, metrics, publish
from batchembed.corpus import Corpus
from batchembed.costing import cost_of, price_of
from batchembed.directory import HISTORY, PROGRESS, read_history
from batchembed.errors import ActionNeededError
from batchembed.history import History
from batchembed.job import Job
from batchembed.ledger import Bill, Ledger
from batchembed.monitor import Listener, Summary
from batchembed.parts import (
    FORMAT,
    SIMILARITY,
    FileNote,
    Manifest,
    RunVectors,
    read_manifest,
    vector_columns,
)
from batchembed.preparing import Run, identity
from batchembed.prices import Price
from batchembed.shard import SHARDS
from batchembed.spec import Spec
from batchembed.store import COMPARING, NEXT, TEMPORARY, Store
from batchembed.survey import REASONS, Survey
from batchembed.version import VERSION


def staging(
    run: Run,
    spec: Spec,
    rows: Corpus,
    survey: Survey,
    ledger: Ledger,
) -> publish.Ahead:
    """Begin to write parts and rejects where publishing will find them, as rows are settled."""
    assert ledger.places is not None, "known since the ledger was asked what is missing"
    sides = publish.Sides(rows, survey, ledger.places, ledger, run.still_ours)
    form = partial(_form, run, spec, ledger)
    return publish.Ahead(sides, ledger.places, run.store, form=form)


def _form(run: Run, spec: Spec, ledger: Ledger) -> publish.Form:
    """Return what the parts look like, by what is known of the vectors by now."""
    if ledger.dimensions is None:
        raise ActionNeededError(
            "every text was rejected, there is nothing to publish", hint="see the reasons above"
        )
    about = {
        "version": VERSION,
        "provider": spec.provider,
        "model": spec.name,
        "model_versions": sorted(ledger.bill.model_versions),
        "representation": identity(run.job, spec).role,
        "dimensions": _dimensions(ledger),
        "normalized": spec.normalize,
        "fingerprint": spec.fingerprint(),
        "outputs": _outputs(spec, ledger),
    }
    return publish.Form(
        ledger.dimensions,
        run.job.output.dtype,
        about,
        REASONS,
        run.job.output.part_rows,
        ledger.outputs,
        extents=spec.on_long_text != "reject",
    )


def manifest_of(
    run: Run,
    spec: Spec,
    told: dict[str, Any],
    ledger: Ledger,
    *,
    staged: publish.Staged,
) -> Manifest:
    """Return the manifest over what is staged."""
    summary = run.summary
    summary.rejected, summary.reasons = staged.rejected, staged.reasons
    summary.long, summary.on_long_text = staged.long, spec.on_long_text
    by_shards = min(sum(bill.texts for bill in ledger.others), summary.reused)
    return Manifest(
        format=FORMAT,
        batchembed=VERSION,
        identity=identity(run.job, spec).told(),
        corpus=told,
        parts=tuple(staged.parts),
        rejects=staged.rejects,
        similarity=(),
        compared=None,
        counts={
            "rows": summary.rows,
            "distinct": summary.distinct,
            "embedded": summary.sent + by_shards,
            "reused": summary.reused - by_shards,
            "rejected": staged.rejected,
            **({"long": staged.long} if spec.on_long_text != "reject" else {}),
        },
        reasons=staged.reasons,
        bill=_told_bill(ledger.bill, price_of(run.job, spec)),
        dimensions=_dimensions(ledger),
        dtype=run.job.output.dtype,
        model_versions=tuple(sorted(ledger.bill.model_versions)),
        seconds=round(run.summary.seconds, 3),
        pace=summary.pace,
        finished=run.clock.now().isoformat(timespec="seconds"),
        outputs=ledger.outputs,
    )


def _dimensions(ledger: Ledger) -> int:
    """Return how many numbers one vector has; the ledger joins those of a row."""
    return (ledger.dimensions or 0) // max(1, len(ledger.outputs))


def _outputs(spec: Spec, ledger: Ledger) -> list[dict[str, Any]]:
    """Return what each column of vectors is: the layer as asked for and as the model counts it."""
    if not ledger.outputs:
        return []
    asked = [(layer, pooling) for layer in spec.layers for pooling in spec.pooling]
    columns = vector_columns(ledger.outputs)
    return [
        {"column": column, "output": output, "layer": layer, "pooling": pooling}
        for column, output, (layer, pooling) in zip(columns, ledger.outputs, asked, strict=True)
    ]


def _told_bill(bill: Bill, price: Price | None) -> dict[str, Any]:
    """Return a bill as the manifest tells it."""
    paid = cost_of(bill, price)
    return {
        "requests": bill.requests,
        "texts": bill.texts,
        "tokens": bill.tokens,
        "unsure": bill.unsure,
        "rates": bill.rates,
        "cost": None if paid.amount is None else float(paid.amount),
        "currency": paid.currency,
    }


def _wanted(job: Job) -> dict[str, Any] | None:
    """Return what a job wants compared, as the manifest tells it."""
    if job.similarity is None:
        return None
    told: dict[str, Any] = orjson.loads(orjson.dumps(job.similarity))
    if job.similarity.column is None:  # as it was told before there was such a setting
        del told["column"]
    if job.similarity.against is not None:  # other vectors there are another comparison
        other = read_manifest(Store(Path(job.similarity.against)))
        told["against_parts"] = [part.sha256 for part in other.parts] if other else []
    return told


def compare_as_asked(run: Run, draft: Manifest, folder: Path) -> Manifest:
    """Make the job's comparison from files in `folder`; return the manifest that names it."""
    wanted = run.job.similarity
    if wanted is None:
        before = read_manifest(run.store)
        for note in before.similarity if before else ():
            run.monitor.say(f"note: {note.name} is of the rows before, and is removed")
        return draft
    from batchembed.similarity import SimilaritySettings, compare, unless_damaged

    run.monitor.phase("comparing", None, "scores")
    column = wanted.column
    left = RunVectors(folder, draft, name=run.store.root.name, column=column)
    right = RunVectors(Path(wanted.against), column=column) if wanted.against else None
    settings = SimilaritySettings(
        wanted.top_k, wanted.min_score, wanted.dense, wanted.metric, wanted.dtype, wanted.force
    )
    name = f"{SIMILARITY}/{settings.kind}.arrow"
    part = f"{COMPARING}/part" if settings.dense else None

    def made(known: Path | None) -> FileNote:
        with run.store.create(f"{NEXT}/{name}", part=part) as writer:
            compared = compare(
                left,
                right,
                settings,
                write=writer,
                progress=run.monitor.reach,
                keep=run.store.path(COMPARING),
                known=known,
            )
            writer.commit()
        return FileNote(name, compared.left_rows, writer.size, writer.sha256)

    note = unless_damaged(made, run.store.path(name))
    return replace(draft, similarity=(note,), compared=_wanted(run.job))


def only_compare(run: Run, manifest: Manifest) -> Summary:
    """Return the summary of a run that is complete; make its comparison if that is another now."""
    summary = run.summary
    run.store.delete(SHARDS)  # of those that were begun, none has anything
    summary.rows, summary.distinct = manifest.counts["rows"], manifest.counts["distinct"]
    summary.reused = summary.distinct
    summary.rejected, summary.reasons = manifest.counts["rejected"], manifest.reasons
    summary.long, summary.on_long_text = manifest.counts.get("long", 0), run.job.model.on_long_text
    if not directory.is_compared(run.store, manifest, _wanted(run.job)):
        run.store.delete(NEXT)
        manifest = compare_as_asked(
            run, replace(manifest, similarity=(), compared=None), run.store.root
        )
        run.still_ours()
        publish.finish(run.store, manifest, keep_segments=True)
    return complete(run, manifest)


def complete(run: Run, manifest: Manifest) -> Summary:
    """Return what a complete run came to."""
    run.store.delete(COMPARING)
    summary = run.summary
    summary.path = str(run.store.root)
    summary.parts = len(manifest.parts)
    summary.output_bytes = sum(part.bytes for part in manifest.parts)
    summary.dimensions = manifest.dimensions
    summary.columns = list(manifest.columns) if len(manifest.columns) > 1 else []
    summary.similarity = [note.name for note in manifest.similarity]
    summary.outdated = directory.outdated(run.store)
    bill = Bill()
    bill.add(manifest.bill, ())
    paid = cost_of(bill, price_of(run.job, run.job.spec()))
    summary.billed_tokens, summary.unsure_tokens = bill.tokens, bill.unsure
    summary.cost = None if paid.amount is None else float(paid.amount)
    summary.currency = paid.currency
    return run.monitor.close("complete", 3 if summary.rejected else 0)


def listen(run: Run) -> None:
    """Let the monitor leave word in the run directory: the progress, and what was done when."""
    store, monitor = run.own, run.monitor
    monitor.summary.path = str(run.store.root)
    monitor.keep = lambda told: _replace(store, PROGRESS, orjson.dumps(told))
    monitor.history = History(read_history(store), keep=lambda told: _replace(store, HISTORY, told))
    monitor.listeners = _watchers(run)


def _watchers(run: Run) -> list[Listener]:
    """Return what lets other machines watch the run; raises UsageError where that cannot be."""
    wanted, spec = run.job.metrics, run.job.spec()
    if run.trial is not None:
        return []
    about = metrics.About(str(run.own.root), spec.provider, spec.name, run.clock.now().timestamp())
    watchers: list[Listener] = []
    if wanted.textfile is not None:
        path = Path(wanted.textfile)
        if run.shard is not None:  # each has its own, as each has its own label `run`
            path = path.with_stem(f"{path.stem}-{run.own.root.name}")
        watchers.append(metrics.Textfile(path, about, run.monitor.say))
    if wanted.opentelemetry:
        from batchembed.metrics.otel import OpenTelemetry

        watchers.append(OpenTelemetry(about, run.monitor.say))
    return watchers


def _replace(store: Store, name: str, told: bytes) -> None:
    """Write a file that is only looked at: not durable, and never the reason why a run ends."""
    temporary = store.path(name).with_name(TEMPORARY + Path(name).name)
    with suppress(OSError):
        temporary.write_bytes(told)
        temporary.rename(store.path(name))
