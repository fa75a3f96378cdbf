"""A run in shards: what one may spend and how it ends, and what a run of the whole looks at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from batchembed import costing
from batchembed.directory import (
    HISTORY,
    PROGRESS,
    Agreement,
    Identity,
    agreed,
    check_number,
    claim_shard,
    holder,
    read_history,
)
from batchembed.embed import Budget
from batchembed.errors import ActionNeededError, NotFinishedError, RunHeldError
from batchembed.history import History, overlaid, to_json
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


def gather(run: Run) -> None:
    """Keep what the shards did over time, and how well limits were used: their own is deleted."""
    parts = [part for _, part in begun(run.store)]
    if not parts:
        return
    executions = [one for part in parts for one in read_history(part)]
    told = to_json(History([*run.monitor.history.earlier, *overlaid(executions)]).earlier)
    with suppress(OSError):
        run.store.put(HISTORY, told)
    if not run.summary.sent:
        run.summary.pace = together([_pace(part) for part in parts])


def _pace(part: Store) -> dict[str, Any]:
    """Return how well a shard used its limits, {} where nothing can be made of it."""
    try:
        pace = orjson.loads(part.read(PROGRESS))["pace"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    return pace if isinstance(pace, dict) else {}


def together(paces: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how well the shards of a run used their limits together; {} when none sent anything.

    `waited` are seconds of all of them.
    """
    paces = [pace for pace in paces if pace.get("attempts")]
    attempts = sum(pace["attempts"] for pace in paces)
    if not attempts:
        return {}
    waited: Counter[str] = Counter()
    for pace in paces:
        waited.update(pace["waited"])
    shared_by = max(pace.get("shared_by", 0) for pace in paces)
    reached = [pace["seconds_to_90"] for pace in paces]
    return {
        "attempts": attempts,
        **{
            name: round(sum(pace[name] * pace["attempts"] for pace in paces) / attempts, 6)
            for name in ("throttled", "failed")
        },
        "limits": _shared_out(paces, attempts) if shared_by else _added(paces),
        "binds": max(waited, key=lambda why: waited[why], default=""),
        "seconds_to_90": None if None in reached else max(reached),
        "waited": {why: round(spent, 3) for why, spent in sorted(waited.items())},
        "shared_by": shared_by,
    }


def _added(paces: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return limits of which each shard had a part of its own: they add up."""
    limits: dict[str, dict[str, Any]] = {}
    for pace in paces:
        for name, use in pace["limits"].items():
            sums = limits.setdefault(name, {"limit": 0.0, "told_by": use["told_by"], "used": 0.0})
            sums["limit"] += use["limit"]
            sums["used"] += use["limit"] * use["used"]
    for sums in limits.values():
        sums["used"] = round(sums["used"] / sums["limit"], 4)
    return limits


def _shared_out(paces: Sequence[Mapping[str, Any]], attempts: int) -> dict[str, dict[str, Any]]:
    """Return limits that a limiter shared out: of each shard's part, what all used of the whole."""
    limits: dict[str, dict[str, Any]] = {}
    for pace in paces:
        for name, use in pace["limits"].items():
            start = {"limit": 0.0, "told_by": use["told_by"], "used": 0.0}
            whole = limits.setdefault(name, start)
            whole["limit"] = max(whole["limit"], use["limit"])
            used = use.get("used_by_all", use["used"] * max(1, pace.get("shared_by", 0)))
            whole["used"] += used * pace["attempts"] / attempts
    for whole in limits.values():
        whole["used"] = round(whole["used"], 4)
    return limits
