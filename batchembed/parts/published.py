"""Published files as sources of what is paid for or rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.exchange import Keys, Reject
from batchembed.extent import Extent
from batchembed.parts.manifest import EXTENT, KEY, VECTOR, FileNote, Manifest
from batchembed.spec import KEY_BYTES
from batchembed.store import Store


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """A part as a source of vectors that are paid for.

    `columns` are those that hold them, `width` the bytes of one vector in one column.
    """

    path: Path
    width: int
    columns: tuple[str, ...] = (VECTOR,)

    def entries(self) -> Iterator[tuple[Keys, NDArray[np.int64]]]:
        """Yield (keys, (n, 16); the file offset of each one's vector) for rows that have one."""
        with pa.memory_map(str(self.path)) as file:
            base = file.read_buffer(1).address  # of no bytes it would be 0
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                column = batch.column(batch.schema.get_field_index(self.columns[0]))
                keys = np.frombuffer(
                    batch.column(batch.schema.get_field_index(KEY)).buffers()[1], np.uint8
                )
                first = column.values.buffers()[1].address - base
                offsets = first + np.arange(len(batch), dtype=np.int64) * self.width
                chosen = column.is_valid().to_numpy(zero_copy_only=False)
                shaped = keys[: len(batch) * KEY_BYTES].reshape(-1, KEY_BYTES)
                yield shaped[chosen].copy(), offsets[chosen]

    def splits(self) -> NDArray[np.int64] | None:
        """Return the offset at which each column of each batch begins; None for one column."""
        if len(self.columns) == 1:
            return None
        with pa.memory_map(str(self.path)) as file:
            base = file.read_buffer(1).address
            reader = pa.ipc.open_file(file)
            batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            starts = [
                [batch.column(name).values.buffers()[1].address - base for name in self.columns]
                for batch in batches
                if len(batch)
            ]
        return np.array(starts, np.int64).reshape(-1, len(self.columns))

    def extents(self) -> dict[bytes, Extent]:
        """Return what of its text a vector is of, by key, for texts that are too long."""
        found: dict[bytes, Extent] = {}
        with pa.memory_map(str(self.path)) as file:
            reader = pa.ipc.open_file(file)
            if reader.schema.names[-1] != EXTENT:  # else it is a column of the corpus
                return found
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number).select([KEY, EXTENT])
                for row in batch.filter(batch.column(1).is_valid()).to_pylist():
                    found[row[KEY]] = Extent(**row[EXTENT])
        return found


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def whole_parts(store: Store, manifest: Manifest) -> tuple[list[PublishedPart], list[FileNote]]:
    """Return the parts that are as the manifest says, and the notes of those that are not."""
    width = manifest.dimensions * (2 if manifest.dtype == "float16" else 4)
    whole, damaged = [], []
    for note in manifest.parts:
        path = store.path(note.name)
        if (
            path.is_file()
            and path.stat().st_size == note.bytes
            and file_sha256(path) == note.sha256
        ):
            whole.append(PublishedPart(path, width, manifest.columns))
        else:
            damaged.append(note)
    return whole, damaged


def known_rejects(store: Store, manifest: Manifest) -> list[Reject]:
    """Return the texts that a published run rejected, so that they are not sent again.

    A damaged file of them says nothing: they are tried anew.
    """
    note = manifest.rejects
    if note is None or not store.path(note.name).is_file():
        return []
    if file_sha256(store.path(note.name)) != note.sha256:
        return []
    with pa.memory_map(str(store.path(note.name))) as file:
        columns = ("embedding_key", "reason", "message", "status", "request_id")
        told = pa.ipc.open_file(file).read_all().select(columns).to_pylist()
    return [
        Reject(row[KEY], row["reason"], row["message"], row["status"] or 0, row["request_id"])
        for row in told
        if row[KEY] is not None
    ]
