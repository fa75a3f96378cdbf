"""Arrow files, mapped into memory, and Arrow streams."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from batchembed.corpus.files import CorpusFile, broken, named, reading
from batchembed.corpus.formats import BATCH_BYTES, BATCH_ROWS, Batch, check_values
from batchembed.corpus.lines import full
from batchembed.corpus.parquet import conform

_FILE_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FORGET_BYTES = 4 * BATCH_BYTES


class Ipc:
    """Reads Arrow IPC, the file and the stream form told apart by their first bytes.

    Arrow has no checksums: every batch is validated in full before anyone looks into it.
    """

    def schema(self, file: CorpusFile) -> pa.Schema:
        """Return names and types of all columns."""
        with reading(file), _opened(file) as (reader, _):
            return named(reader.schema)

    def rows(self, file: CorpusFile) -> int | None:
        """Return the number of rows of an Arrow file; None for a stream, which does not tell."""
        with reading(file), _opened(file) as (reader, _):
            if isinstance(reader, pa.RecordBatchFileReader):
                return int(reader.count_rows())
            return None

    def batches(
        self, file: CorpusFile, schema: pa.Schema, columns: Sequence[str]
    ) -> Iterator[Batch]:
        """Yield `columns` of all rows in batches of bounded size."""
        wanted = pa.schema([schema.field(name) for name in columns])
        with reading(file), _opened(file, columns) as (reader, forget):
            before = read = 0
            for whole in _whole(reader):
                rows = conform(whole, wanted)
                size = max(rows.nbytes // max(len(rows), 1), 1)
                step = max(1, min(BATCH_ROWS, BATCH_BYTES // size))
                for start in range(0, len(rows), step):
                    part = rows.slice(start, step)
                    check_values(part, file, before + start)
                    yield Batch(part)
                    read += step * size
                    if read >= _FORGET_BYTES:
                        forget()
                        read = 0
                before += len(rows)

    def line(self, file: CorpusFile, row: int) -> int | None:  # noqa: ARG002
        """Return None: Arrow has no lines."""
        return None


def _whole(reader: Any) -> Iterator[pa.RecordBatch]:
    """Yield the batches as they were written."""
    if isinstance(reader, pa.RecordBatchFileReader):
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)
    else:
        yield from reader


@contextmanager
def _opened(file: CorpusFile, columns: Sequence[str] | None = None) -> Iterator[tuple[Any, Any]]:
    """Open a file or a stream; gives (reader, a function that lets go of what was read)."""
    with closing(file.open_stream()) as start:
        magic = start.read(len(_FILE_MAGIC))
    if magic.startswith(_FEATHER_1):
        raise broken(file, "it is Feather version 1", hint="write it as version 2, which is Arrow")
    if magic != _FILE_MAGIC:
        with closing(file.open_stream()) as raw:
            source = _Watched(raw)
            yield pa.ipc.open_stream(pa.PythonFile(source, "r")), _nothing
            if columns is not None:
                source.check_end(file)
        return
    if file.packing:
        raise broken(
            file,
            "it is a packed Arrow file, which can only be read from its end",
            hint="unpack it, or write it as an Arrow stream (.arrows)",
        )
    if file.filesystem is not None:
        with closing(file.open_file()) as remote:
            names = pa.ipc.open_file(remote).schema.names
            wanted = [n for n, name in enumerate(names) if columns is None or name in columns]
            only = pa.ipc.IpcReadOptions(use_threads=False, included_fields=wanted)
            yield pa.ipc.open_file(remote, options=only), _nothing
        return
    with open(file.place, "rb") as opened:  # noqa: PTH123
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    source = pa.py_buffer(mapped)
    # `included_fields` would copy every column out of the map
    options = pa.ipc.IpcReadOptions(use_threads=False)
    yield pa.ipc.open_file(source, options=options), _forgetting(mapped)


def _forgetting(mapped: mmap.mmap) -> Any:
    """Return a function that gives the pages of `mapped` back to the system: they are re-read."""
    if not hasattr(mmap, "MADV_DONTNEED"):
        return _nothing

    def forget() -> None:
        mapped.madvise(mmap.MADV_DONTNEED)

    return forget


def _nothing() -> None:
    """Forget nothing: what was read is not kept."""


class _Watched:
    """A stream that remembers its last bytes: a stream cut between two batches looks whole."""

    closed = False

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        # a damaged size may be huge, and is allocated as a whole: ask for what is there
        data = self._stream.read() if size < 0 else full(self._stream, size)
        self._last = (self._last + data[-8:])[-8:]
        return data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._stream.close()

    def check_end(self, file: CorpusFile) -> None:
        """Raise CorpusError unless the stream ends with the mark that its writer closes it with."""
        if self._last != _END_OF_STREAM or self.read(1):
            raise broken(
                file,
                "the Arrow stream has no end mark where it ends: it is cut short, or its writer "
                "was not closed",
                hint="write it again and close the writer",
            )
