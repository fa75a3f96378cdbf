"""Parquet files: row groups are streamed, never read whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchembed.corpus.files import CorpusFile, broken, named, reading
from batchembed.corpus.formats import BATCH_ROWS, Batch, check_values
from batchembed.corpus.sizes import is_bytes, value_bytes

_BUFFER = 1 << 20
_READ_BYTES = 1 << 22  # a column's memory doubles while it grows
_DICTIONARY_BYTES = 1 << 24


class Parquet:
    """Reads Parquet. Pages with checksums have them checked."""

    def schema(self, file: CorpusFile) -> pa.Schema:
        """Return names and types of all columns."""
        with reading(file), _open(file) as opened:
            return named(opened.schema_arrow)

    def rows(self, file: CorpusFile) -> int | None:
        """Return the number of rows, from the file's own footer."""
        with reading(file), _open(file) as opened:
            return int(opened.metadata.num_rows)

    def batches(
        self, file: CorpusFile, schema: pa.Schema, columns: Sequence[str]
    ) -> Iterator[Batch]:
        """Yield `columns` of all rows in batches of bounded size."""
        wanted = pa.schema([schema.field(name) for name in columns])
        texts = [field.name for field in wanted if is_bytes(field.type)]
        with reading(file), _open(file) as opened, _open(file, texts) as probed:
            before = 0
            for group in range(opened.num_row_groups):
                told = int(opened.metadata.row_group(group).num_rows)
                found = 0
                for rows in opened.iter_batches(
                    batch_size=min(
                        _average_rows(file, opened.metadata, group),
                        _dictionary_rows(probed, group, texts),
                    ),
                    row_groups=[group],
                    columns=list(columns),
                    use_threads=False,
                ):
                    check_values(rows, file, before + found)
                    found += rows.num_rows
                    yield Batch(conform(rows, wanted))
                if found != told:
                    raise broken(file, f"row group {group} has {found} rows of {told}")
                before += told

    def line(self, file: CorpusFile, row: int) -> int | None:  # noqa: ARG002
        """Return None: Parquet has no lines."""
        return None


def conform(rows: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """Return the columns of `wanted`, under its fields, of a batch that has them and others."""
    return pa.RecordBatch.from_arrays([rows.column(name) for name in wanted.names], schema=wanted)


def _open(file: CorpusFile, dictionaries: Sequence[str] = ()) -> Any:
    return pq.ParquetFile(
        file.open_file(),
        pre_buffer=False,
        buffer_size=_BUFFER,
        page_checksum_verification=True,
        read_dictionary=list(dictionaries),
    )


def _average_rows(file: CorpusFile, metadata: Any, group: int) -> int:
    """Return how many rows of a row group have about 4 MB on average, all columns together.

    The metadata of single columns would tell more, but asking pyarrow for it ends the
    interpreter when a byte of it is damaged.
    """
    rows = max(int(metadata.row_group(group).num_rows), 1)
    packed = file.bytes * rows // max(int(metadata.num_rows), 1)
    size = max(int(metadata.row_group(group).total_byte_size), packed, 1)
    return max(1, min(BATCH_ROWS, _READ_BYTES * rows // size))


def _dictionary_rows(probed: Any, group: int, texts: Sequence[str]) -> int:
    """Return how many rows stay small even if each has the longest text of the dictionaries.

    A file of a few KB can hold the same 1 MB text a million times. Reading one row as a
    dictionary shows the whole dictionary of the row group.
    """
    if not texts:
        return BATCH_ROWS
    longest = 1
    for rows in probed.iter_batches(
        batch_size=1, row_groups=[group], columns=list(texts), use_threads=False
    ):
        for name in texts:
            values = rows.column(name)
            if pa.types.is_dictionary(values.type):  # not for a name with a dot in it
                values = values.dictionary
            longest = max(longest, int(value_bytes(values).max(initial=0)))
        break
    return max(1, min(BATCH_ROWS, _DICTIONARY_BYTES // longest))
