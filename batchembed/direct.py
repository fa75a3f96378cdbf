"""A file that is written past the page cache, where the system lets it be."""

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
    Where the file system knows no such writes (tmpfs, some networks) they go through it. The file
    must be new, unless it may be `again`: then what is there stays until `resume` cuts it.
    """

    def __init__(self, path: Path, *, again: bool = False) -> None:
        flags = os.O_WRONLY | os.O_CREAT | (0 if again else os.O_EXCL) | os.O_CLOEXEC
        self._path = path
        try:
            self._file = os.open(path, flags | _DIRECT, 0o644)
        except OSError:
            if not again:
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

    def resume(self, size: int) -> None:
        """Cut the file to `size` bytes, which it has, and go on behind them."""
        os.truncate(self._file, size)
        self._used = size % PIECE
        with self._path.open("rb") as file:
            file.seek(size - self._used)
            self._rooms[0][: self._used] = file.read(self._used)
        os.lseek(self._file, size - self._used, os.SEEK_SET)

    def durable(self) -> int:
        """Return how many of the first bytes survive a power cut from now on."""
        self._settle()
        os.fsync(self._file)
        return os.lseek(self._file, 0, os.SEEK_CUR)

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
