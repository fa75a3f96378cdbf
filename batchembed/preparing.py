"""A run before anything is sent: its settings, the survey of its corpus, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from batchembed import directory, providers
from batchembed.clock import Clock
from batchembed.corpus import Corpus
from batchembed.costing import check_bound
from batchembed.directory import Agreement, Identity
from batchembed.errors import (
    ActionNeededError,
    CorpusError,
    JobError,
    UsageError,
)
from batchembed.job import Job, RoleColumn, secret
from batchembed.ledger import Ledger, Missing, has_submissions
from batchembed.lock import Hold
from batchembed.monitor import Monitor, Summary
from batchembed.parts import EXTENT, VECTOR, FileNote, read_manifest
from batchembed.plan import Languages, Requests, Tally
from batchembed.plan.languages import LOOKED_AT
from batchembed.providers.presets.own import STATIC_MODEL
from batchembed.shard import Shard
from batchembed.spec import Keyer, Spec
from batchembed.store import SCRATCH, Store
from batchembed.survey import Reading, Seen, Survey, over_tolerance


@dataclass(slots=True)
class Trial:
    """A run of a few rows alone, which publishes nothing; `tally` counts what was asked."""

    rows: int
    tally: Tally | None = None

    def watch(self, feed: Requests) -> Tally:
        """Return the feed, counted."""
        self.tally = Tally(feed)
        return self.tally


@dataclass(frozen=True, slots=True)
class Run:
    """What every step of one run is given. `still_ours` raises when the run must not go on.

    `store` is the run directory. A `shard` sends what is its own alone, and publishes nothing;
    one that is `merging` sends nothing. `force`: also when that drops most of what is paid for.
    `hold` is this process's right to write, `agreed` what a shard and the others agree on.
    """

    job: Job
    store: Store
    monitor: Monitor
    environ: Mapping[str, str]
    clock: Clock
    still_ours: Callable[[], None] = lambda: None
    retry_rejects: bool = False
    trial: Trial | None = None
    shard: Shard | None = None
    merging: bool = False
    force: bool = False
    hold: Hold | None = None
    agreed: Agreement | None = None

    @property
    def own(self) -> Store:
        """Where this process keeps what is its own: the run directory, or a shard's part of it."""
        return self.shard.store(self.store) if self.shard else self.store

    @property
    def summary(self) -> Summary:
        """What the run came to so far."""
        return self.monitor.summary

    def advance(self, rows: int) -> None:
        """Say that so many more rows are done, if the run may go on."""
        self.still_ours()
        self.monitor.advance(rows)


def checked_spec(job: Job) -> Spec:
    """Return the spec of a job; raises JobError when a bound on cost could not be kept."""
    spec = job.spec()
    check_bound(job, spec)
    return spec


def identity(job: Job, spec: Spec) -> Identity:
    """Return what all vectors of a job have in common."""
    role = f"column {job.role.column}" if isinstance(job.role, RoleColumn) else job.role
    return Identity(spec, role, job.patterns, job.output.dtype)


def reading(job: Job) -> Reading:
    """Return how the rows of a job's corpus become texts to send."""
    return Reading(
        "symmetric" if isinstance(job.role, RoleColumn) else job.role,
        job.patterns,
        image=job.table.image,
        tokens=job.table.tokens,
        overlaps=job.model.provider == "aleph-alpha",
    )


def take_survey(run: Run, rows: Corpus, spec: Spec) -> Survey:
    """Read the corpus once: the key of every row, and what cannot be sent."""
    run.monitor.phase("reading", rows.rows_known)
    survey = Survey(run.own.path(SCRATCH))
    languages = languages_for(spec)
    survey.take(Seen(rows, languages.look), Keyer(spec), reading(run.job), run.advance)
    if (note := languages.note()) is not None:
        run.monitor.say(f"note: {note}")
    run.summary.rows = survey.total
    run.summary.reasons = {} if run.shard else dict(survey.unsendable)
    return survey


def languages_for(spec: Spec) -> Languages:
    """Return what looks for texts that the model does not know: of English alone is one."""
    english = spec.provider == "local" and spec.name == STATIC_MODEL
    return Languages(most=LOOKED_AT if english else 0)


def lacking(run: Run, ledger: Ledger, survey: Survey) -> Missing:
    """Return what the ledger lacks of the corpus, or of the texts of the shard."""
    keys, shard = survey.keys(), run.shard
    if shard is not None:
        keys = (shard.own(some) for some in keys)
    own = shard.owns if shard else None
    found = ledger.missing(keys, scratch=run.own.path(SCRATCH), of=own)
    return found if run.trial is None else found.few(run.trial.rows)


def most_rejects(run: Run, survey: Survey, missing: Missing) -> int:
    """Return how many rejects the job allows; raises when rows without text are more than that."""
    summary = run.summary
    summary.distinct, summary.reused = missing.distinct, missing.paid
    summary.to_send = missing.to_send
    most = run.job.limits.max_rejects.rows(survey.total)
    if survey.lost == survey.total:
        raise CorpusError(
            f"no row of the corpus has a text to embed (`{survey.total}` rows)",
            hint="check `corpus.text`",
        )
    reasons = dict(survey.unsendable)
    if missing.rejected:
        reasons["rejected before"] = missing.rejected
    if sum(reasons.values()) > most:
        raise over_tolerance(reasons, most)
    return most


