"""What is paid for or rejected, under its key: appended at once, fsynced in groups, joined later.

Theory of operation. Every answer becomes one frame in this process's segment with one plain
write, so `kill -9` loses nothing that was answered. A thread fsyncs what was written since, at
most `SYNC_SECONDS` later, so a power cut loses at most that much. Nothing is kept in memory:
which rows of the corpus still lack a vector, and where the others have theirs, are two joins
of keys on disk (`missing`, `locate`), bucket by bucket, whatever the size of either side.

A *place* says where a vector is: the number of its source in the high 16 bits (segments and
published parts are sources), the offset of its first byte in the low 48.
"""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchembed.exchange import Keys, Reject, Vectors
from batchembed.ledger import join
from batchembed.ledger.join import Missing
from batchembed.ledger.places import NOWHERE, SOURCE_BITS, Source
from batchembed.segments import REJECTS, Damage, Frame, read_frames, rejects_frame, vectors_frame
from batchembed.spec import KEY_BYTES
from batchembed.store import CHECKPOINT, Appender, Store

SYNC_SECONDS = 1.0
KEYS_AT_ONCE = 8192


class Published(Protocol):
    """A file of vectors that this run directory published before."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def width(self) -> int:
        """How many bytes one vector takes."""

    def entries(self) -> Iterator[tuple[Keys, NDArray[np.int64]]]:
        """Yield (keys, shape (n, 16); the file offset of each one's vector)."""

    def splits(self) -> NDArray[np.int64] | None:
        """Return where vectors that are cut into columns lie; see `places.Source`."""


@dataclass(slots=True)
class Bill:
    """What was paid, over all runs of this directory."""

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    model_versions: set[str] = field(default_factory=set)


class Ledger:
    """The checkpoint of one run directory.

    `published` are sources of vectors besides the segments; `dimensions` is known when there
    are any, and `outputs`, the names of the vectors that each is joined of, where it is of
    several. `rejects` are in memory: a job allows only so many.
    """

    def __init__(
        self,
        store: Store,
        published: Iterable[Published] = (),
        *,
        dimensions: int | None = None,
        outputs: tuple[str, ...] = (),
    ) -> None:
        self.dimensions, self.outputs = dimensions, outputs
        self._store = store
        self._published = list(published)
        self._appender: Appender | None = None
        self._lock = threading.Lock()
        self._sync_error: OSError | None = None
        self._sync_failed = False
        self._stopping = threading.Event()
        self._written = threading.Event()
        self._syncer: threading.Thread | None = None
        self.damage = Damage()
        self.rejects: dict[bytes, Reject] = {}
        self.bill = Bill()

    # -- writing ------------------------------------------------------------------------------

    def append(
        self,
        keys: Keys,
        vectors: Vectors,
        *,
        tokens: int,
        model_version: str,
        outputs: tuple[str, ...] = (),
    ) -> None:
        """Keep an answer: `keys` (n, 16), `vectors` (n, d). Returns after a plain write.

        Raises OSError when the disk does not take it, also one that an fsync met meanwhile.
        """
        note: dict[str, Any] = {"tokens": tokens, "model_version": model_version}
        if outputs:
            note["outputs"] = self.outputs = outputs
        self._write(vectors_frame(keys, vectors, note))
        self.dimensions = vectors.shape[1]
        self._count(len(keys), note)

    def reject(self, rejects: list[Reject]) -> None:
        """Keep that these texts have no vector."""
        self._write(rejects_frame(rejects))
        self.rejects.update((reject.key, reject) for reject in rejects)

    def close(self) -> None:
        """Make everything durable and close the segment. Raises OSError if that fails."""
        self._stopping.set()
        self._written.set()
        if self._syncer is not None:
            self._syncer.join()
        if self._appender is not None:
            appender, self._appender = self._appender, None
            try:
                if not self._sync_failed:
                    appender.sync()
            finally:
                appender.close()
        self._raise_sync_error()

    def holds_anything(self) -> bool:
        """Return whether there is any segment."""
        return bool(self._segment_names())

    def forget(self) -> None:
        """Delete the segments: all they hold is published."""
        for name in self._segment_names():
            self._store.delete(name)

    def _write(self, buffers: list[bytes | memoryview]) -> None:
        with self._lock:
            if self._appender is None:
                self._appender = self._store.append(self._next_name())
                self._syncer = threading.Thread(target=self._sync_in_groups, daemon=True)
                self._syncer.start()
            self._appender.write(*buffers)
        if not self._written.is_set():
            self._written.set()
        self._raise_sync_error()  # after the write: what was answered is kept in any case

    def _sync_in_groups(self) -> None:
        while self._written.wait() and not self._stopping.is_set():
            self._written.clear()
            try:
                assert self._appender is not None
                self._appender.sync()
            except OSError as error:
                self._sync_error, self._sync_failed = error, True
                return
            self._stopping.wait(SYNC_SECONDS)

    def _raise_sync_error(self) -> None:
        if self._sync_error is not None:
            error, self._sync_error = self._sync_error, None
            raise error

    def _count(self, texts: int, note: dict[str, Any]) -> None:
        self.bill.requests += 1
        self.bill.texts += texts
        self.bill.tokens += note.get("tokens", 0)
        if version := note.get("model_version"):
            self.bill.model_versions.add(version)

    # -- reading ------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the rejects, the bill and the dimension that earlier runs left in the segments."""
        for name in self._segment_names():
            for frame in read_frames(self._store.path(name), self.damage):
                if frame.kind == REJECTS:
                    self.rejects.update((r.key, r) for r in frame.rejects())
                else:
                    self.dimensions = self.dimensions or frame.width // 4
                    self.outputs = self.outputs or tuple(frame.note.get("outputs", ()))
                    self._count(len(frame.keys), frame.note)

    def sources(self) -> list[Source]:
        """Return the files that places point into, by source number."""
        width = (self.dimensions or 0) * 4
        published = [Source(part.path, part.width, part.splits()) for part in self._published]
        return published + [Source(self._store.path(n), width) for n in self._segment_names()]

    def entries(self) -> Iterator[tuple[Keys, NDArray[np.int64]]]:
        """Yield (keys, places) of everything that has a vector."""
        for number, part in enumerate(self._published):
            for keys, offsets in part.entries():
                yield keys, offsets | (number << SOURCE_BITS)
        for number, name in enumerate(self._segment_names(), len(self._published)):
            width = (self.dimensions or 0) * 4
            frames = (
                frame
                for frame in read_frames(self._store.path(name))
                if frame.kind != REJECTS and frame.width == width
            )
            for keys, offsets in _together(frames, width):
                yield keys, offsets | (number << SOURCE_BITS)

    def missing(self, corpus_keys: Iterable[Keys], *, scratch: Path | None = None) -> Missing:
        """Return which rows have no vector and no reject yet; see `join.missing`."""
        known = np.frombuffer(b"".join(self.rejects), np.uint8).reshape(-1, KEY_BYTES)
        rejected = (known, np.full(len(known), NOWHERE))
        entries = itertools.chain(self.entries(), [rejected])  # a vector outweighs a reject
        return join.missing(entries, corpus_keys, scratch=scratch)

    def locate(
        self, corpus_keys: Iterable[Keys], total: int, *, scratch: Path | None = None
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the place of every row's vector in corpus order; see `join.locate`."""
        return join.locate(self.entries(), corpus_keys, total, scratch=scratch)

    def _segment_names(self) -> list[str]:
        found = self._store.names(CHECKPOINT)
        return [n for n in found if re.fullmatch(r"\d+\.segment", Path(n).name)]

    def _next_name(self) -> str:
        names = self._segment_names()
        last = int(Path(names[-1]).stem) if names else 0
        return f"{CHECKPOINT}/{last + 1:06d}.segment"


def _together(frames: Iterator[Frame], width: int) -> Iterator[tuple[Keys, NDArray[np.int64]]]:
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
