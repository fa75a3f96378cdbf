"""The Arrow files that publishing writes: parts and rejects, each noted when it is complete."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Self

import pyarrow as pa

from batchembed.exchange import Reject
from batchembed.parts import KEY, REJECTS, FileNote, part_name
from batchembed.spec import KEY_BYTES
from batchembed.store import NEXT, Store, Writer

PART_BYTES = 256 << 20


class StagedFile:
    """An Arrow file in the making, noted when it is complete."""

    def __init__(self, store: Store, name: str, schema: pa.Schema) -> None:
        self.name = name
        self.rows = 0
        self.writer: Writer = store.create(f"{NEXT}/{name}")
        self._arrow = pa.ipc.new_file(self.writer, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        self._arrow.write_batch(batch)
        self.rows += len(batch)

    def commit(self) -> FileNote:
        """Complete the file durably and return what it is; if that fails, nothing is left of it."""
        with self.writer:
            self._arrow.close()
            self.writer.commit()
        return FileNote(self.name, self.rows, self.writer.size, self.writer.sha256)

    def abandon(self) -> None:
        """Remove what was written."""
        self.writer.__exit__(None, None, None)


class PartFiles:
    """The parts, one after the other, each closed when it is large enough.

    An Arrow file holds one dictionary a column, so rows with other dictionaries begin a part.
    """

    def __init__(self, schema: pa.Schema, store: Store, most_rows: int) -> None:
        self._most_rows = most_rows
        self._schema = schema
        self._store = store
        self._file: StagedFile | None = None
        self._dictionaries: list[pa.Array] = []
        self.notes: list[FileNote] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._file is not None:
            self._file.abandon()
        elif kind is None:
            self._close()

    @property
    def room(self) -> int:
        """How many rows the current part still takes."""
        return self._most_rows - (self._file.rows if self._file else 0)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch to the part, and close that when it is large enough."""
        dictionaries = [d for column in batch.columns for d in _dictionaries(column)]
        if not all(map(pa.Array.equals, dictionaries, self._dictionaries)):
            self._close()
        self._dictionaries = dictionaries
        if self._file is None:
            name = part_name(len(self.notes))
            self._file = StagedFile(self._store, name, self._schema)
        self._file.write(batch)
        if self._file.writer.size >= PART_BYTES or not self.room:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self.notes.append(self._file.commit())
            self._file = None


def _dictionaries(array: pa.Array) -> Iterator[pa.Array]:
    """Yield the dictionaries in an array, at whatever depth, in the order of its type."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        yield from _dictionaries(array.storage)
    elif pa.types.is_dictionary(kind):
        yield array.dictionary
        yield from _dictionaries(array.dictionary)
    elif pa.types.is_struct(kind) or pa.types.is_union(kind):
        for number in range(kind.num_fields):
            yield from _dictionaries(array.field(number))
    elif pa.types.is_nested(kind):
        yield from _dictionaries(array.values)


class RejectFile:
    """rejects.arrow, made when there is a reject. Ids of a dictionary are written out."""

    def __init__(self, id_field: pa.Field, store: Store) -> None:
        self._store = store
        kind = id_field.type
        self._id_type = kind.value_type if pa.types.is_dictionary(kind) else kind
        self._schema = pa.schema(
            [
                pa.field("row", pa.int64()),
                pa.field("id", self._id_type),
                pa.field("reason", pa.string()),
                pa.field("message", pa.string()),
                pa.field("status", pa.int32()),
                pa.field("request_id", pa.string()),
                pa.field(KEY, pa.binary(KEY_BYTES)),
            ]
        )
        self._file: StagedFile | None = None
        self.note: FileNote | None = None
        self.reasons: Counter[str] = Counter()

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
        """Append rejects by their position in a batch whose first row is `first`."""
        rejects = list(why.values())
        columns = [
            pa.array([first + at for at in why], pa.int64()),
            ids.take(pa.array(list(why), pa.int64())).cast(self._id_type),
            pa.array([r.reason for r in rejects], pa.string()),
            pa.array([r.message for r in rejects], pa.string()),
            pa.array([r.status or None for r in rejects], pa.int32()),
            pa.array([r.request_id for r in rejects], pa.string()),
            pa.array([r.key if any(r.key) else None for r in rejects], pa.binary(KEY_BYTES)),
        ]
        if self._file is None:
            self._file = StagedFile(self._store, REJECTS, self._schema)
        self._file.write(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.reasons.update(reject.reason for reject in rejects)
