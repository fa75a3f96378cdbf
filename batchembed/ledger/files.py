"""The segments of a run directory, as files."""

from __future__ import annotations

import re
from pathlib import Path

from batchembed.segments import read_frames
from batchembed.shard import SHARDS, begun
from batchembed.store import CHECKPOINT, Store


def segments(store: Store) -> list[Path]:
    """Return the segments of one store, in the order in which they were made."""
    names = [Path(name).name for name in store.names(CHECKPOINT)]
    return [store.path(CHECKPOINT) / n for n in names if re.fullmatch(r"\d+\.segment", n)]


def holds_anything(store: Store) -> bool:
    """Return whether any text has a vector or a reject; a bill alone binds to no spec."""
    stores = (store, *(part for _, part in begun(store)))
    frames = (frame for some in stores for path in segments(some) for frame in read_frames(path))
    return any(len(frame.keys) for frame in frames)


def forget(store: Store) -> None:
    """Delete the segments, those of shards too: all they hold is published."""
    for path in segments(store):
        store.delete(f"{CHECKPOINT}/{path.name}")
    store.delete(SHARDS)
