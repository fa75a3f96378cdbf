"""The segments of a run directory, as files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from batchembed.exchange import Keys
from batchembed.segments import Frame, read_frames
from batchembed.shard import SHARDS, begun
from batchembed.spec import KEY_BYTES
from batchembed.store import BATCHES, CHECKPOINT, Store

KEYS_AT_ONCE = 8192


def segments(store: Store) -> list[Path]:
    """Return the segments of one store, in the order in which they were made."""
    names = [Path(name).name for name in store.names(CHECKPOINT)]
    return [store.path(CHECKPOINT) / n for n in names if re.fullmatch(r"\d+\.segment", n)]


def holds_anything(store: Store) -> bool:
    """Return whether any text has a vector or a reject; a bill alone binds to no spec."""
    stores = (store, *(part for _, part in begun(store)))
    frames = (frame for some in stores for path in segments(some) for frame in read_frames(path))
    return any(len(frame.keys) for frame in frames)


def size_of(store: Store) -> int | None:
    """Return how many numbers the first vector of a store has, None where there is none yet."""
    for path in segments(store):
        with suppress(FileNotFoundError):  # one that came to hold nothing is deleted
            for frame in read_frames(path):
                if frame.width:
                    return frame.width // 4
    return None


def has_submissions(store: Store) -> bool:
    """Return whether anything was handed in to a batch lane that has not landed yet."""
    return any(name.endswith(".json") for name in store.names(BATCHES))


def forget(store: Store) -> None:
    """Delete the segments, those of shards too: all they hold is published."""
    for path in segments(store):
        store.delete(f"{CHECKPOINT}/{path.name}")
    store.delete(SHARDS)


def together(frames: Iterator[Frame], width: int) -> Iterator[tuple[Keys, NDArray[np.int64]]]:
    """Yield (keys, file offsets of their vectors) of many frames at a time.

    The keys are copied: a view would keep the vectors of its frame in memory.
    """
    while some := list(_first_keys(frames)):
        joined = b"".join(keys for keys, _ in some)
        keys = np.frombuffer(joined, np.uint8).reshape(-1, KEY_BYTES)
        counts = [len(keys) // KEY_BYTES for keys, _ in some]
        starts = np.cumsum([0, *counts[:-1]])
        within = np.arange(len(keys)) - np.repeat(starts, counts)
        yield keys, np.repeat([offset for _, offset in some], counts) + within * width


def _first_keys(frames: Iterator[Frame]) -> Iterator[tuple[bytes, int]]:
    """Yield (keys, offset of the vectors) of the next frames, about `KEYS_AT_ONCE` keys in all."""
    count = 0
    for frame in frames:
        yield frame.keys.tobytes(), frame.offset
        count += len(frame.keys)
        if count >= KEYS_AT_ONCE:
            return
