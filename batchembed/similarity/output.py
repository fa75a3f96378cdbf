"""The Arrow forms of scores: schemas, metadata, and batches whose cut depends on no setting."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchembed.similarity.neighbors import Joined
from batchembed.similarity.products import Floats, Positions
from batchembed.similarity.settings import METADATA_KEY
from batchembed.similarity.vectors import Surveyed, Vectors, ids_digest

PAIRS_IN_BATCH = 1 << 16
_NEIGHBORS_IN_BATCH = 1 << 19
_ID_BYTES = 1 << 28

Pairs = tuple[Positions, Positions, Floats]


def metadata(told: dict[str, Any], left: Surveyed, right: Surveyed | None) -> dict[bytes, bytes]:
    """Return schema metadata: one key whose value is JSON, equal for equal comparisons."""
    sides = {"left": left} if right is None else {"left": left, "right": right}
    told = told | {
        "vectors": {name: found.digest for name, (_, found) in sides.items()},
        "ids": {name: ids_digest(side.ids, side.rows) for name, (side, _) in sides.items()},
        "rows": {name: side.rows for name, (side, _) in sides.items()},
        "left_out": {name: {"null": s.null, "zero": s.zero} for name, (_, s) in sides.items()},
    }
    return {METADATA_KEY: json.dumps(told, sort_keys=True, ensure_ascii=False).encode()}


def neighbors_schema(left: pa.DataType, right: pa.DataType, about: dict[bytes, bytes]) -> pa.Schema:
    """Return `id`, `neighbors`: null for a row without a vector, else best first."""
    neighbor = pa.struct([("id", right), ("score", pa.float32())])
    return pa.schema([("id", left), ("neighbors", pa.list_(neighbor))], metadata=about)


def pairs_schema(left: pa.DataType, right: pa.DataType, about: dict[bytes, bytes]) -> pa.Schema:
    """Return `left_id`, `right_id`, `score`."""
    return pa.schema(
        [("left_id", left), ("right_id", right), ("score", pa.float32())], metadata=about
    )


def dense_schema(
    left: pa.DataType, columns: int, value: pa.DataType, about: dict[bytes, bytes]
) -> pa.Schema:
    """Return `id`, `scores`: one score for each row of the right side."""
    return pa.schema([("id", left), ("scores", pa.list_(value, columns))], metadata=about)


def neighbors_batches(
    schema: pa.Schema, joined: Joined, left: Surveyed, right: Surveyed
) -> Iterator[pa.RecordBatch]:
    """Yield one row for each row of the left side, in corpus order."""
    ids, kept, others = left[0].ids, left[1].kept, right[0].ids
    step = _fitting(others, max(1, _NEIGHBORS_IN_BATCH // joined.k), joined.k)
    for start in range(0, len(ids), step):
        part = ids.slice(start, step)
        low, high = np.searchsorted(kept, (start, start + len(part)))
        found = list(joined.expand(np.arange(low, high)))
        rows = right[1].kept[_joined([positions for _, positions, _ in found])]
        scores = _joined([scores for _, _, scores in found]).astype(np.float32)
        there = np.zeros(len(part), np.bool_)
        there[kept[low:high] - start] = True
        counts = np.zeros(len(part), np.int64)
        counts[there] = _joined([counts for counts, _, _ in found])
        neighbors = [others.take(pa.array(rows)), pa.array(scores)]
        lists = _lists(schema.field("neighbors").type, counts, there, neighbors)
        yield pa.record_batch([part, lists], schema=schema)


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _lists(
    kind: pa.DataType,
    counts: NDArray[np.int64],
    there: NDArray[np.bool_],
    neighbors: list[pa.Array],
) -> pa.Array:
    values = pa.StructArray.from_arrays(neighbors, fields=list(kind.value_type))
    offsets = np.zeros(counts.size + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    mask = None if there.all() else pa.array(~there)
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=kind, mask=mask)


def pairs_batches(
    schema: pa.Schema, found: Iterable[Pairs], left: Vectors, right: Vectors
) -> Iterator[pa.RecordBatch]:
    """Yield pairs of rows in the order found, a fixed number a batch."""
    names = left.ids, right.ids
    size = min(_fitting(ids, PAIRS_IN_BATCH, 1) for ids in names)
    for rows, columns, scores in _even(found, size):
        ids = [names[0].take(pa.array(rows)), names[1].take(pa.array(columns))]
        yield pa.record_batch([*ids, pa.array(scores)], schema=schema)


def _even(found: Iterable[Pairs], size: int) -> Iterator[Pairs]:
    """Cut and join runs of pairs so that all but the last hold `size`."""
    waiting: list[Pairs] = []
    for pairs in found:
        waiting.append(pairs)
        if sum(part[0].size for part in waiting) < size:
            continue
        rows, columns, scores = (np.concatenate(part) for part in zip(*waiting, strict=True))
        whole = rows.size - rows.size % size
        for start in range(0, whole, size):
            part = slice(start, start + size)
            yield rows[part], columns[part], scores[part]
        waiting = [(rows[whole:], columns[whole:], scores[whole:])]
    if sum(part[0].size for part in waiting):
        rows, columns, scores = (np.concatenate(part) for part in zip(*waiting, strict=True))
        yield rows, columns, scores


def write(sink: Any, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write an Arrow IPC file into `sink`, anything that `pa.ipc.new_file` takes."""
    with pa.ipc.new_file(sink, schema) as file:
        for batch in batches:
            file.write_batch(batch)


def _fitting(ids: pa.Array, rows: int, ids_in_row: int) -> int:
    """Return how many rows, at most `rows`, keep the ids of one batch far below 2 GB."""
    longest = 16
    if any(is_kind(ids.type) for is_kind in _VARIABLE):
        longest = max(longest, pc.max(pc.binary_length(ids)).as_py() or 0)
    return max(1, min(rows, _ID_BYTES // (longest * ids_in_row)))


_VARIABLE: tuple[Callable[[pa.DataType], bool], ...] = (
    pa.types.is_string,
    pa.types.is_binary,
    pa.types.is_large_string,
    pa.types.is_large_binary,
)
