"""What the readers of all file formats have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from batchembed.corpus.files import CorpusFile, broken

BATCH_ROWS = 8192
BATCH_BYTES = 8 << 20

_INVALID_TEXT = re.compile(r"Invalid UTF8 sequence at string index (\d+)")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows in a row, checked: nothing in them can crash who reads them.

    `odd` holds, by position, the rows whose JSON has lone surrogates, exactly as written: no
    Arrow string can hold those, so `rows` has the replacement character U+FFFD instead.
    """

    rows: pa.RecordBatch
    odd: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


class Format(Protocol):
    """Reads one kind of file. Rows count from 0 within the file; errors are CorpusErrors."""

    def schema(self, file: CorpusFile) -> pa.Schema:
        """Return names and types of all columns."""

    def rows(self, file: CorpusFile) -> int | None:
        """Return the number of rows if the file tells without being read, else None."""

    def batches(
        self, file: CorpusFile, schema: pa.Schema, columns: Sequence[str]
    ) -> Iterator[Batch]:
        """Yield `columns` of all rows, under the types in `schema`, in batches of bounded size."""

    def line(self, file: CorpusFile, row: int) -> int | None:
        """Return the line (from 1) at which a row begins; None where there are no lines."""


def check_values(rows: pa.RecordBatch, file: CorpusFile, before: int) -> None:
    """Raise CorpusError unless every value can be looked at; `before` rows of the file precede.

    Neither Arrow nor Parquet is checked when it is read: a damaged offset ends the interpreter.
    """
    try:
        rows.validate(full=True)
    except pa.ArrowInvalid as error:
        for name, column in zip(rows.schema.names, rows.columns, strict=True):
            bad = _invalid_text(column)
            if bad is not None:
                raise broken(
                    file,
                    f"row {before + bad + 1:,} holds bytes in column `{name}` that are not UTF-8",
                    hint="write the column again as UTF-8 text, or leave it out of `keep` "
                    "under [corpus]",
                ) from error
        raise


def _invalid_text(column: pa.Array) -> int | None:
    """Return the position of the first value of a plain column that is not UTF-8."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        found = _INVALID_TEXT.match(str(error))
        return int(found[1]) if found else None
    return None


def cuts(sizes: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of runs of at most 8,192 rows and about 8 MB; `sizes` is bytes a row.

    A row larger than that makes a run of its own.
    """
    ends = np.cumsum(sizes)
    start, rows = 0, len(sizes)
    while start < rows:
        base = ends[start - 1] if start else 0
        fits = int(np.searchsorted(ends, base + BATCH_BYTES, side="right"))
        stop = min(max(fits, start + 1), start + BATCH_ROWS, rows)
        yield start, stop
        start = stop