def check_dropped(run: Run, missing: Missing) -> None:
    """Say how many texts that are paid for no row has any more.

    Raises UsageError where that is most of them and the job names another corpus than the last
    one: then it is the directory that is wrong, most likely.
    """
    dropped, kept = missing.dropped, missing.paid
    if not dropped:
        return
    told = f"{dropped:,} of {dropped + kept:,} texts that are paid for in `{run.store.root}`"
    if dropped > kept and not run.force and directory.last_corpus(run.store) != corpus_of(run.job):
        raise UsageError(
            f"another corpus: {told} are not in it, and their vectors would be dropped",
            hint="give another directory with --out; or, to drop them, --force",
        )
    if run.shard is None and run.trial is None:
        run.monitor.say(f"note: {told} are in no row any more; their vectors are dropped")


def corpus_of(job: Job) -> dict[str, Any]:
    """Return the [corpus] table of a job as it is kept."""
    return directory.corpus_of(job.to_toml())


def check_against(job: Job, spec: Spec) -> None:
    """Raise JobError when the run to compare with is not there, or of another spec."""
    if job.similarity is None or job.similarity.against is None:
        return
    other = read_manifest(Store(Path(job.similarity.against)))
    if other is None:
        raise JobError(
            f"`similarity.against`: `{job.similarity.against}` is not a complete run",
            hint="run its job first",
        )
    if other.identity["fingerprint"] != spec.fingerprint():
        raise JobError(
            f"`similarity.against`: `{job.similarity.against}` has vectors of another spec",
            hint="embed both with the same [model]; only `representation` may differ",
        )


def check_columns(job: Job, spec: Spec, rows: Corpus) -> None:
    """Raise unless the columns of vectors have names of their own, and those named are there.

    Layers that are counted from the end have their number only once the model has answered.
    """
    wanted = None if job.similarity is None else job.similarity.column
    if spec.outputs == 1:
        possible = [VECTOR]
    else:
        numbers = [r"\d+" if layer < 0 else str(layer) for layer in spec.layers]
        possible = [f"{VECTOR}_layer_{n}_{pooling}" for n in numbers for pooling in spec.pooling]
    shown = ", ".join(f"`{name}`" for name in possible).replace(r"\d+", "N")
    if job.similarity is not None and wanted is None and spec.outputs > 1:
        raise JobError(
            "`similarity.column` is missing: there will be several columns of vectors",
            hint=f"name one of {shown}",
        )
    if wanted is not None and not any(re.fullmatch(name, wanted) for name in possible):
        raise JobError(
            f"`similarity.column`: there will be no column of vectors `{wanted}`",
            hint=f"there will be {shown}",
        )
    for pattern in job.patterns:
        if pattern.column is not None and pattern.column not in rows.embedded:
            there = ", ".join(f"`{name}`" for name in rows.embedded)
            raise JobError(
                f"`model.controls` names the column `{pattern.column}`, which is not embedded",
                hint=f"these are: {there}; controls of prompts stand in their pieces",
            )
    taken = [*possible, EXTENT] if spec.on_long_text != "reject" else possible
    for name in rows.kept_schema.names:
        if any(re.fullmatch(other, name) for other in taken):
            raise CorpusError(
                f"the corpus has a column `{name}`, which is the name of a column of the output",
                hint="list the columns to carry over in `keep` under [corpus], without this one, "
                "or rename it",
            )


def provider_key(job: Job, spec: Spec, environ: Mapping[str, str]) -> str | None:
    """Return the provider's key; None where a server of one's own is asked without one.

    A key that belongs to one host is not sent to another unless the job names the key.
    """
    info, access = providers.info(spec.provider), job.access
    named = access.key_env or access.key_file or access.key_command
    if info.own_host_only and spec.base_url != info.base_url and not named:
        return None
    if not (info.key_needed or named or environ.get(info.key_variable or "", "").strip()):
        return None
    return secret(access, info.key_variable, environ=environ)


def key_reader(job: Job, spec: Spec, environ: Mapping[str, str]) -> Callable[[], str | None] | None:
    """Return what reads the provider's key anew, None where it comes from what cannot change.

    It raises ActionNeededError where there is none that could be one.
    """
    if not (job.access.key_file or job.access.key_command):
        return None
    return partial(provider_key, job, spec, environ)


def say_damage(monitor: Monitor, ledger: Ledger, damaged: list[FileNote]) -> None:
    """Say what of earlier runs cannot be used."""
    for note in damaged:
        monitor.say(f"warning: {note.name} is missing or damaged; its rows are made again")
    if ledger.damage.frames:
        monitor.say(
            f"warning: {ledger.damage.bytes} bytes of the checkpoint are damaged or cut off; "
            "what they held is asked for again"
        )


def wants_batches(run: Run, missing: Missing) -> bool:
    """Return whether there is anything for the batch lane: to hand in, or that was handed in."""
    handed_in = has_submissions(run.own)
    new = bool(missing.to_send) and run.job.access.lane == "batch" and run.trial is None
    return handed_in or new


def check_leftovers(run: Run, missing: Missing) -> None:
    """Say what a batch left over; raises where the job wants to end then."""
    left = missing.to_send
    if not left:
        return
    told = f"{left:,} texts have no answer from the batch lane"
    if run.job.access.leftovers == "stop":
        raise ActionNeededError(
            told,
            hint='send them online: --set access.lane="online" --set access.leftovers="online"',
        )
    run.monitor.say(f"note: {told}; they are sent online")
    run.summary.to_send = run.summary.sent + left
