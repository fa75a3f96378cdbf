"""A first look at a corpus of which nothing is known yet: its columns and its first rows."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from batchembed.corpus.columns import mentioned
from batchembed.corpus.finding import find
from batchembed.corpus.reading import format_of
from batchembed.corpus.settings import CorpusSettings


def look(path: Sequence[str]) -> pa.RecordBatch:
    """Return all columns of the first rows, at most 8,192; raises CorpusError.

    Only the first file is opened. JSON Lines have no schema, so that file is read whole.
    """
    settings = CorpusSettings(tuple(path), text="?")
    file = find(settings.path)[0]
    reader = format_of(file, settings, mentioned(settings))
    schema = reader.schema(file)
    for batch in reader.batches(file, schema, schema.names):
        return batch.rows
    return pa.RecordBatch.from_pylist([], schema=schema)
