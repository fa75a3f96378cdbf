"""How far a run is: `status`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import orjson

from batchembed import directory
from batchembed.errors import UsageError
from batchembed.parts import Manifest, read_manifest
from batchembed.store import CHECKPOINT, Store


def status(path: Path | str) -> dict[str, Any]:
    """Return what is known of a run: its state, and its progress or what it came to.

    `state` is `complete`, `running`, or `stopped` (run it again to go on); a complete run that
    was to grow, and did not come to its end, is `stopped`.
    """
    store = Store(Path(path))
    manifest = read_manifest(store)
    running = _is_held(store.root)
    progress = _progress(store)
    if manifest is None and not progress and not directory.is_run(store):
        raise UsageError(f"`{path}` is not a run directory", hint="give the --out of a run")
    told: dict[str, Any] = {"path": str(path), "state": "stopped", "progress": progress}
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
    if any(name.endswith(".segment") for name in store.names(CHECKPOINT)):
        return True
    # both are UTC to the second, so that their order is that of their letters
    return progress.get("state") != "complete" and str(progress.get("at", "")) > manifest.finished


def _is_held(path: Path) -> bool:
    try:
        file = os.open(path / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
