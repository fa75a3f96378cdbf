"""The ledger joined with the corpus becomes parts in corpus order; the manifest comes last.

Theory of operation. Everything is first made under `checkpoint/next`, with the manifest that
will hold. From the moment that this staged manifest is there, publishing is a redo log: the
old manifest goes (the run counts as incomplete), the staged files take their names, the new
manifest is written, and what they replace is deleted. A crash at any point is finished by the
next run; no vector is ever only in a file that is about to be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import CorpusError, NotFinishedError
from batchembed.exchange import Keys, Reject, Vectors
from batchembed.ledger import NOWHERE, Ledger, Reader
from batchembed.parts import (
    EMBEDDINGS,
    KEY,
    MANIFEST,
    REJECTS,
    SIMILARITY,
    FileNote,
    Manifest,
    is_part,
    part_batch,
    part_name,
    part_schema,
)
from batchembed.spec import KEY_BYTES
from batchembed.store import Store, Writer

NEXT = "checkpoint/next"
PART_BYTES = 256 << 20
COMPARISONS = tuple(f"{SIMILARITY}/{kind}.arrow" for kind in ("top_k", "min_score", "dense"))
SCRATCH = "checkpoint/scratch"

Heard: TypeAlias = Callable[[int], None]
"""Told how many rows were done since it was last told."""


class Keyed(Protocol):
    """What publishing needs of a survey."""

    total: int

    def keys(self) -> Iterator[Keys]:
        """Yield the keys of all rows, in corpus order."""

    def read(self, start: int, stop: int) -> tuple[Keys, NDArray[np.uint8]]:
        """Return (keys, reason numbers) of some rows."""


class Table(Protocol):
    """What publishing needs of a corpus."""

    kept_schema: pa.Schema
    id_field: pa.Field

    def metadata(self) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
        """Yield (ids, kept columns) in corpus order."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the parts look like: dimensions, float32 or float16, and what their schema says."""

    dimensions: int
    dtype: str
    about: dict[str, Any]
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Staged:
    """The files of the coming publication, and counts over them."""

    parts: list[FileNote]
    rejects: FileNote | None
    rejected: int


def stage(
    corpus: Table, keyed: Keyed, ledger: Ledger, store: Store, *, form: Form, heard: Heard
) -> Staged:
    """Write all parts and the rejects under `checkpoint/next`; return what they are.

    Raises CorpusError when the corpus has other rows than in the pass before.
    """
    store.delete_folder(NEXT)
    schema = part_schema(corpus.kept_schema, form.dimensions, form.dtype, form.about)
    places = _Slices(ledger.locate(keyed.keys(), keyed.total, scratch=store.path(SCRATCH)))
    row = 0
    with (
        _PartFiles(schema, store) as parts,
        _RejectFile(corpus.id_field, store) as rejects,
        closing(Reader(ledger.sources(), form.dimensions)) as reader,
    ):
        for ids, kept in corpus.metadata():
            stop = row + len(kept)
            if stop > keyed.total:
                raise _changed(keyed.total)
            keys, reasons = keyed.read(row, stop)
            found = places.take(len(kept))
            has = found != NOWHERE
            parts.write(part_batch(schema, kept, _vectors(reader, found, form), has, keys))
            if not has.all():
                rejects.add(row, ids, _why(keys, form.reasons, reasons, ledger, ~has))
            row = stop
            heard(len(kept))
        if row != keyed.total:
            raise _changed(keyed.total)
    return Staged(parts.notes, rejects.note, rejects.rows)


def finish(store: Store, manifest: Manifest, ledger: Ledger) -> None:
    """Publish what is staged: from here on a crash is finished by `roll_forward`."""
    store.put(f"{NEXT}/{MANIFEST}", manifest.to_json())
    roll_forward(store)
    ledger.forget()


def roll_forward(store: Store) -> bool:
    """Finish a publication that was begun; return whether there was one."""
    try:
        staged = store.read(f"{NEXT}/{MANIFEST}")
    except FileNotFoundError:
        return False
    told = orjson.loads(staged)
    wanted = {note["name"] for note in (*told["parts"], *told["similarity"])}
    if told["rejects"]:
        wanted.add(REJECTS)
    store.delete(MANIFEST)
    store.sync_folder(store.root)
    for folder in (EMBEDDINGS, SIMILARITY, "."):
        for name in store.names(f"{NEXT}/{folder}"):
            final = str(PurePosixPath(name).relative_to(NEXT))
            if final != MANIFEST:
                store.rename(name, final)
    for name in (*filter(is_part, store.names(EMBEDDINGS)), *COMPARISONS, REJECTS):
        if name not in wanted:
            store.delete(name)
    store.put(MANIFEST, staged)
    store.delete_folder(NEXT)
    return True


