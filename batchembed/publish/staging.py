"""The ledger joined with the corpus: parts in corpus order, and the rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import CorpusError, NotFinishedError
from batchembed.exchange import Keys, Reject, Vectors
from batchembed.ledger import NOWHERE, Ledger, Reader
from batchembed.parts import FileNote, part_batch, part_schema
from batchembed.publish.files import PartFiles, RejectFile
from batchembed.store import NEXT, SCRATCH, Store

VECTOR_BYTES = 8 << 20

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
    """What the parts look like: dimensions, float32 or float16, and what their schema says.

    `dimensions` is that of all vectors of a row together; `outputs` names those, if several.
    """

    dimensions: int
    dtype: str
    about: dict[str, Any]
    reasons: tuple[str, ...]
    part_rows: int
    outputs: tuple[str, ...] = ()


@dataclass(slots=True)
class Staged:
    """The files of the coming publication, and counts over them."""

    parts: list[FileNote]
    rejects: FileNote | None
    reasons: dict[str, int]

    @property
    def rejected(self) -> int:
        """How many rows have no vector."""
        return sum(self.reasons.values())


def stage(
    corpus: Table, keyed: Keyed, ledger: Ledger, store: Store, *, form: Form, heard: Heard
) -> Staged:
    """Write all parts and the rejects under `checkpoint/next`; return what they are.

    Raises CorpusError when the corpus has other rows than in the pass before.
    """
    store.delete(NEXT)
    try:
        return _staged(corpus, keyed, ledger, store, form=form, heard=heard)
    except BaseException:
        store.delete(NEXT)  # that the disk is full may be the reason
        raise


def _staged(
    corpus: Table, keyed: Keyed, ledger: Ledger, store: Store, *, form: Form, heard: Heard
) -> Staged:
    size = form.dimensions // max(1, len(form.outputs))
    schema = part_schema(corpus.kept_schema, size, form.dtype, form.about, outputs=form.outputs)
    places = _Slices(ledger.locate(keyed.keys(), keyed.total, scratch=store.path(SCRATCH)))
    row = 0
    with (
        PartFiles(schema, store, form.part_rows) as parts,
        RejectFile(corpus.id_field, store) as rejects,
        closing(Reader(ledger.sources(), form.dimensions)) as reader,
    ):
        for ids, kept in _cut(corpus, form, parts):
            stop = row + len(ids)
            if stop > keyed.total:
                raise _changed(keyed.total)
            keys, reasons = keyed.read(row, stop)
            found = places.take(len(ids))
            has = found != NOWHERE
            parts.write(part_batch(schema, kept, _vectors(reader, found, form), has, keys))
            if not has.all():
                rejects.add(row, ids, _why(keys, form.reasons, reasons, ledger, ~has))
            row = stop
            heard(len(ids))
        if row != keyed.total:
            raise _changed(keyed.total)
    return Staged(parts.notes, rejects.note, dict(sorted(rejects.reasons.items())))


def _cut(corpus: Table, form: Form, parts: PartFiles) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
    """Yield the corpus in batches whose vectors take little memory and that end with a part."""
    most = max(1, VECTOR_BYTES // (4 * form.dimensions))
    for ids, kept in corpus.metadata():
        start = 0
        while start < len(ids):
            count = min(most, parts.room, len(ids) - start)
            yield ids.slice(start, count), kept.slice(start, count)
            start += count


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
