"""Output files: the parts of the table with its vectors, rejects, and the manifest over them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import ActionNeededError, DamagedError, UsageError
from batchembed.exchange import Keys, Vectors
from batchembed.spec import KEY_BYTES
from batchembed.store import Store

FORMAT = 1
MANIFEST = "manifest.json"
EMBEDDINGS = "embeddings"
SIMILARITY = "similarity"
REJECTS = "rejects.arrow"
VECTOR, KEY = "embedding", "embedding_key"


@dataclass(frozen=True, slots=True)
class FileNote:
    """What the manifest says of one file."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a complete run directory holds. Its presence means that the run is complete."""

    format: int
    batchembed: str
    identity: dict[str, Any]
    corpus: dict[str, Any]
    parts: tuple[FileNote, ...]
    rejects: FileNote | None
    similarity: tuple[FileNote, ...]
    compared: dict[str, Any] | None
    counts: dict[str, int]
    bill: dict[str, Any]
    dimensions: int
    dtype: str
    model_versions: tuple[str, ...]
    seconds: float
    finished: str
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """Return the bytes of manifest.json."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read_manifest(store: Store) -> Manifest | None:
    """Return the manifest of a complete run, None when there is none.

    Raises UsageError for a newer format, DamagedError for a file that is not a manifest.
    """
    try:
        told = orjson.loads(store.read(MANIFEST))
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError as error:
        raise DamagedError(f"`{store.path(MANIFEST)}` is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise DamagedError(f"`{store.path(MANIFEST)}` is not a manifest, but JSON of another kind")
    check_format(told.get("format"), store.path(MANIFEST))
    try:
        return Manifest(
            **{
                **told,
                "parts": tuple(FileNote(**part) for part in told["parts"]),
                "rejects": FileNote(**told["rejects"]) if told["rejects"] else None,
                "similarity": tuple(FileNote(**file) for file in told["similarity"]),
                "model_versions": tuple(told["model_versions"]),
            }
        )
    except (TypeError, KeyError) as error:
        raise DamagedError(f"`{store.path(MANIFEST)}` is not a manifest: {error}") from error


def check_format(found: object, path: Path) -> None:
    """Raise UsageError when a run directory was written in a format we do not know."""
    if isinstance(found, int) and found > FORMAT:
        raise UsageError(
            f"`{path}` has format `{found}`, and this batchembed knows up to `{FORMAT}`",
            hint="use the batchembed that wrote it, or a newer one",
        )


def part_name(number: int) -> str:
    """Return the name of a part; parts are numbered from 0 in corpus order."""
    return f"{EMBEDDINGS}/part-{number:05d}.arrow"


def is_part(name: str) -> bool:
    """Return whether we give such names to parts."""
    return re.fullmatch(EMBEDDINGS + r"/part-\d{5,}\.arrow", name) is not None


def part_schema(kept: pa.Schema, dimensions: int, dtype: str, about: dict[str, Any]) -> pa.Schema:
    """Return the schema of a part: the kept columns, then the vector and its key."""
    value = pa.float16() if dtype == "float16" else pa.float32()
    schema = kept.append(pa.field(VECTOR, pa.list_(pa.field("item", value), dimensions)))
    schema = schema.append(pa.field(KEY, pa.binary(KEY_BYTES)))
    metadata = {**(kept.metadata or {}), b"batchembed": orjson.dumps(about)}
    return schema.with_metadata(metadata)


def part_batch(
    schema: pa.Schema, kept: pa.RecordBatch, vectors: Vectors, has: NDArray[np.bool_], keys: Keys
) -> pa.RecordBatch:
    """Return a batch of a part. `vectors` is (n, d); where `has` (n,) is False the vector is null.

    A key of zeros (a row without text) becomes null. Raises ActionNeededError for a number that
    the dtype cannot hold.
    """
    field_type = schema.field(VECTOR).type
    has_key: NDArray[np.bool_] = np.any(keys, axis=1)
    values = vectors if field_type.value_type == pa.float32() else _halved(vectors)
    nulls = None if has.all() else pa.array(~has)
    column = pa.FixedSizeListArray.from_arrays(
        pa.array(values.reshape(-1)), type=field_type, mask=nulls
    )
    return pa.RecordBatch.from_arrays(
        [*kept.columns, column, _key_column(keys, has_key)], schema=schema
    )


def _halved(vectors: Vectors) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        halves = vectors.astype(np.float16)
    if not np.isfinite(halves).all():
        raise ActionNeededError(
            f"a vector holds `{np.abs(vectors).max():g}`, and float16 ends at `65504`",
            hint='write them as they are with `output.dtype = "float32"`, into another directory',
        )
    return halves


def _key_column(keys: Keys, has: NDArray[np.bool_]) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(keys))
    bits = None
    if not has.all():
        bits = pa.py_buffer(np.packbits(has, bitorder="little"))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(KEY_BYTES), len(keys), [bits, buffer])


@dataclass(frozen=True, slots=True)
class PublishedPart:
    """A part as a source of vectors that are paid for. `width`: bytes of one vector."""

    path: Path
    width: int

    def entries(self) -> Iterator[tuple[Keys, NDArray[np.int64]]]:
        """Yield (keys, (n, 16); the file offset of each one's vector) for rows that have one."""
        with pa.memory_map(str(self.path)) as file:
            base = file.read_buffer(1).address  # of no bytes it would be 0
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                column = batch.column(batch.schema.get_field_index(VECTOR))
                keys = np.frombuffer(
                    batch.column(batch.schema.get_field_index(KEY)).buffers()[1], np.uint8
                )
                first = column.values.buffers()[1].address - base
                offsets = first + np.arange(len(batch), dtype=np.int64) * self.width
                chosen = column.is_valid().to_numpy(zero_copy_only=False)
                shaped = keys[: len(batch) * KEY_BYTES].reshape(-1, KEY_BYTES)
                yield shaped[chosen].copy(), offsets[chosen]


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
            whole.append(PublishedPart(path, width))
        else:
            damaged.append(note)
    return whole, damaged


class RunVectors:
    """A run as one side of a comparison: its ids and vectors, read by row range.

    `manifest` is that of files which are not published yet; None: the one in `root`. `name` is
    what the run is called in messages and files; by default, its folder.
    """

    def __init__(self, root: Path, manifest: Manifest | None = None, *, name: str = "") -> None:
        store = Store(root)
        manifest = manifest or read_manifest(store)
        if manifest is None:
            raise UsageError(
                f"`{root}` is not a complete run: it has no {MANIFEST}",
                hint="finish it with `batchembed run`, or give the folder of a finished run",
            )
        self.manifest = manifest
        self.name = name or root.name
        self.rows = sum(part.rows for part in manifest.parts)
        self.dimensions = manifest.dimensions
        self.role = str(manifest.identity["role"])
        self._batches: list[tuple[int, pa.RecordBatch]] = []
        start = 0
        for part in manifest.parts:
            reader = pa.ipc.open_file(pa.memory_map(str(store.path(part.name))))
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                self._batches.append((start, batch))
                start += len(batch)
        self._starts = np.array([start for start, _ in self._batches], np.int64)

    @cached_property
    def ids(self) -> pa.Array:
        """One id a row: the id column of the corpus, else the row number."""
        return self.column(self.manifest.corpus["id"])

    def column(self, name: str | None) -> pa.Array:
        """Return a column of the whole run; the row numbers for None."""
        if name is None:
            return pa.array(np.arange(self.rows, dtype=np.int64))
        columns = [batch.column(batch.schema.get_field_index(name)) for _, batch in self._batches]
        return pa.chunked_array(columns).combine_chunks() if columns else pa.nulls(0)

    def row(self, row: int) -> dict[str, Any]:
        """Return the columns of one row, but its vector and key."""
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        first, batch = self._batches[number]
        names = [name for name in batch.schema.names if name not in (VECTOR, KEY)]
        told: dict[str, Any] = batch.select(names).slice(row - first, 1).to_pylist()[0]
        return told

    def read(self, start: int, stop: int) -> tuple[Vectors, NDArray[np.bool_]]:
        """Return the vectors of the rows in [start, stop), (n, d), and which rows have one."""
        vectors = np.zeros((stop - start, self.dimensions), np.float32)
        has = np.zeros(stop - start, np.bool_)
        number = max(0, int(np.searchsorted(self._starts, start, side="right")) - 1)
        while number < len(self._batches) and self._batches[number][0] < stop:
            first, batch = self._batches[number]
            low, high = max(start, first), min(stop, first + len(batch))
            column = batch.column(batch.schema.get_field_index(VECTOR)).slice(
                low - first, high - low
            )
            values = column.values.to_numpy(zero_copy_only=False).reshape(-1, self.dimensions)
            offset = low - first
            vectors[low - start : high - start] = values[offset : offset + high - low]
            has[low - start : high - start] = column.is_valid().to_numpy(zero_copy_only=False)
            number += 1
        return vectors, has

    def close(self) -> None:
        """Let go of the files."""
        self._batches.clear()
