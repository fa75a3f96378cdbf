"""How far a run is: `status`."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import orjson

from batchembed import directory
from batchembed.errors import UsageError
from batchembed.parts import read_manifest
from batchembed.store import Store


def status(path: Path | str) -> dict[str, Any]:
    """Return what is known of a run: its state, and its progress or what it came to.

    `state` is `complete`, `running`, or `stopped` (run it again to go on).
    """
    store = Store(Path(path))
    manifest = read_manifest(store)
    running = _is_held(store.root)
    try:
        progress = orjson.loads(store.read(directory.PROGRESS))
    except (FileNotFoundError, orjson.JSONDecodeError):
        progress = {}
    if manifest is None and not progress:
        raise UsageError(f"`{path}` is not a run directory", hint="give the --out of a run")
    told: dict[str, Any] = {"path": str(path), "state": "stopped", "progress": progress}
    if running:
        told["state"] = "running"
    elif manifest is not None:
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
