"""Parquet files: row groups are streamed, never read whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchembed.corpus.files import CorpusFile, broken, reading
from batchembed.corpus.formats import BATCH_BYTES, BATCH_ROWS, Batch

_BUFFER = 1 << 20


class Parquet:
    """Reads Parquet. Pages with checksums have them checked."""

    def schema(self, file: CorpusFile) -> pa.Schema:
        """Return names and types of all columns."""
        with reading(file), _open(file) as opened:
            return opened.schema_arrow

    def rows(self, file: CorpusFile) -> int | None:
        """Return the number of rows, from the file's own footer."""
        with reading(file), _open(file) as opened:
            return int(opened.metadata.num_rows)

    def batches(
        self, file: CorpusFile, schema: pa.Schema, columns: Sequence[str]
    ) -> Iterator[Batch]:
        """Yield `columns` of all rows in batches of bounded size."""
        wanted = pa.schema([schema.field(name) for name in columns])
        with reading(file), _open(file) as opened:
            for group in range(opened.num_row_groups):
                found = 0
                for rows in opened.iter_batches(
                    batch_size=_batch_rows(opened.metadata.row_group(group), columns),
                    row_groups=[group],
                    columns=list(columns),
                    use_threads=False,
                ):
                    rows.validate(full=True)
                    found += rows.num_rows
                    yield Batch(conform(rows, wanted))
                told = opened.metadata.row_group(group).num_rows
                if columns and found != told:
                    raise broken(file, f"row group {group} has {found} rows, not {told}")

    def line(self, file: CorpusFile, row: int) -> int | None:  # noqa: ARG002
        """Return None: Parquet has no lines."""
        return None


def conform(rows: pa.RecordBatch, wanted: pa.Schema) -> pa.RecordBatch:
    """Return the columns of `wanted`, under its fields, of a batch that has them and others."""
    return pa.RecordBatch.from_arrays([rows.column(name) for name in wanted.names], schema=wanted)


def _open(file: CorpusFile) -> Any:
    return pq.ParquetFile(
        file.open_file(),
        pre_buffer=False,
        buffer_size=_BUFFER,
        page_checksum_verification=True,
    )


def _batch_rows(group: Any, columns: Sequence[str]) -> int:
    """Return how many rows hold about 8 MB, by what the row group's metadata says."""
    wanted = set(columns)
    size = sum(
        chunk.total_uncompressed_size
        for chunk in map(group.column, range(group.num_columns))
        if chunk.path_in_schema.split(".")[0] in wanted or chunk.path_in_schema in wanted
    )
    return max(1, min(BATCH_ROWS, BATCH_BYTES * group.num_rows // max(size, 1)))
