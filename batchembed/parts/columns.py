"""The columns of a part: those of the corpus, the vector and its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import ActionNeededError
from batchembed.exchange import Keys, Vectors
from batchembed.extent import Extent
from batchembed.parts.manifest import EXTENT, KEY, vector_columns
from batchembed.spec import KEY_BYTES

EXTENTS = pa.struct([pa.field(name, pa.int64()) for name in Extent._fields])


def part_schema(
    kept: pa.Schema,
    dimensions: int,
    dtype: str,
    about: dict[str, Any],
    *,
    outputs: tuple[str, ...] = (),
    extents: bool = False,
) -> pa.Schema:
    """Return the schema of a part: the kept columns, then each row's vectors and its key.

    `dimensions` is that of one vector; `outputs` names them where they are several. With
    `extents`, the last column is what of a text that is too long its vector is of.
    """
    value = pa.float16() if dtype == "float16" else pa.float32()
    schema = kept
    for name in vector_columns(outputs):
        schema = schema.append(pa.field(name, pa.list_(pa.field("item", value), dimensions)))
    schema = schema.append(pa.field(KEY, pa.binary(KEY_BYTES)))
    if extents:
        schema = schema.append(pa.field(EXTENT, EXTENTS))
    metadata = {**(kept.metadata or {}), b"batchembed": orjson.dumps(about)}
    return schema.with_metadata(metadata)


def part_batch(
    schema: pa.Schema,
    kept: pa.RecordBatch,
    vectors: Vectors,
    has: NDArray[np.bool_],
    keys: Keys,
    *,
    extents: Mapping[bytes, Extent] | None = None,
) -> pa.RecordBatch:
    """Return a batch of a part. `vectors` is (n, d); where `has` (n,) is False the vector is null.

    They are cut into as many columns as the schema has for them. A key of zeros (a row without
    text) becomes null. `extents` are known by key, where the schema has them.

    Raises ActionNeededError for a number that the dtype cannot hold.
    """
    field_type = schema.field(len(kept.columns)).type
    has_key: NDArray[np.bool_] = np.any(keys, axis=1)
    values = vectors if field_type.value_type == pa.float32() else _halved(vectors)
    nulls = None if has.all() else pa.array(~has)
    size = field_type.list_size
    columns = [
        pa.FixedSizeListArray.from_arrays(
            pa.array(values[:, at : at + size].reshape(-1)), type=field_type, mask=nulls
        )
        for at in range(0, values.shape[1], size)
    ]
    columns.append(_key_column(keys, has_key))
    if schema.names[-1] == EXTENT:
        found = [extents.get(key.tobytes()) for key in keys] if extents else [None] * len(keys)
        told = [extent and extent._asdict() for extent in found]
        columns.append(pa.array(told, EXTENTS))
    return pa.RecordBatch.from_arrays([*kept.columns, *columns], schema=schema)


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
