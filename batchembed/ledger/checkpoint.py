"""What is paid for or rejected, under its key: appended at once, fsynced in groups, joined later.

Theory of operation. Every answer becomes one frame in this process's segment with one plain
write, so `kill -9` loses nothing that was answered. A thread fsyncs what was written since, at
most `SYNC_SECONDS` later, so a power cut loses at most that much. Nothing is kept in memory:
which rows of the corpus still lack a vector, and where the others have theirs, is a join of
keys on disk (`missing`), bucket by bucket, whatever the size of either side; where the answers
to come are put is noted beside it (`places`).

A *place* says where a vector is: the number of its source in the high 16 bits (segments and
published parts are sources), the offset of its first byte in the low 48.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchembed.exchange import Keys, Reject, RowNumbers, Vectors
from batchembed.extent import Extent, Piece
from batchembed.ledger import join
from batchembed.ledger.bill import Bill
from batchembed.ledger.files import segments, together
from batchembed.ledger.join import Missing
from batchembed.ledger.places import NOWHERE, SOURCE_BITS, Places, Source
from batchembed.ledger.sections import Sections, is_section
from batchembed.segments import REJECTS, Damage, read_frames, rejects_frame, vectors_frame
from batchembed.spec import KEY_BYTES
from batchembed.store import CHECKPOINT, Appender, Store

SYNC_SECONDS = 1.0


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


class Ledger:
    """The checkpoint of one run directory.

    `published` are sources of vectors besides the segments, and so are the segments of `beside`:
    those of the shards for a run of the whole, those of the run for a shard. `dimensions` is known
    when there are any, and `outputs`, the names of the vectors that each is joined of, where it is
    of several. `rejects` are in memory: a job allows only so many. `rate` is what a million tokens
    cost now, as it is noted with each answer; "" while nobody knows. `bill` is of all of them,
    `own` of this store's segments, `others` of those beside.
    """

    def __init__(
        self,
        store: Store,
        published: Iterable[Published] = (),
        *,
        dimensions: int | None = None,
        outputs: tuple[str, ...] = (),
        beside: Sequence[Store] = (),
    ) -> None:
        self.dimensions, self.outputs = dimensions, outputs
        self._store, self._beside = store, tuple(beside)
        self._published = list(published)
        self._appender: Appender | None = None
        self._name = ""
        self._worth = False  # whether the segment holds more than words about what is in flight
        self._at_risk = 0
        self._lock = threading.Lock()
        self._sync_error: OSError | None = None
        self._sync_failed = False
        self._stopping = threading.Event()
        self._written = threading.Event()
        self._syncer: threading.Thread | None = None
        self.rate = ""
        self.damage = Damage()
        self.rejects: dict[bytes, Reject] = {}
        self.sections = Sections()
        self.bill, self.own = Bill(), Bill()
        self.others: list[Bill] = []
        self.places: Places | None = None
        self._source = 0

    # -- writing ------------------------------------------------------------------------------

    def append(
        self,
        keys: Keys,
        vectors: Vectors,
        *,
        tokens: int,
        model_version: str,
        outputs: tuple[str, ...] = (),
        rows: RowNumbers | None = None,
        section_of: Piece | None = None,
        extent: Extent | None = None,
    ) -> None:
        """Keep an answer: `keys` (n, 16), `vectors` (n, d). Returns after a plain write.

        `rows`, (n,), says which rows of the corpus that `missing` was asked for they are of;
        `section_of`, of which text's section the vector is, and `extent` what it is of its own.

        Raises OSError when the disk does not take it, also one that an fsync met meanwhile.
        """
        note = self._priced({"tokens": tokens, "model_version": model_version})
        if outputs:
            note["outputs"] = self.outputs = outputs
        if section_of is not None:
            note |= {"section_of": section_of.text.hex(), "room": section_of.room}
            self.sections.add(section_of, keys[0].tobytes(), vectors, tokens)
        if extent is not None:
            note["extent"] = extent._asdict()
            self.sections.joined(keys[0].tobytes(), extent)
        end = self._write(vectors_frame(keys, vectors, note))
        self.dimensions = vectors.shape[1]
        self._count(len(keys), note)
        if rows is not None and self.places is not None:
            place = self._source << SOURCE_BITS | (end - 4 * vectors.size)
            self.places.note(rows, place, 4 * self.dimensions)

    def reject(self, rejects: list[Reject]) -> None:
        """Keep that these texts have no vector."""
        self._write(rejects_frame(rejects))
        self.rejects.update((reject.key, reject) for reject in rejects)

    def charge(self, tokens: int, unsure: int = 0) -> None:
        """Keep that tokens were billed and brought no vector, and that some may have been."""
        note = self._priced({"tokens": tokens} | ({"unsure": unsure} if unsure else {}))
        self._write(rejects_frame([], note))
        self._count(0, note)

    def risk(self, tokens: int) -> None:
        """Keep how many tokens may be in flight from now on; 0 when nothing is.

        What the last word of a process says was in flight when it was killed.
        """
        self._at_risk = tokens
        self._write(rejects_frame([], {"at_risk": tokens}), worth=False)

    def close(self) -> None:
        """Make everything durable and close the segment. Raises OSError if that fails.

        A segment that came to hold nothing is deleted.
        """
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
            if not (self._worth or self._at_risk):
                self._store.delete(self._name)
        self._raise_sync_error()

    def _count(self, texts: int, note: dict[str, Any]) -> None:
        self.bill.count(texts, note)
        self.own.count(texts, note)

    def _priced(self, note: dict[str, Any]) -> dict[str, Any]:
        return note | {"rate": self.rate} if self.rate else note

    def _write(self, buffers: list[bytes | memoryview], *, worth: bool = True) -> int:
        """Append a frame; return where it ends."""
        self._worth = self._worth or worth
        with self._lock:
            if self._appender is None:
                self._source = len(self.sources()) - 1
                self._name = self._next_name()
                self._appender = self._store.append(self._name)
                self._syncer = threading.Thread(target=self._sync_in_groups, daemon=True)
                self._syncer.start()
            self._appender.write(*buffers)
            end = self._appender.size
        if not self._written.is_set():
            self._written.set()
        self._raise_sync_error()  # after the write: what was answered is kept in any case
        return end

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

    # -- reading ------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the rejects, the bill and the dimension that earlier runs left in the segments."""
        self.others = [self._load(store) for store in self._beside]
        self.own = self._load(self._store)
        for bill in (*self.others, self.own):
            self.bill.join(bill)

    def _load(self, store: Store) -> Bill:
        """Read the segments of one store; return their bill."""
        bill = Bill()
        for path in segments(store):
            at_risk = 0
            for frame in read_frames(path, self.damage):
                if frame.kind == REJECTS:
                    self.rejects.update((r.key, r) for r in frame.rejects())
                    bill.count(0, frame.note)
                    at_risk = frame.note.get("at_risk", at_risk)
                else:
                    bill.sizes.add(frame.width // 4)
                    self.dimensions = self.dimensions or frame.width // 4
                    self.outputs = self.outputs or tuple(frame.note.get("outputs", ()))
                    bill.count(len(frame.keys), frame.note)
                    self.sections.heard(path, frame)
            bill.unsure += at_risk
        return bill

    def sources(self) -> list[Source]:
        """Return the files that places point into, by source number; last, this run's segment."""
        width = (self.dimensions or 0) * 4
        published = [Source(part.path, part.width, part.splits()) for part in self._published]
        own = [] if self._appender is not None else [self._store.path(self._next_name())]
        return published + [Source(path, width) for path in self._paths() + own]

    def entries(self) -> Iterator[tuple[Keys, NDArray[np.int64]]]:
        """Yield (keys, places) of everything that has a vector."""
        for number, part in enumerate(self._published):
            for keys, offsets in part.entries():
                yield keys, offsets | (number << SOURCE_BITS)
        for number, path in enumerate(self._paths(), len(self._published)):
            width = (self.dimensions or 0) * 4
            frames = (
                frame
                for frame in read_frames(path)
                if frame.kind != REJECTS and frame.width == width and not is_section(frame)
            )
            for keys, offsets in together(frames, width):
                yield keys, offsets | (number << SOURCE_BITS)

    def missing(
        self,
        corpus_keys: Iterable[Keys],
        *,
        scratch: Path,
        of: Callable[[Keys], NDArray[np.bool_]] | None = None,
    ) -> Missing:
        """Return which rows have no vector and no reject yet; see `join.missing`.

        With `of`, only keys count of which it says so. From then on `places` has the place of every
        row's vector, also of those to come.
        """
        known = np.frombuffer(b"".join(self.rejects), np.uint8).reshape(-1, KEY_BYTES)
        rejected = (known, np.full(len(known), NOWHERE))
        entries: join.Entries = itertools.chain(self.entries(), [rejected])
        if of is not None:
            chosen = ((keys, places, of(keys)) for keys, places in entries)
            entries = ((keys[own], places[own]) for keys, places, own in chosen)
        self.places = Places(scratch / "places")
        return join.missing(entries, corpus_keys, scratch=scratch, places=self.places)

    def _paths(self) -> list[Path]:
        """Return the segments, those of this store last."""
        return [path for store in (*self._beside, self._store) for path in segments(store)]

    def _next_name(self) -> str:
        paths = segments(self._store)
        last = int(paths[-1].stem) if paths else 0
        return f"{CHECKPOINT}/{last + 1:06d}.segment"
