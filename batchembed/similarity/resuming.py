"""A file of dense scores that goes on where it was cut off.

Theory of operation. The scores are too many to be kept beside the file, so the file itself is
what is kept, under another name, and a log says how many of its batches are on disk and gives
a checksum of each. Whoever goes on reads those batches and hands them to the same writer, which
drops what is there already and so comes to the same offsets. Before that they are handed to
nobody, and only as far as offsets and checksums are as logged does the file count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Protocol, runtime_checkable

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from batchembed.similarity.kept import Kept

_MAGIC = 8
_PAGE = 512

Batches = Iterator[pa.RecordBatch]
Mark = tuple[int, int]
"""Where a batch ends in the file, and the checksum of its bytes."""


@runtime_checkable
class Part(Protocol):
    """A sink whose bytes stay on disk, at `part`, when the process ends."""

    part: Path | None

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes."""
        ...

    def resume(self, size: int) -> None:
        """Before the first write: the first `size` bytes are there, and only come again."""
        ...

    def durable(self) -> int:
        """Return how many of the first bytes survive a power cut from now on."""
        ...


def write(sink: Part, schema: pa.Schema, batches: Callable[[int], Batches], kept: Kept) -> None:
    """Write an Arrow IPC file; `batches` yields those from a number on.

    Whatever a process before left in the part is taken up as far as `kept` vouches for it.
    """
    assert sink.part is not None
    logged = _logged(kept)
    count = _whole(sink.part, schema, logged)
    sink.resume(logged[count - 1][0] if count else 0)
    passing, noted = _Passing(sink), count
    marks: list[Mark] = []
    with pa.ipc.new_file(passing, schema) as file:
        for number, batch in enumerate(chain(_read(sink.part, count), batches(count))):
            file.write_batch(batch)
            marks.append(passing.mark())
            if number >= count and kept.due():
                noted = _note(kept, sink.durable(), marks, noted)


def sums() -> list[str]:
    """Return what the last bits of dense scores, and the bytes of a file, depend on."""
    blas = [one for one in threadpool_info() if one["user_api"] == "blas"]
    kinds = {f"{one['internal_api']} {one['version']} {one.get('architecture')}" for one in blas}
    return [np.__version__, pa.__version__, *sorted(kinds)]


def _note(kept: Kept, durable: int, marks: list[Mark], noted: int) -> int:
    """Log the batches after the first `noted` that are durable; return how many then are."""
    whole = sum(1 for _ in takewhile(lambda mark: mark[0] <= durable, marks))
    kept.append({"first": np.array(noted), "marks": np.array(marks[noted:whole], np.int64)})
    kept.wait()
    return max(noted, whole)


def _logged(kept: Kept) -> list[Mark]:
    """Return (offset behind it, checksum) of each batch that was logged."""
    told: list[Mark] = []
    for frame in kept.log_frames():
        del told[int(frame["first"].item()) :]  # from there on they were made anew
        told += [(int(stop), int(crc)) for stop, crc in frame["marks"]]
    return told


def _whole(part: Path, schema: pa.Schema, logged: list[Mark]) -> int:
    """Return how many of the logged batches the part holds as they were written."""
    passing, count = _Passing(None), 0
    try:
        with pa.ipc.new_file(passing, schema) as file:
            for batch, mark in zip(_read(part, len(logged)), logged, strict=False):
                if batch.schema != schema:
                    break
                file.write_batch(batch)
                if passing.mark() != mark:
                    break
                count += 1
    except (OSError, pa.ArrowException):
        pass
    return count


def _read(part: Path, count: int) -> Batches:
    """Yield the first `count` batches of a file without its end, straight from disk."""
    if not count:
        return
    with pa.memory_map(str(part)) as source:
        source.seek(_MAGIC)  # what follows is a stream
        yield from islice(pa.ipc.open_stream(source), count)


class _Passing:
    """Counts and sums up bytes on their way to a sink, if there is one."""

    closed = False

    def __init__(self, sink: Part | None) -> None:
        self._sink = sink
        self._size = self._sum = 0

    def write(self, data: bytes | memoryview) -> int:
        self._size += len(data)
        self._sum = google_crc32c.extend(self._sum, _folded(np.frombuffer(data, np.uint8)))
        return len(data) if self._sink is None else self._sink.write(data)

    def flush(self) -> None:
        """Do nothing."""

    def mark(self) -> Mark:
        """Return (bytes so far, checksum of those since the last mark)."""
        told, self._sum = (self._size, self._sum), 0
        return told


def _folded(data: NDArray[np.uint8]) -> bytes:
    """Return few bytes of which one differs where a byte, or a page of 4 KiB, of many does.

    CRC-32C alone would take as long as writing.
    """
    whole = data.size - data.size % (8 * _PAGE)
    pages = data[:whole].view(np.uint64).reshape(-1, _PAGE)
    return bytes(np.bitwise_xor.reduce(pages, axis=0)) + data[whole:].tobytes()
