"""How far a run is: `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from batchembed import directory
from batchembed.errors import UsageError
from batchembed.lock import is_held
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
            "model": manifest.identity["spec"],
            "dimensions": manifest.dimensions,
            "parts": len(manifest.parts),
            "finished": manifest.finished,
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
    if any(name.endswith(".segment") for name in store.names(CHECKPOINT)) or any(begun(store)):
        return True
    # both are UTC to the second, so that their order is that of their letters
    return progress.get("state") != "complete" and str(progress.get("at", "")) > manifest.finished


def _shards(store: Store) -> dict[str, Any] | None:
    """Return how far the shards are; None when there are none."""
    parts = dict(begun(store))
    if not parts:
        return None
    there = directory.agreed(store)
    running = [number for number, part in parts.items() if is_held(part.root)]
    told = {number: _progress(part) for number, part in parts.items()}
    done = [n for n in parts if n not in running and told[n].get("state") == DONE]
    stopped = [number for number in parts if number not in running + done]
    of = there.of if there else len(parts)
    shards = {"of": of, "done": done, "running": running, "stopped": stopped}
    return shards | {"progress": _together(told, running, of)}


def _together(told: dict[int, dict[str, Any]], running: list[int], of: int) -> dict[str, Any]:
    """Return the progress of all shards as one."""
    progress: dict[str, Any] = {
        name: sum(one.get(name) or 0 for one in told.values()) for name in SUMMED
    }
    progress["at"] = max((str(one.get("at", "")) for one in told.values()), default="")
    progress["currency"] = next((c for one in told.values() if (c := one.get("currency"))), "")
    progress["waiting"] = "; ".join(
        f"shard {number}: {why}" for number in running if (why := told[number].get("waiting"))
    )
    rate = sum(told[n].get("sent", 0) / max(1e-9, told[n].get("seconds", 0.0)) for n in running)
    have = progress["reused"] + progress["sent"]
    share = 100 * have / max(1, progress["distinct"])
    line = f"{have}/{progress['distinct']} texts ({share:.0f} %)"
    line += f" of the {len(told)} shards that were begun" if len(told) < of else ""
    line += f", {rate:.0f} a second" if running else ""
    if progress["cost"]:
        line += f", {progress['cost']:,.4f} {progress['currency']} paid"
    progress["line"] = line
    return progress
