"""Where a run directory lives: every byte of it is written here, so that crashes can be tried.

The rule for a file that others may read: write under a temporary name in the same folder,
fsync it, rename it, fsync the folder. A failed fsync is never tried again: the kernel may
have dropped the data, and a second fsync would say that all is well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from batchembed.direct import DirectFile

TEMPORARY = ".tmp-"
CHECKPOINT = "checkpoint"
SCRATCH = f"{CHECKPOINT}/scratch"
NEXT = f"{CHECKPOINT}/next"
COMPARING = f"{CHECKPOINT}/comparing"
BATCHES = f"{CHECKPOINT}/batches"
HASH_ASIDE = 1 << 18
SYNC_DATA = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Store:
    """One run directory on a local disk. Names are relative, with `/` between folders."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where `name` is on disk, for readers."""
        return self.root / name

    def names(self, folder: str) -> list[str]:
        """Return the files in a folder, sorted, without temporary ones; [] if there is none."""
        try:
            found = sorted(entry.name for entry in os.scandir(self.path(folder)) if entry.is_file())
        except FileNotFoundError:
            return []
        return [f"{folder}/{name}" for name in found if not name.startswith(TEMPORARY)]

    def read(self, name: str) -> bytes:
        """Return a whole file. Raises FileNotFoundError."""
        return self.path(name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        """Write a whole file, so that it is there entirely and durably, or not at all."""
        with self.create(name) as writer:
            writer.write(data)
            writer.commit()

    def create(self, name: str, *, hashed: bool = True, part: str | None = None) -> Writer:
        """Open a file for writing that appears under its name when it is committed.

        Until then it is called `part`, where that is given, and stays for the next writer.
        """
        for one in (name, part or name):
            self.make_folder(str(Path(one).parent))
        return Writer(self, name, hashed=hashed, part=part)

    def append(self, name: str) -> Appender:
        """Open a new file whose every write is at once visible to whoever reads it."""
        self.make_folder(str(Path(name).parent))
        return Appender(self, name)

    def rename(self, old: str, new: str) -> None:
        """Give a file its final name, durably, replacing what had it."""
        self.make_folder(str(Path(new).parent))
        self.path(old).rename(self.path(new))
        sync_folder(self.path(new).parent)

    def delete(self, name: str) -> None:
        """Remove a file, or a folder and all that is in it, if it is there."""
        path = self.path(name)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

    def sweep(self, folder: str) -> None:
        """Remove the temporary files that a killed process left in a folder."""
        for path in self.path(folder).glob(f"{TEMPORARY}*"):
            path.unlink(missing_ok=True)

    def make_folder(self, folder: str) -> None:
        """Make a folder and those above it, each durably."""
        path = self.path(folder)
        if path.is_dir():
            return
        missing = [p for p in (path, *path.parents) if not p.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(path: Path) -> int:
    """Return how much more the disk of `path` takes; the path need not exist yet."""
    return disk_usage(path)[0]


def disk_usage(path: Path) -> tuple[int, int]:
    """Return how many bytes the disk of `path` still takes, and how large it is."""
    usage = shutil.disk_usage(next(p for p in (path, *path.absolute().parents) if p.exists()))
    return usage.free, usage.total


class Appender:
    """A file that grows by whole writes; `sync` makes what was written durable."""

    def __init__(self, store: Store, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(store.path(name), flags, 0o644)
        self._store = store
        self._named = False
        self._folder = store.path(name).parent
        self.size = 0

    def write(self, *buffers: bytes | memoryview) -> int:
        """Append the buffers as one write; return the offset at which they start."""
        start, waiting = self.size, list(buffers)
        while waiting:
            written = os.writev(self._file, waiting)
            self.size += written
            while waiting and written >= len(waiting[0]):
                written -= len(waiting.pop(0))
            if waiting and written:
                waiting[0] = memoryview(waiting[0])[written:]
        return start

    def sync(self) -> None:
        """Make all that was written so far survive a power cut. Never tried twice on failure."""
        SYNC_DATA(self._file)
        if not self._named:
            sync_folder(self._folder)
            self._named = True

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Writer:
    """A file in the making; leaving the `with` block uncommitted removes it, but for a `part`.

    `sha256` (if it is `hashed`) and `size` are of what was written. What is not hashed, or has a
    `part`, is written past the page cache. Usable as a sink by pyarrow.
    """

    def __init__(
        self, store: Store, name: str, *, hashed: bool = True, part: str | None = None
    ) -> None:
        self._store = store
        self._final = store.path(name)
        self.part = None if part is None else store.path(part)
        self._temporary = self.part or self._final.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
        self._file: BinaryIO | DirectFile = (
            self._temporary.open("xb")
            if hashed and part is None
            else DirectFile(self._temporary, again=part is not None)
        )
        self._there = 0
        self._hash = hashlib.sha256() if hashed else None
        self._aside = ThreadPoolExecutor(1)  # its thread starts with the first large write
        self.size = 0
        self.closed = False
        self._committed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.closed = True
        self._aside.shutdown()
        if self._committed:
            return
        with suppress(OSError):  # closing flushes, which a full disk fails
            self._file.close()
        if self.part is None:
            self._temporary.unlink(missing_ok=True)

    def resume(self, size: int) -> None:
        """Before the first write: the first `size` bytes are in the part, and only come again."""
        assert isinstance(self._file, DirectFile)
        self._file.resume(size)
        self._there = size

    def durable(self) -> int:
        """Return how many of the first bytes of a part survive a power cut from now on."""
        assert isinstance(self._file, DirectFile)
        return max(self._file.durable(), self._there)

    def write(self, data: bytes | memoryview) -> int:
        """Append bytes; return how many."""
        view = memoryview(data).cast("B")
        new = view[max(0, self._there - self.size) :]
        if self._hash is None:
            self._file.write(new)
        elif len(view) < HASH_ASIDE:
            self._file.write(new)
            self._hash.update(view)
        else:
            hashing = self._aside.submit(self._hash.update, view)
            self._file.write(new)
            hashing.result()
        self.size += len(view)
        return len(view)

    def flush(self) -> None:
        """Do nothing: `commit` flushes."""

    @property
    def sha256(self) -> str:
        """The hex digest of what was written so far, "" where that is not hashed."""
        return self._hash.hexdigest() if self._hash else ""

    def commit(self) -> None:
        """Make the file durable and give it its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._temporary.rename(self._final)
        self._committed = True
        sync_folder(self._final.parent)
