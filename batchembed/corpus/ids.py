"""Ids must name one row each: found out in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from batchembed.buckets import Buckets
from batchembed.corpus.columns import Columns
from batchembed.corpus.files import CorpusFile
from batchembed.corpus.sizes import is_bytes
from batchembed.corpus.texts import plain, plain_type
from batchembed.errors import CorpusError

_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: no two numbers become one
_SEEN = np.dtype([("hash", "<u8"), ("row", "<i8")])
_MOST_PAIRS = 1000
_IN_MEMORY = 1 << 18  # rows of 16 bytes; more go to scratch files


def check_type(columns: Columns, schema: pa.Schema, file: CorpusFile) -> None:
    """Raise CorpusError unless the id column holds text, bytes, whole numbers or decimals."""
    if columns.id is None:
        return
    kind = plain_type(schema.field(columns.id).type)
    types = pa.types
    allowed = (types.is_integer, types.is_decimal, types.is_fixed_size_binary, types.is_null)
    if not (is_bytes(kind) or any(allow(kind) for allow in allowed)):
        raise CorpusError(
            f"column `{columns.id}` of `{file.path}` is {kind}, which cannot be an id",
            hint="ids are text, bytes, whole numbers or decimals; without `corpus.id` the row "
            "number is the id",
        )


class IdCheck:
    """Collects the hashes of all ids, and tells which rows may have the same one.

    The hash is Python's own, of this process: it is never stored.
    """

    def __init__(self, scratch: Path | None) -> None:
        self._buckets = Buckets(_SEEN, scratch=scratch, in_memory=_IN_MEMORY)

    def add(self, ids: pa.Array, first: int) -> None:
        """Add the ids of some rows, of which `first` is the number of the first one."""
        values = plain(ids).to_pylist()
        hashes = np.fromiter(map(hash, values), np.int64, len(values)).view(np.uint64) * _SPREAD
        seen = np.empty(len(ids), _SEEN)
        seen["hash"] = hashes
        seen["row"] = np.arange(first, first + len(ids))
        self._buckets.add(seen, (hashes >> np.uint64(56)).astype(np.uint8))

    def suspects(self) -> list[tuple[int, int]]:
        """Return pairs of rows whose ids have the same hash: at most 1,000, the earliest first."""
        pairs: list[tuple[int, int]] = []
        for seen in self._buckets:
            order = np.argsort(seen["hash"], kind="stable")
            hashes, rows = seen["hash"][order], seen["row"][order]
            same = np.flatnonzero(hashes[1:] == hashes[:-1])
            pairs += zip(rows[same].tolist(), rows[same + 1].tolist(), strict=True)
            pairs = sorted(pairs, key=lambda pair: pair[1])[:_MOST_PAIRS]
        return pairs

    def close(self) -> None:
        """Remove the scratch files."""
        self._buckets.close()


def same(
    pairs: list[tuple[int, int]], values: dict[int, Any], where: Callable[[int], str]
) -> CorpusError | None:
    """Return the error that two rows have the same id, or None if the hashes only met."""
    twice = [pair for pair in pairs if values[pair[0]] == values[pair[1]]]
    if not twice:
        return None
    one, other = twice[0]
    return CorpusError(
        f"the id `{_shown(values[one])}` is in {where(one)} and in {where(other)}",
        hint="give every row an id of its own, or leave `corpus.id` out: then the row number "
        "is the id",
    )


def _shown(value: Any) -> str:
    """Return an id in words; bytes that are no text in hex digits."""
    try:
        return str(value.cast(pa.string()))
    except pa.ArrowInvalid:
        return str(value.as_py().hex())
