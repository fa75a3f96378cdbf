"""Nearest rows joined with what the corpus says of them, for a spreadsheet or a notebook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from batchembed.errors import UsageError
from batchembed.parts import RunVectors
from batchembed.similarity import stored_neighbors
from batchembed.store import Store, Writer

# What a spreadsheet takes for a formula: a cell that begins with one of these gets a ' before it.
FORMULA = r"^([=+\-@\t\r])"
_SUFFIXES = (".csv", ".parquet")


def neighbors_table(
    file: Path | str, of: Path | str, out: Path | str, *, to: Path | str | None = None
) -> int:
    """Write a stored top-k file with the columns of its rows; return how many rows that are.

    `of` is the run that was compared, `to` the one it was compared with, if that was another.
    One row for each neighbour: the row's columns, `rank` from 1, `score`, and the neighbour's
    columns with `neighbor_` before their names. `out` ends with .csv or .parquet. In CSV, a
    text that a spreadsheet would take for a formula begins with '.
    """
    out = Path(out)
    if out.suffix not in _SUFFIXES:
        raise UsageError(f"`{out}` ends with neither .csv nor .parquet", hint="name one of the two")
    left = RunVectors(Path(of))
    right = left if to is None else RunVectors(Path(to))
    count = 0
    with Store(out.absolute().parent).create(out.name) as writer:
        sheet: Any = None
        for rows, ranks, others, scores in stored_neighbors(Path(file), left.ids, right.ids):
            table = _joined(left, rows, "")
            table = table.append_column("rank", pa.array(ranks)).append_column(
                "score", pa.array(scores)
            )
            for field, column in zip(*_columns(_joined(right, others, "neighbor_")), strict=True):
                table = table.append_column(field, column)
            table = _plain(table) if out.suffix == ".csv" else table
            sheet = sheet or _sheet(out, writer, table.schema)
            sheet.write_table(table)
            count += len(table)
        if sheet is not None:
            sheet.close()
        writer.commit()
    return count


def _sheet(out: Path, writer: Writer, schema: pa.Schema) -> Any:
    if out.suffix == ".csv":
        return pa.csv.CSVWriter(writer, schema)
    return pq.ParquetWriter(writer, schema, compression="zstd")


def _joined(run: RunVectors, rows: np.ndarray[Any, Any], before: str) -> pa.Table:
    """Return all columns of these rows but the vectors, each named with `before` before it."""
    columns = {before + name: run.column(name) for name in run.names}
    if run.manifest.corpus["id"] is None:
        columns = {f"{before}row": run.ids} | columns
    taken = pa.array(rows)
    return pa.table({name: column.take(taken) for name, column in columns.items()})


def _columns(table: pa.Table) -> tuple[list[pa.Field], list[pa.ChunkedArray]]:
    return list(table.schema), table.columns


def _plain(table: pa.Table) -> pa.Table:
    """Return a table of numbers and of texts that are no formulas."""
    return pa.table([_cell(column) for column in table.columns], names=_safe(table.column_names))


def _safe(names: list[str]) -> list[str]:
    return pc.replace_substring_regex(pa.array(names), FORMULA, r"'\1").to_pylist()  # type: ignore[no-any-return]


def _cell(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = column.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        told = [None if v is None else json.dumps(v, default=str) for v in column.to_pylist()]
        column, kind = pa.chunked_array([pa.array(told, pa.string())]), pa.string()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.replace_substring_regex(column, FORMULA, r"'\1")
    return column
