"""What the tests of the corpus share: files of every kind, and a corpus read to its end."""

import gzip
import json
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from batchembed.corpus import CorpusSettings, scan
from batchembed.errors import CorpusError

EXTENSIONS = (
    *("parquet", "arrow", "feather", "ipc", "arrows", "csv", "tsv", "jsonl", "ndjson"),
    *("csv.gz", "tsv.zst", "jsonl.gz", "ndjson.zst", "arrows.gz", "arrows.zst", "arrow.zst"),
)


def packed(data, extension):
    """Pack bytes as the extension says."""
    if extension == "gz":
        return gzip.compress(data)
    return pa.Codec("zstd").compress(data, asbytes=True) if extension == "zst" else data


def stream(table, *, rows=None):
    """The bytes of an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue().to_pybytes()


def arrow(table, *, rows=None, compression=None):
    """The bytes of an Arrow file."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue().to_pybytes()


def parquet(table, **options):
    """The bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def delimited(table, delimiter):
    """The bytes of a CSV file, written by pyarrow."""
    sink = pa.BufferOutputStream()
    pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(delimiter=delimiter))
    return sink.getvalue().to_pybytes()


def lines(rows):
    """The bytes of a JSON Lines file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write(path, table):
    """Write a table in the format and packing that the name of `path` asks for."""
    parts = path.name.split(".")
    kind, last = parts[1], parts[-1]
    if kind == "parquet":
        data = parquet(table)
    elif kind in ("csv", "tsv"):
        data = delimited(table, "," if kind == "csv" else "\t")
    elif kind in ("jsonl", "ndjson"):
        data = lines(table.to_pylist())
    else:
        data = stream(table) if kind == "arrows" or last == "zst" else arrow(table)
    path.write_bytes(packed(data, last))
    return path


def corpus(path, text="text", **settings):
    """Scan one path with a text column, unless there is a template."""
    if "template" in settings:
        text = None
    paths = path if isinstance(path, tuple) else (str(path),)
    return scan(CorpusSettings(paths, text=text, **settings))


def texts(found):
    """All texts of a corpus; checks that the row numbers go on without a gap."""
    seen = []
    for rows in found.texts():
        assert rows.first == len(seen)
        seen += rows.texts
    return seen


def kept(found):
    """(ids, kept rows) of a corpus."""
    ids, rows = [], []
    for some, batch in found.metadata():
        ids += some.to_pylist()
        rows += batch.to_pylist()
    return ids, rows


def read(path, **settings):
    """Texts, ids and kept rows of a corpus, in three passes as a run makes them."""
    found = corpus(path, **settings)
    first, second = texts(found), texts(found)
    assert first == second
    return (first, *kept(found))


@contextmanager
def refused(*words):
    """Expect a CorpusError with a hint whose message and hint hold `words`."""
    with pytest.raises(CorpusError) as caught:
        yield
    told = str(caught.value)
    for word in words:
        assert word in told, told
    assert caught.value.hint, told
    assert caught.value.exit_code == 2
