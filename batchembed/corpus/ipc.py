"""Arrow files, mapped into memory, and Arrow streams."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import pyarrow as pa

from batchembed.corpus.files import CorpusFile, broken, reading
from batchembed.corpus.formats import BATCH_BYTES, BATCH_ROWS, Batch
from batchembed.corpus.parquet import conform

_FILE_MAGIC = b"ARROW1"
_FEATHER_1 = b"FEA1"
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FORGET_ROWS = 16 * BATCH_ROWS


class Ipc:
    """Reads Arrow IPC, the file and the stream form told apart by their first bytes.

    Arrow has no checksums: every batch is validated in full before anyone looks into it.
    """

    def schema(self, file: CorpusFile) -> pa.Schema:
        """Return names and types of all columns."""
        with reading(file), _opened(file) as (reader, _):
            return reader.schema

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
            read = 0
            for whole in _whole(reader):
                rows = conform(whole, wanted)
                step = max(1, min(BATCH_ROWS, BATCH_BYTES * len(rows) // max(rows.nbytes, 1)))
                for start in range(0, len(rows), step):
                    part = rows.slice(start, step)
                    part.validate(full=True)
                    yield Batch(part)
                    del part
                    read += step
                    if read >= _FORGET_ROWS:
                        forget()
                        read = 0

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
            yield pa.ipc.open_file(remote, options=_only(remote, columns)), _nothing
        return
    with open(file.place, "rb") as opened:  # noqa: PTH123
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    source = pa.py_buffer(mapped)
    yield pa.ipc.open_file(source, options=_only(source, columns)), _forgetting(mapped)


def _only(source: Any, columns: Sequence[str] | None) -> pa.ipc.IpcReadOptions:
    """Return options that read `columns` alone, so that packed others are left packed."""
    if columns is None:
        return pa.ipc.IpcReadOptions(use_threads=False)
    names = pa.ipc.open_file(source).schema.names
    wanted = [number for number, name in enumerate(names) if name in set(columns)]
    return pa.ipc.IpcReadOptions(use_threads=False, included_fields=wanted)


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
        data: bytes = self._stream.read(None if size < 0 else size)
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
