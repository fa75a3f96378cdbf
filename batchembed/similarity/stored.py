"""A stored file of pairs, read again without comparing anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchembed.errors import UsageError
from batchembed.similarity import output
from batchembed.similarity.grown import rows_of, told_apart
from batchembed.similarity.products import Floats, Positions
from batchembed.similarity.settings import METADATA_KEY


def told_of(path: Path, kind: str) -> dict[str, Any]:
    """Return the metadata of a stored comparison of one kind. Raises UsageError for another."""
    hint = f"give a file that `batchembed similarity --{kind.replace('_', '-')}` wrote"
    try:
        with pa.memory_map(str(path)) as source:
            metadata = pa.ipc.open_file(source).schema.metadata or {}
        told: dict[str, Any] = json.loads(metadata[METADATA_KEY])
    except OSError as error:
        raise UsageError(f"there is no file `{path}`", hint=hint) from error
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise UsageError(f"`{path}` is not a comparison", hint=hint) from error
    if told["kind"] != kind:
        raise UsageError(f"`{path}` holds scores of the form `{told['kind']}`", hint=hint)
    return told


def rethreshold(path: Path, min_score: float, *, write: Any) -> int:
    """Write the pairs of a stored file that score at least `min_score`; return how many.

    The bytes are those of a comparison with that score. Raises UsageError for a lower score
    than the file's own: what lies below it is not there.
    """
    told = told_of(path, "min_score")
    if not min_score >= told["min_score"]:
        raise UsageError(
            f"`{path}` holds pairs from {told['min_score']} on, not from `{min_score}`",
            hint="compare again with --min-score, or ask for a higher score",
        )
    about = json.dumps(told | {"min_score": min_score}, sort_keys=True, ensure_ascii=False)
    count = 0
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        schema = file.schema.with_metadata({METADATA_KEY: about.encode()})

        def kept() -> Iterator[pa.RecordBatch]:
            nonlocal count
            for batch in _even(_above(file, np.float32(min_score)), schema):
                count += len(batch)
                yield batch

        output.write(write, schema, kept())
    return count


def _above(file: pa.ipc.RecordBatchFileReader, least: np.float32) -> Iterator[pa.RecordBatch]:
    for number in range(file.num_record_batches):
        batch = file.get_batch(number)
        yield batch.filter(pc.greater_equal(batch.column(2), pa.scalar(least, pa.float32())))


def _even(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Cut and join batches so that all but the last are of the size of a comparison's own."""
    size, waiting = output.PAIRS_IN_BATCH, pa.table(schema.empty_table())
    for batch in batches:
        columns = [batch.column(n) for n in range(batch.num_columns)]
        waiting = pa.concat_tables([waiting, pa.table(columns, schema=schema)]).combine_chunks()
        while len(waiting) >= size:
            yield _fresh(waiting, size)
            waiting = waiting.slice(size)
    if len(waiting):
        yield _fresh(waiting, len(waiting))


def _fresh(table: pa.Table, rows: int) -> pa.RecordBatch:
    """Return the first rows as a batch of their own: no slice, whose bytes may differ."""
    return table.take(pa.array(np.arange(rows))).combine_chunks().to_batches()[0]


def stored_neighbors(
    path: Path, left: pa.Array, right: pa.Array
) -> Iterator[tuple[Positions, Positions, Positions, Floats]]:
    """Yield (rows, ranks from 1, neighbours' rows, scores) of a stored top-k file, in its order.

    `left` and `right` are the ids of both sides. Raises UsageError for another file, or one of
    another number of rows, or where ids do not tell the rows of the right apart.
    """
    told = told_of(path, "top_k")
    rows = told["rows"]["left"], told["rows"].get("right", told["rows"]["left"])
    if rows != (len(left), len(right)):
        raise UsageError(
            f"`{path}` is of {rows[0]:,} and {rows[1]:,} rows, the runs have {len(left):,} and "
            f"{len(right):,}",
            hint="give the runs that were compared: --of RUN, and --to RUN where there were two",
        )
    if not told_apart(right, len(right)):
        raise UsageError(
            "an id stands for several rows, so neighbours cannot be joined by it",
            hint="give each row an id of its own in the corpus",
        )
    start = 0
    with pa.memory_map(str(path)) as source:
        file = pa.ipc.open_file(source)
        for number in range(file.num_record_batches):
            lists = file.get_batch(number).column(1)
            counts = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
            flat = lists.flatten()
            ranks = np.arange(len(flat)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
            mine = start + np.repeat(np.arange(counts.size), counts)
            others = rows_of(flat.field("id"), right, path)
            yield mine, ranks, others, np.asarray(flat.field("score"))
            start += len(lists)
