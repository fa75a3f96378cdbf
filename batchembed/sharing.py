"""A run in shards: what one may spend and how it ends, and what a run of the whole looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from batchembed import costing, directory
from batchembed.directory import Agreement, Identity, agreed, check_number, claim_shard, holder
from batchembed.embed import Budget
from batchembed.errors import ActionNeededError, NotFinishedError, RunHeldError, UsageError
from batchembed.ledger import Bill, Ledger, Missing, has_submissions
from batchembed.lock import Hold
from batchembed.monitor import Summary
from batchembed.parts import Manifest
from batchembed.preparing import Run, corpus_of
from batchembed.prices import Price
from batchembed.shard import begun, owners
from batchembed.spec import Spec
from batchembed.store import Store
from batchembed.survey import Survey

DONE = "shard done"
ROWS_AT_ONCE = 1 << 16
NAMED = 10


def hold(run: Run) -> Hold:
    """Take the right to write, of a shard that to its part.

    Raises RunHeldError naming who has it; UsageError when that is a shard of another number.
    """
    try:
        return Hold(run.store.root, holder(run.clock, run.shard), run.shard)
    except RunHeldError:
        if run.shard is not None:
            check_number(run.store, run.shard)
        raise


def check_begun(store: Store) -> None:
    """Raise UsageError for a directory that there is nothing to merge in: no run began there."""
    if not directory.is_run(store):
        raise UsageError(
            f"`{store.root}` is not a run directory: there is nothing to merge",
            hint="give the --out of the shards",
        )


def is_done(run: Run, manifest: Manifest | None, corpus_told: Mapping[str, Any]) -> bool:
    """Return whether a complete run stands there for this very corpus, and no shard has more."""
    rejects_too = run.retry_rejects
    if not directory.is_done(run.store, manifest, corpus_told, but_for_rejects=rejects_too):
        return False
    return run.shard is not None or not directory.unmerged(run.store)


def claim(run: Run, identity: Identity) -> Agreement:
    """Take the place of the shard among the others; see `directory.claim_shard`."""
    assert run.shard is not None
    assert run.hold is not None
    return claim_shard(run.store, run.shard, identity, corpus_of(run.job), run.clock, hold=run.hold)


def budget(run: Run, spec: Spec, price: Price | None, ledger: Ledger) -> Budget | None:
    """Return what a run may cost, or what a shard may: its share of what the whole may.

    The bound holds for all shards together, whoever runs when: each has an equal part of what was
    left of it when the first began, and what a run of the whole paid since counts for each.
    """
    whole = costing.budget(run.job, spec, price, ledger.bill)
    there = run.agreed
    if whole is None or there is None:
        return whole
    paid = costing.cost_of(there.before, price).amount or 0
    before = paid + whole.price.of(there.before.unsure)
    share = before + (whole.most - before) / there.of
    return replace(whole, most=share, before=before, shards=there.of)


def at_once(run: Run) -> int:
    """Return how many processes share the limits a minute."""
    if run.shard is None:
        return 1
    return min(run.shard.of, run.job.limits.shards_at_once or run.shard.of)


def nothing_to_do(run: Run, manifest: Manifest) -> Summary:
    """Return the summary of a shard of a run that is complete."""
    run.summary.path, run.summary.rows = str(run.store.root), manifest.counts["rows"]
    run.summary.dimensions, run.summary.parts = manifest.dimensions, len(manifest.parts)
    return run.monitor.close(DONE, 0)


def end(run: Run, ledger: Ledger, missing: Missing) -> Summary:
    """Return the summary of a shard that has sent all that is its own."""
    summary, own = run.summary, ledger.own
    summary.path = str(run.store.root)
    summary.rejected = missing.rejected + sum(summary.reasons.values())
    summary.billed_tokens, summary.unsure_tokens = own.tokens, own.unsure
    return run.monitor.close(DONE, 3 if summary.rejected else 0)


def check_shards(
    run: Run, ledger: Ledger, survey: Survey, missing: Missing, before: Manifest | None
) -> None:
    """Look at what the shards have, before a run of the whole goes on with it.

    Raises NotFinishedError when one of them must be run again first, ActionNeededError when they
    were answered by different models, UsageError when a merge is of another corpus.
    """
    if run.shard is not None:
        return
    check_lane(run.store)
    _check_sizes(run, ledger, before)
    known = {*ledger.own.model_versions, *(before.model_versions if before else ())}
    if not known and run.job.limits.on_model_change == "stop":
        numbers = [number for number, _ in begun(run.store)]
        _check_versions(dict(zip(numbers, ledger.others, strict=True)))
    there, texts = agreed(run.store), f"{missing.to_send:,} texts"
    if not missing.to_send or run.trial or (there is None and not run.merging):
        return
    undone = f"{_are(_owing(survey, missing, there.of), of=there.of)} not done" if there else ""
    if not run.merging:
        run.monitor.say(f"note: {undone}; {texts} that are missing are sent from here")
        return
    if there and (why := there.another_corpus(corpus_of(run.job))) is not None:
        raise why
    raise NotFinishedError(
        f"{undone or 'no shard was begun'}: {texts} are missing",
        hint="run what is not done again, then merge; or run the job without --shard, which sends "
        "from here what is missing",
    )


def check_lane(store: Store) -> None:
    """Raise NotFinishedError when texts of a shard are on their way in the batch lane."""
    handed_in = [number for number, part in begun(store) if has_submissions(part)]
    if handed_in:
        raise NotFinishedError(
            f"{_are(handed_in)} not done: texts in the batch lane have not landed yet",
            hint="run it again until it is done, then this",
        )


def _check_sizes(run: Run, ledger: Ledger, before: Manifest | None) -> None:
    """Raise ActionNeededError when vectors have different sizes: only those of one are kept."""
    sizes: dict[int, list[str]] = {}
    whole = {before.numbers} if before else ledger.own.sizes
    for size in whole:
        sizes.setdefault(size, []).append("the run before")
    for (number, part), bill in zip(begun(run.store), ledger.others, strict=True):
        for size in bill.sizes:
            sizes.setdefault(size, []).append(f"shard {number} (`{part.root}`)")
    if len(sizes) > 1:
        told = "; ".join(
            f"`{size}`: {', '.join(who[:NAMED])}" for size, who in sorted(sizes.items())
        )
        raise ActionNeededError(
            f"the model answered shards with vectors of different sizes: {told}",
            hint="delete the folder of each shard that is wrong, whose texts are then paid for "
            "again, and run it again; or embed into a new directory",
        )


def _check_versions(bills: Mapping[int, Bill]) -> None:
    """Raise ActionNeededError when the first answers of shards were of different models."""
    answered: dict[str, list[int]] = {}
    for number, bill in bills.items():
        for version in bill.model_versions:
            answered.setdefault(version, []).append(number)
    if len(answered) > 1:
        told = ", ".join(f"`{name}`: {_named(who)}" for name, who in sorted(answered.items()))
        raise ActionNeededError(
            f"the model changed: shards have answers of different versions of it ({told})",
            hint="embed into a new directory, or let them stand side by side with "
            "--set limits.on_model_change=go_on",
        )


def _owing(survey: Survey, missing: Missing, of: int) -> list[int]:
    """Return the numbers of the shards that have texts to send."""
    owing: set[int] = set()
    for start in range(0, survey.total, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, survey.total)
        keys = survey.read(start, stop)[0][missing.mask(start, stop)]
        owing.update(np.unique(owners(keys, of)).tolist())
    return sorted(owing)


def _are(numbers: Sequence[int], *, of: int | None = None) -> str:
    """Return the names of some shards with `is` or `are`."""
    total = f" of {of}" if of else ""
    return f"{_named(numbers)}{total} {'is' if len(numbers) == 1 else 'are'}"


def _named(numbers: Sequence[int]) -> str:
    """Return the names of some shards, of many the first ten."""
    if len(numbers) == 1:
        return f"shard {numbers[0]}"
    shown, more = list(map(str, numbers[:NAMED])), len(numbers) - NAMED
    last = f"{more} more" if more > 0 else shown.pop()
    return f"shards {', '.join(shown)} and {last}"
