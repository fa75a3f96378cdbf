"""How many bytes the values of a column have, without writing them out."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_types = pa.types


def value_bytes(values: pa.Array) -> NDArray[np.int64]:
    """Return the bytes of each string or bytes value, 0 for null; 8 for any other type."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    kind = values.type
    if _types.is_dictionary(kind):
        found = pc.take(pa.array(value_bytes(values.dictionary)), values.indices)
    elif _types.is_string_view(kind) or _types.is_binary_view(kind):  # pyarrow cannot
        import polars as pl

        series = pl.Series(pl.from_arrow(values))
        lengths = series.str.len_bytes() if series.dtype == pl.String else series.bin.size()
        found = lengths.cast(pl.Int64).to_arrow()
    elif is_bytes(kind):
        found = pc.binary_length(values)
    else:
        return np.full(len(values), 8, np.int64)
    sizes: NDArray[np.int64] = pc.fill_null(found.cast(pa.int64()), 0).to_numpy()
    return sizes


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether values of this type are text or bytes of any length."""
    return bool(
        _types.is_string(kind)
        or _types.is_large_string(kind)
        or _types.is_binary(kind)
        or _types.is_large_binary(kind)
        or _types.is_string_view(kind)
        or _types.is_binary_view(kind)
    )