def _vectors(reader: Reader, places: NDArray[np.int64], form: Form) -> Vectors:
    has = places != NOWHERE
    if has.all():
        return reader.read(places)
    vectors = np.zeros((len(places), form.dimensions), np.float32)
    vectors[has] = reader.read(places[has])
    return vectors


def _why(
    keys: Keys,
    names: Sequence[str],
    reasons: NDArray[np.uint8],
    ledger: Ledger,
    rejected: NDArray[np.bool_],
) -> dict[int, Reject]:
    """Return why each rejected row has no vector, by position."""
    why = {}
    for at in np.flatnonzero(rejected).tolist():
        key = keys[at].tobytes()
        if reasons[at]:
            why[at] = Reject(key, names[reasons[at]])
        elif key in ledger.rejects:
            why[at] = ledger.rejects[key]
        else:
            raise NotFinishedError(
                "a text has neither a vector nor a reject: part of the checkpoint is damaged",
                hint="run the same command again: what is missing is asked for again",
            )
    return why


def _changed(total: int) -> CorpusError:
    return CorpusError(
        f"the corpus had `{total}` rows when the run began, and has another number now",
        hint="let nothing write to it while it is read, then run the same command again",
    )


class _Slices:
    """Arrays one after the other, taken in slices of any length."""

    def __init__(self, arrays: Iterator[NDArray[np.int64]]) -> None:
        self._arrays = arrays
        self._rest = np.empty(0, np.int64)

    def take(self, count: int) -> NDArray[np.int64]:
        while len(self._rest) < count:
            self._rest = np.concatenate([self._rest, next(self._arrays)])
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken


class _File:
    """An Arrow file in the making, noted when it is complete."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.rows = 0
        self.writer: Writer = store.create(f"{NEXT}/{name}")
        self._arrow = pa.ipc.new_file(self.writer, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._arrow.write_batch(batch)
        self.rows += len(batch)

    def commit(self) -> FileNote:
        self._arrow.close()
        self.writer.commit()
        return FileNote(self.name, self.rows, self.writer.size, self.writer.sha256)

    def abandon(self) -> None:
        self.writer.__exit__(None, None, None)


class _PartFiles:
    """The parts, one after the other, each closed when it is large enough."""

    def __init__(self, schema: pa.Schema, store: Store) -> None:
        self._schema = schema
        self._store = store
        self._file: _File | None = None
        self.notes: list[FileNote] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._file is not None:
            self._file.abandon()
        elif kind is None:
            self._close()

    def write(self, batch: pa.RecordBatch) -> None:
        if self._file is None:
            name = part_name(len(self.notes))
            self._file = _File(self._store, name, self._schema)
        self._file.write(batch)
        if self._file.writer.size >= PART_BYTES:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self.notes.append(self._file.commit())
            self._file = None


class _RejectFile:
    """rejects.arrow, made when there is a reject."""

    def __init__(self, id_field: pa.Field, store: Store) -> None:
        self._store = store
        self._schema = pa.schema(
            [
                pa.field("row", pa.int64()),
                pa.field("id", id_field.type),
                pa.field("reason", pa.string()),
                pa.field("message", pa.string()),
                pa.field("status", pa.int32()),
                pa.field("request_id", pa.string()),
                pa.field(KEY, pa.binary(KEY_BYTES)),
            ]
        )
        self._file: _File | None = None
        self.note: FileNote | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._file is None:
            return
        if kind is not None:
            self._file.abandon()
        else:
            self.note = self._file.commit()

    def add(self, first: int, ids: pa.Array, why: dict[int, Reject]) -> None:
        rejects = list(why.values())
        columns = [
            pa.array([first + at for at in why], pa.int64()),
            ids.take(pa.array(list(why), pa.int64())),
            pa.array([r.reason for r in rejects], pa.string()),
            pa.array([r.message for r in rejects], pa.string()),
            pa.array([r.status or None for r in rejects], pa.int32()),
            pa.array([r.request_id for r in rejects], pa.string()),
            pa.array([r.key if any(r.key) else None for r in rejects], pa.binary(KEY_BYTES)),
        ]
        if self._file is None:
            self._file = _File(self._store, REJECTS, self._schema)
        self._file.write(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.rows += len(rejects)
