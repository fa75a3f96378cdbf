"""The columns of a part: those of the corpus, the vector and its key."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import ActionNeededError
from batchembed.exchange import Keys, Vectors
from batchembed.parts.manifest import KEY, VECTOR
from batchembed.spec import KEY_BYTES


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
            hint='write them as they are with `output.dtype = "float32"`: nothing is paid again',
        )
    return halves


def _key_column(keys: Keys, has: NDArray[np.bool_]) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(keys))
    bits = None
    if not has.all():
        bits = pa.py_buffer(np.packbits(has, bitorder="little"))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(KEY_BYTES), len(keys), [bits, buffer])
