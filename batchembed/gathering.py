"""What the shards of a run did, told as one: what came over time, and how well limits were used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from batchembed.directory import HISTORY, PROGRESS, read_history
from batchembed.history import History, overlaid, to_json
from batchembed.preparing import Run
from batchembed.shard import begun
from batchembed.store import NEXT, Store


def gather(run: Run) -> None:
    """Keep what the shards did over time, and how well limits were used: their own is deleted."""
    parts = [part for _, part in begun(run.store)]
    if not parts:
        return
    executions = [one for part in parts for one in read_history(part)]
    told = to_json(History([*run.monitor.history.earlier, *overlaid(executions)]).earlier)
    with suppress(OSError):  # staged: it takes its place as their own is deleted, once
        run.store.put(f"{NEXT}/{HISTORY}", told)
    if not run.summary.sent:
        run.summary.pace = together(
            [_pace(part) for part in parts], at_once=run.job.limits.shards_at_once
        )


def _pace(part: Store) -> dict[str, Any]:
    """Return how well a shard used its limits, {} where nothing can be made of it."""
    try:
        pace = orjson.loads(part.read(PROGRESS))["pace"]
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return {}
    return pace if isinstance(pace, dict) else {}


def together(paces: Sequence[Mapping[str, Any]], *, at_once: int | None = None) -> dict[str, Any]:
    """Return how well the shards of a run used their limits together; {} when none sent anything.

    So many ran `at_once`, None: all of them. `waited` are seconds of all of them.
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
        "limits": _shared_out(paces, attempts) if shared_by else _added(paces, at_once),
        "binds": max(waited, key=lambda why: waited[why], default=""),
        "seconds_to_90": None if None in reached else max(reached),
        "waited": {why: round(spent, 3) for why, spent in sorted(waited.items())},
        "shared_by": shared_by,
    }


def _added(paces: Sequence[Mapping[str, Any]], at_once: int | None) -> dict[str, dict[str, Any]]:
    """Return limits of which each shard had a part of its own: those of so many add up."""
    limits: dict[str, dict[str, Any]] = {}
    for pace in paces:
        for name, use in pace["limits"].items():
            sums = limits.setdefault(name, {"limit": 0.0, "told_by": use["told_by"], "used": 0.0})
            sums["limit"] += use["limit"]
            sums["used"] += use["limit"] * use["used"]
    for sums in limits.values():
        sums["used"] = round(sums["used"] / sums["limit"], 4)
        sums["limit"] *= min(len(paces), at_once or len(paces)) / len(paces)
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
