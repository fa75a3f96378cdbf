"""One file of a corpus: what it is, how to open it, and how its faults are told."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from batchembed.errors import CorpusError

KINDS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
PACKINGS = {".gz": "gzip", ".zst": "zstd"}

_DAMAGED = "the file is damaged or is not what its name says; make or fetch it again"


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file as it was when the corpus was scanned.

    `path` is its name in messages. `packing` is "", "gzip" or "zstd". `filesystem` is None for
    local files; otherwise `place` is the path within it.
    """

    path: str
    bytes: int
    mtime_ns: int
    kind: str = ""
    packing: str = ""
    place: str = ""
    filesystem: pafs.FileSystem | None = None

    def open_stream(self) -> Any:
        """Open the file to be read front to back, unpacked."""
        if self.filesystem is None:
            raw = pa.OSFile(self.place, "rb")
        else:
            raw = self.filesystem.open_input_stream(self.place, compression=None)
        return pa.CompressedInputStream(raw, self.packing) if self.packing else raw

    def open_file(self) -> Any:
        """Open the file to be read at any position."""
        if self.filesystem is None:
            return pa.OSFile(self.place, "rb")
        return self.filesystem.open_input_file(self.place)

    def name(self) -> tuple[str, str]:
        """Return what tells this file from all others: (storage, place in it)."""
        storage = self.filesystem.type_name if self.filesystem is not None else "local"
        return storage, self.place

    def check_unchanged(self) -> None:
        """Raise CorpusError unless the file has the size and time that it was scanned with."""
        with reading(self):
            now = facts(self.place, self.filesystem)
        if now != (self.bytes, self.mtime_ns):
            raise CorpusError(
                f"`{self.path}` changed while the run was reading it "
                f"({self.bytes:,} bytes before, {now[0]:,} now)",
                hint="wait until the file is complete, then run the same command again: "
                "what is paid for is kept",
            )


def kind_of(name: str) -> tuple[str, str] | None:
    """Return (kind, packing) by the extension of `name`, or None when it is not known."""
    stem, extension = os.path.splitext(name.lower())  # noqa: PTH122 - names may be URIs
    packing = PACKINGS.get(extension, "")
    if packing:
        extension = os.path.splitext(stem)[1]  # noqa: PTH122
    kind = KINDS.get(extension)
    return (kind, packing) if kind else None


def facts(place: str, filesystem: pafs.FileSystem | None) -> tuple[int, int]:
    """Return (bytes, mtime in ns) of a regular file. Raises OSError when there is none."""
    if filesystem is None:
        found = os.stat(place)  # noqa: PTH116 - one call for size, time and type
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{place} is not a regular file")
        return found.st_size, found.st_mtime_ns
    info = filesystem.get_file_info(place)
    if not info.is_file:
        raise FileNotFoundError(f"{place} is not there any more")
    return info.size or 0, info.mtime_ns or 0


@contextmanager
def reading(file: CorpusFile) -> Iterator[None]:
    """Turn what the reading libraries raise into a CorpusError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise broken(file, said(error), hint=_hint(file, error)) from error


def named(schema: pa.Schema) -> pa.Schema:
    """Return `schema`; raises UnicodeDecodeError if a name or a time zone in it is not UTF-8."""
    waiting = list(schema)
    while waiting:
        field = waiting.pop()
        _ = field.name, getattr(field.type, "tz", None)  # decoded when looked at
        waiting += [field.type.field(number) for number in range(field.type.num_fields)]
    return schema


def broken(file: CorpusFile, what: str, *, hint: str = _DAMAGED) -> CorpusError:
    """Return the error that `file` cannot be read, and why."""
    return CorpusError(f"`{file.path}` cannot be read: {what}", hint=hint)


def said(error: BaseException) -> str:
    """Return the first line of what a library said, shortened."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0][:300]


def _hint(file: CorpusFile, error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "a row is larger than the memory, or the file is damaged: make or fetch it again"
    if isinstance(error, PermissionError):
        return "let the user that runs the job read the file, or name another one"
    if isinstance(error, FileNotFoundError):
        return "put the file back, or take it out of `corpus.path`"
    if file.packing:
        return f"the {file.packing} file is damaged, cut short or not packed; fetch it again"
    return _DAMAGED
