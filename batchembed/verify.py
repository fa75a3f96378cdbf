"""Re-reading a run and naming what is not as promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.exchange import Keys
from batchembed.parts import (
    KEY,
    MANIFEST,
    VOUCHER,
    FileNote,
    Manifest,
    file_sha256,
    is_part,
)
from batchembed.seal import is_sealed, is_sealed_toml
from batchembed.store import Store

UNIT = 2e-3
SAME = 0.999


@dataclass(slots=True)
class Verified:
    """What was looked at and what was found; no `problems` means that all is as promised."""

    files: int = 0
    bytes: int = 0
    rows: int = 0
    vectors: int = 0
    aligned: int = 0
    problems: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    asked: int = 0
    cosine_least: float | None = None
    cosine_mean: float | None = None


def check_files(store: Store, manifest: Manifest, found: Verified) -> list[FileNote]:
    """Compare every file with the manifest, byte for byte; return the parts that are whole."""
    whole = []
    rejects = [manifest.rejects] if manifest.rejects else []
    for note in (*manifest.parts, *rejects, *manifest.similarity):
        found.files += 1
        path = store.path(note.name)
        if not path.is_file():
            found.problems.append(f"{note.name} is missing")
            continue
        size = path.stat().st_size
        found.bytes += size
        if size != note.bytes:
            found.problems.append(f"{note.name} has {size} bytes, not {note.bytes}")
        elif file_sha256(path) != note.sha256:
            found.problems.append(f"{note.name} has other bytes than were written (SHA-256)")
        elif note in manifest.parts:
            whole.append(note)
    known = {note.name for note in manifest.parts}
    found.ignored += [n for n in store.names("embeddings") if n not in known and is_part(n)]
    return whole


def check_papers(store: Store, papers: Sequence[str], found: Verified) -> None:
    """Check what describes the run: each of `papers` tells a SHA-256 of itself.

    A run of a version whose manifest does not is older than that, and taken as it is; its copy
    of the manifest is compared all the same.
    """
    manifest = store.read(MANIFEST)
    sealed = is_sealed(manifest)
    for name in papers:
        if not store.path(name).is_file():
            if name == papers[0]:
                found.problems.append(f"{name} is missing")
            continue
        raw = store.read(name)
        whole = is_sealed_toml(raw) if name.endswith(".toml") else is_sealed(raw)
        if (name == VOUCHER and raw != manifest) or (sealed and not whole):
            found.problems.append(f"{name} has other bytes than were written (SHA-256)")


def check_part(store: Store, note: FileNote, manifest: Manifest, found: Verified) -> None:
    """Check the vectors of a part: dimension, numbers, unit length where promised, null rows."""
    rows = 0
    normalized = manifest.identity["spec"].get("normalize", True)
    with pa.memory_map(str(store.path(note.name))) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            rows += len(batch)
            for name in manifest.columns:
                column = batch.column(batch.schema.get_field_index(name))
                if column.type.list_size != manifest.dimensions:
                    found.problems.append(f"{note.name} has vectors of {column.type.list_size}")
                    return
                found.vectors += len(batch) - column.null_count
                _numbers(column, note.name, found, normalized=normalized)
    found.rows += rows
    if rows != note.rows:
        found.problems.append(f"{note.name} has {rows} rows, not {note.rows}")


def _numbers(
    column: pa.FixedSizeListArray, name: str, found: Verified, *, normalized: bool
) -> None:
    values = column.values.to_numpy(zero_copy_only=False).reshape(len(column), -1)
    has = column.is_valid().to_numpy(zero_copy_only=False)
    squares = np.einsum("ij,ij->i", values, values, dtype=np.float64)[has]
    bad = ~(np.isfinite(squares) & (squares > 0))
    if bad.any():
        found.problems.append(f"{name} has {int(bad.sum())} vectors of NaN, infinity or zeros")
    off = np.abs(np.sqrt(squares[~bad]) - 1) > UNIT
    if normalized and off.any():
        found.problems.append(f"{name} has {int(off.sum())} vectors that are not of length 1")


def check_alignment(
    batches: Iterator[pa.RecordBatch],
    keys: Iterator[Keys],
    found: Verified,
    where: Callable[[int], str],
) -> None:
    """Compare the key of every row with the key of the corpus row of that number."""
    row = 0
    rest = np.empty((0, 16), np.uint8)
    for batch in batches:
        while len(rest) < len(batch) and (more := next(keys, None)) is not None:
            rest = np.concatenate([rest, more])
        column = batch.column(batch.schema.get_field_index(KEY))
        mine = keys_of(column)
        theirs, rest = rest[: len(batch)], rest[len(batch) :]
        if len(theirs) < len(batch):
            found.problems.append(f"the corpus has only {row + len(theirs)} rows")
            return
        wrong = np.flatnonzero((mine != theirs).any(axis=1))
        found.aligned += len(batch) - len(wrong)
        found.problems += [f"{where(row + at)} has the vector of another text" for at in wrong[:5]]
        row += len(batch)
    if len(rest) or next(keys, None) is not None:
        found.problems.append(f"the corpus has more than the {row} rows of the run")


def keys_of(column: pa.FixedSizeBinaryArray) -> NDArray[np.uint8]:
    """Return a key column as an array of shape (n, 16), zeros for null."""
    whole = np.frombuffer(column.buffers()[1], np.uint8)
    start = column.offset * 16
    keys = whole[start : start + len(column) * 16].reshape(-1, 16).copy()
    keys[~column.is_valid().to_numpy(zero_copy_only=False)] = 0
    return keys


def cosines(kept: NDArray[np.float32], again: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows of two arrays of shape (n, d)."""
    a, b = kept.astype(np.float64), again.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result: NDArray[np.float64] = (a * b).sum(axis=1) / np.maximum(lengths, 1e-300)
    return result
