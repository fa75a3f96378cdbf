"""Who may write into a run directory: one run at a time, or the shards of one, each its part.

Theory of operation. A run holds `.lock` of its directory alone. A shard holds it together with
the other shards, and `.lock` of its own part of the checkpoint alone: so it excludes a run of the
whole, a run of the whole excludes it, and no shard runs twice. All are `flock`s, which end with
the process.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson

from batchembed.errors import NotFinishedError, RunHeldError, UsageError
from batchembed.shard import Shard, begun
from batchembed.store import CHECKPOINT, Store

A_LOOK = 0.05  # seconds: `status` has the lock for less, to see whether it is free
NAME = ".lock"
A_FEW = 3


class Hold:
    """The right to write into a run directory; the operating system ends it with the process."""

    def __init__(
        self,
        root: Path,
        holder: dict[str, object],
        shard: Shard | None = None,
        *,
        taken: str = "",
    ) -> None:
        """Take it at once, or raise RunHeldError naming who has it; for a `shard` its part alone.

        `taken` are the error's first words. Raises UsageError when there is no directory and none
        can be made.
        """
        self._root, self._shard = root, shard
        self._locks = [_Lock(root, alone=shard is None, taken=taken)]
        if shard is not None:
            try:
                self._locks.append(_Lock(shard.store(Store(root)).root, alone=True))
            except BaseException:
                self._locks[0].close()
                raise
        self._locks[-1].tell(holder)

    def is_ours(self) -> bool:
        """Return whether the lock files are still those that were locked."""
        return all(lock.is_ours() for lock in self._locks)

    def check(self) -> None:
        """Raise RunHeldError unless the lock is still ours.

        Someone deleted its file, while this process was frozen, say: another run may hold the
        directory by now, and nothing may be published over what it makes.
        """
        if not self.is_ours():
            raise RunHeldError(
                f"the lock of `{self._root}` was taken away from this run",
                hint="never delete `.lock`; run the same command again once no other run goes on",
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only process that may write into the directory, for a while.

        Raises RunHeldError when other shards run.
        """
        if not self._locks[0].take(alone=True):
            raise RunHeldError(
                f"other shards of `{self._root}` run, and what is to be mended there needs that "
                "none does",
                hint="run the same command again once they have ended",
            )
        yield
        if self._shard is not None:
            self._locks[0].take(alone=False)  # from alone to shared: nobody can come between

    def leave(self) -> None:
        """Let go of what is not ours any more, and touch nothing."""
        for lock in self._locks:
            lock.close()

    def release(self, *, leave_nothing: bool = False) -> None:
        """Give it back; with `leave_nothing`, as if it had never been taken.

        The part of a shard that holds nothing is removed in any case.
        """
        lock = self._locks[-1]
        lock.tell({})
        if self._shard is not None and _holds_nothing(lock.path.parent):
            lock.path.unlink()
            _remove(lock.path.parent / CHECKPOINT, lock.path.parent, lock.path.parent.parent)
        if leave_nothing and self._locks[0].take(alone=True):
            self._locks[0].path.unlink(missing_ok=True)
            _remove(self._root / CHECKPOINT, self._root)
        self.leave()


class _Lock:
    """One lock file, locked: `alone`, or together with others that do not want it alone."""

    def __init__(self, folder: Path, *, alone: bool, taken: str = "") -> None:
        self.path = folder / NAME
        for _ in range(A_FEW):
            self._open()
            locked = self.take(alone=alone) or self.take(alone=alone, after=A_LOOK)
            if locked and self.is_ours():
                return
            self.close()
            if not locked:
                break  # else it was removed meanwhile, by a run that left nothing behind
        raise RunHeldError(
            f"{taken or f'another run holds `{folder}`'}: {_holder(folder)}",
            hint="wait for it" + ("" if taken else ", or look at it with `batchembed status`"),
        )

    def _open(self) -> None:
        folder = self.path.parent
        try:
            Store(folder).make_folder(".")
        except OSError as error:
            raise UsageError(
                f"cannot make the directory `{folder}`: {error.strerror}",
                hint="give another directory as output",
            ) from error
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file = os.open(self.path, flags, 0o644)
        except OSError as error:
            raise NotFinishedError(
                f"cannot open the lock file `{self.path}`: {error.strerror}",
                hint="is the directory writable for you?",
            ) from error

    def take(self, *, alone: bool, after: float = 0.0) -> bool:
        """Lock it, or change how; return whether that could be done. After a `no` it is free."""
        time.sleep(after)
        try:
            fcntl.flock(self._file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def tell(self, holder: dict[str, object]) -> None:
        """Say who holds it, {} for nobody."""
        os.ftruncate(self._file, 0)
        if holder:
            os.pwrite(self._file, orjson.dumps(holder), 0)

    def is_ours(self) -> bool:
        """Return whether the file is still the one that was locked."""
        mine = os.fstat(self._file)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


def is_held(folder: Path) -> bool:
    """Return whether a process holds the lock of a folder alone: a run, or a shard its part."""
    try:
        file = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _holder(root: Path) -> str:
    """Return in words who holds a run directory: a run, else the first shard that runs."""
    places = [root, *(store.root for _, store in begun(Store(root)))]
    held = next((place for place in places if is_held(place)), root)
    try:
        told = orjson.loads((held / NAME).read_bytes())
        return ", ".join(f"{name} {value}" for name, value in told.items())
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return "a process that has not told its name yet"


def _holds_nothing(part: Path) -> bool:
    """Return whether no file but the lock is in a shard's part of the checkpoint."""
    return {path.name for path in part.rglob("*") if path.is_file()} <= {NAME}


def _remove(*folders: Path) -> None:
    """Remove folders that hold nothing."""
    for folder in folders:
        with suppress(OSError):  # it is not there, or something of others is in it
            folder.rmdir()
