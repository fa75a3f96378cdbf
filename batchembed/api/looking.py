"""How far a run is: `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from batchembed import directory
from batchembed.errors import UsageError
from batchembed.lock import is_held
from batchembed.monitor import Progress, telling
from batchembed.parts import Manifest, read_manifest
from batchembed.shard import begun
from batchembed.sharing import DONE
from batchembed.store import CHECKPOINT, Store

SUMMED = (
    *("distinct", "reused", "to_send", "sent", "rejected", "requests", "tokens"),
    *("billed_tokens", "unsure_tokens", "cost"),
)


def status(path: Path | str) -> dict[str, Any]:
    """Return what is known of a run: its state, and its progress or what it came to.

    `state` is `complete`, `running`, or `stopped` (run it again to go on); a complete run that
    was to grow, and did not come to its end, is `stopped`. Of a run in shards that is not merged
    yet, `shards` has the numbers of those that are done, run, or stopped, and the progress is
    that of all of them together.
    """
    store = Store(Path(path))
    manifest = read_manifest(store)
    shards = _shards(store)
    running = is_held(store.root) or (shards is not None and bool(shards["running"]))
    progress = _progress(store) if shards is None else shards.pop("progress")
    if manifest is None and not progress and not directory.is_run(store):
        raise UsageError(f"`{path}` is not a run directory", hint="give the --out of a run")
    told: dict[str, Any] = {"path": str(path), "state": "stopped", "progress": progress}
    if shards is not None:
        told["shards"] = shards
    if running:
        told["state"] = "running"
    elif manifest is not None and not _is_growing(store, manifest, progress):
        told |= {
            "state": "complete",
            "counts": manifest.counts,
            "bill": manifest.bill,
            "pace": manifest.pace,
            "model": manifest.identity["spec"],
            "dimensions": manifest.dimensions,
            "parts": len(manifest.parts),
            "finished": manifest.finished,
            "outdated": directory.outdated(store),
        }
    return told


def _progress(store: Store) -> dict[str, Any]:
    """Return what was last said of the progress; {} where nothing can be made of it."""
    try:
        progress = orjson.loads(store.read(directory.PROGRESS))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return progress if isinstance(progress, dict) else {}


def _is_growing(store: Store, manifest: Manifest, progress: dict[str, Any]) -> bool:
    """Return whether a run began after the one that the manifest tells of, and did not end."""
    if any(name.endswith(".segment") for name in store.names(CHECKPOINT)) or _parts(store):
        return True
    # both are UTC to the second, so that their order is that of their letters
    return progress.get("state") != "complete" and str(progress.get("at", "")) > manifest.finished


def _parts(store: Store) -> dict[int, Store]:
    """Return the parts of shards that run or have begun to; not of those that found all done."""
    return {
        number: part
        for number, part in begun(store)
        if part.path(directory.PROGRESS).is_file() or is_held(part.root)
    }


def _shards(store: Store) -> dict[str, Any] | None:
    """Return how far the shards are; None when there are none."""
    parts = _parts(store)
    if not parts:
        return None
    there = directory.agreed(store)
    running = [number for number, part in parts.items() if is_held(part.root)]
    told = {number: _progress(part) for number, part in parts.items()}
    done = [n for n in parts if n not in running and told[n].get("state") == DONE]
    stopped = [number for number in parts if number not in running + done]
    of = there.of if there else len(parts)
    shards = {"of": of, "done": done, "running": running, "stopped": stopped}
    return shards | {"progress": _together(told, running)}


def _together(told: dict[int, dict[str, Any]], running: list[int]) -> dict[str, Any]:
    """Return the progress of all shards as one, in the words of one run."""
    every = list(told.values())
    sums = {name: sum(one.get(name) or 0 for one in every) for name in SUMMED}
    sums["currency"] = next((c for one in every if (c := one.get("currency"))), "")
    done, total = sums["reused"] + sums["sent"] + sums["rejected"], sums["distinct"]
    rate = sum(told[number].get("per_second") or 0.0 for number in running)
    waits = {number: told[number].get("waiting") for number in running}
    progress = Progress.read(
        sums
        | {
            "at": max((str(one.get("at", "")) for one in every), default=""),
            "phase": "embedding",
            "unit": "texts",
            "done": done,
            "total": total,
            "per_second": rate or None,
            "seconds_left": (total - done) / rate if rate else None,
        }
    )
    waiting = "; ".join(f"shard {number}: {why}" for number, why in waits.items() if why)
    return progress.told() | {"waiting": waiting, "line": telling.line(progress)}
