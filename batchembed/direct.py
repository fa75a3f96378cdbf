"""A new file that is written past the page cache, where the system lets it be."""

from __future__ import annotations

import fcntl
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

PIECE = 8 << 20
_DIRECT = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """Takes bytes of any size; a thread writes them in whole aligned pieces while more come.

    Gigabytes that go through the page cache take a core of their own, and are held up there.
    Where the file system knows no such writes (tmpfs, some networks) they go through it.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags | _DIRECT, 0o644)
        except OSError:
            with suppress(FileNotFoundError):  # some file systems make it before they refuse
                path.unlink()
            self._file = os.open(path, flags, 0o644)
        # Anonymous maps begin on a page, which is what direct writes need.
        self._rooms = [mmap.mmap(-1, PIECE), mmap.mmap(-1, PIECE)]
        self._used = 0
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Take in bytes. Raises OSError, too, for those that were taken before."""
        given = np.frombuffer(data, np.uint8)
        done = 0
        while done < given.size:
            count = min(PIECE - self._used, given.size - done)
            room = np.frombuffer(self._rooms[0], np.uint8)
            room[self._used : self._used + count] = given[done : done + count]
            self._used += count
            done += count
            if self._used == PIECE:
                self._settle()
                self._writing = self._thread.submit(self._write, memoryview(self._rooms[0]))
                self._rooms.reverse()
                self._used = 0
        return done

    def flush(self) -> None:
        """Write all that is left. Nothing may follow."""
        self._settle()
        if _DIRECT:  # the end has no whole piece
            plain = fcntl.fcntl(self._file, fcntl.F_GETFL) & ~_DIRECT
            fcntl.fcntl(self._file, fcntl.F_SETFL, plain)
        self._write(memoryview(self._rooms[0])[: self._used])
        self._used = 0

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._file

    def close(self) -> None:
        """Close the file; what was not flushed is lost."""
        self._thread.shutdown()
        os.close(self._file)

    def _settle(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[os.write(self._file, data) :]
