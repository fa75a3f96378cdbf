"""The ledger joined with the corpus: parts in corpus order, and the rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import CorpusError, NotFinishedError, RunHeldError
from batchembed.exchange import Keys, Reject, Vectors
from batchembed.ledger import NOWHERE, Ledger, Reader
from batchembed.parts import FileNote, part_batch, part_schema
from batchembed.publish.files import PartFiles, RejectFile
from batchembed.store import NEXT, Store

VECTOR_BYTES = 8 << 20

Heard: TypeAlias = Callable[[int], None]
"""Told how many rows were done since it was last told."""


class Keyed(Protocol):
    """What publishing needs of a survey."""

    total: int

    def read(self, start: int, stop: int) -> tuple[Keys, NDArray[np.uint8]]:
        """Return (keys, reason numbers) of some rows."""


class Placed(Protocol):
    """What publishing needs to know of where vectors are."""

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the places of some rows, NOWHERE for those that have no vector."""


class Table(Protocol):
    """What publishing needs of a corpus."""

    kept_schema: pa.Schema
    id_field: pa.Field

    def metadata(self) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
        """Yield (ids, kept columns) in corpus order."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the parts look like: dimensions, float32 or float16, and what their schema says.

    `dimensions` is that of all vectors of a row together; `outputs` names those, if several. With
    `extents` the parts say what of a text that is too long its vector is of.
    """

    dimensions: int
    dtype: str
    about: dict[str, Any]
    reasons: tuple[str, ...]
    part_rows: int
    outputs: tuple[str, ...] = ()
    extents: bool = False


@dataclass(slots=True)
class Staged:
    """The files of the coming publication, and counts over them; `long` rows have an extent."""

    parts: list[FileNote]
    rejects: FileNote | None
    reasons: dict[str, int]
    long: int = 0

    @property
    def rejected(self) -> int:
        """How many rows have no vector."""
        return sum(self.reasons.values())


@dataclass(frozen=True, slots=True)
class Sides:
    """What is joined: the corpus, the keys of its rows, where their vectors are, and rejects.

    `still_ours` raises RunHeldError once the run directory is another run's.
    """

    corpus: Table
    keyed: Keyed
    places: Placed
    ledger: Ledger
    still_ours: Callable[[], None] = lambda: None


def stage(sides: Sides, store: Store, *, form: Form, heard: Heard) -> Staged:
    """Write all parts and the rejects under `checkpoint/next`; return what they are.

    Raises CorpusError when the corpus has other rows than in the pass before.
    """
    store.delete(NEXT)
    try:
        return _staged(sides, store, form=form, heard=heard)
    except BaseException:
        clear(sides, store)  # that the disk is full may be the reason
        raise


def stage_rejects(sides: Sides, store: Store, reasons: Sequence[str]) -> FileNote | None:
    """Write the rejects alone, as far as they are known; `reasons` name those of a survey."""
    store.delete(NEXT)
    row = 0
    with RejectFile(sides.corpus.id_field, store) as rejects:
        for ids, _ in sides.corpus.metadata():
            stop = row + len(ids)
            keys, numbers = sides.keyed.read(row, stop)
            without = sides.places.read(row, stop) == NOWHERE
            known = [key.tobytes() in sides.ledger.rejects for key in keys]
            lost = without & (np.array(known, bool) | (numbers > 0))
            if lost.any():
                rejects.add(row, ids, _why(keys, reasons, numbers, sides.ledger, lost))
            row = stop
    return rejects.note


def clear(sides: Sides, store: Store) -> None:
    """Remove what is staged, unless it is another run's by now."""
    try:
        sides.still_ours()
    except RunHeldError:
        return
    except NotFinishedError:  # cancelled, and still ours
        pass
    store.delete(NEXT)


def _staged(sides: Sides, store: Store, *, form: Form, heard: Heard) -> Staged:
    corpus, keyed, ledger = sides.corpus, sides.keyed, sides.ledger
    size = form.dimensions // max(1, len(form.outputs))
    schema = part_schema(
        corpus.kept_schema,
        size,
        form.dtype,
        form.about,
        outputs=form.outputs,
        extents=form.extents,
    )
    row, long, known = 0, 0, ledger.sections.extents
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
            found = sides.places.read(row, stop)
            has = found != NOWHERE
            vectors = _vectors(reader, found, form)
            batch = part_batch(schema, kept, vectors, has, keys, extents=known)
            parts.write(batch)
            long += len(batch) - batch.column(-1).null_count if form.extents else 0
            if not has.all():
                rejects.add(row, ids, _why(keys, form.reasons, reasons, ledger, ~has))
            row = stop
            heard(len(ids))
        if row != keyed.total:
            raise _changed(keyed.total)
    return Staged(parts.notes, rejects.note, dict(sorted(rejects.reasons.items())), long)


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
