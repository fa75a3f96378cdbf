"""Who may write into a run directory: one run at a time, or the shards of one, each its part.

Theory of operation. A run holds `.lock` of its directory alone. A shard holds it together with
the other shards, and `.lock` of its own part of the checkpoint alone: so it excludes a run of the
whole, a run of the whole excludes it, and no shard runs twice. What shards agree on, each holds
together with all that agreed to it; whoever reads or changes it has `turn`. All are `flock`s, which
end with the process. One that is changed is lost first: it may not come back, so that is looked at.
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
from batchembed.shard import SHARDS, Shard, begun
from batchembed.store import CHECKPOINT, Store

A_LOOK = 0.05  # seconds: `status` has the lock for less, to see whether it is free
NAME = ".lock"
A_FEW = 20


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
        self._root, self._shard, self._holder = root, shard, holder
        self._agreed: int | None = None
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

        Raises RunHeldError when other shards run, and when a run came between afterwards.
        """
        whole = self._locks[0]
        if not whole.take(alone=True):
            whole.take(alone=False)  # the try took from us what we had
            raise self._others()
        yield
        if self._shard is None:
            return
        if not self._locks[1].is_ours():  # what publishes deletes the parts of all shards
            self._locks[1].close()
            self._locks[1] = _Lock(self._locks[1].path.parent, alone=True)
            self._locks[1].tell(self._holder)
        if not whole.take(alone=False):
            raise self._others()

    def _others(self) -> RunHeldError:
        return RunHeldError(
            f"other shards of `{self._root}` run, and what is to be mended there needs that "
            "none does",
            hint="run the same command again once they have ended",
        )

    def agree(self, path: Path) -> None:
        """Hold a file that exists together with all that agreed to what it says, to the end."""
        self._agreed = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._agreed, fcntl.LOCK_SH)

    def leave(self) -> None:
        """Let go of what is not ours any more, and touch nothing."""
        for lock in self._locks:
            lock.close()
        if self._agreed is not None:
            os.close(self._agreed)

    def release(self, *, leave_nothing: bool = False) -> None:
        """Give it back; with `leave_nothing`, as if it had never been taken.

        The part of a shard that holds nothing is removed in any case.
        """
        lock = self._locks[-1]
        lock.tell({})
        if self._shard is not None and _holds_nothing(lock.path.parent):
            lock.path.unlink(missing_ok=True)
            _remove(lock.path.parent / CHECKPOINT, lock.path.parent, lock.path.parent.parent)
        if leave_nothing and self._locks[0].take(alone=True):
            self._locks[0].path.unlink(missing_ok=True)
            _remove(self._root / CHECKPOINT, self._root)
        self.leave()


class _Lock:
    """One lock file, locked: `alone`, or together with others that do not want it alone."""

    def __init__(self, folder: Path, *, alone: bool, taken: str = "") -> None:
        self.path = folder / NAME
        gone: OSError | None = None
        for _ in range(A_FEW):
            try:
                self._open()
            except (FileNotFoundError, FileExistsError) as error:
                gone = error  # maybe a run that left nothing behind removed the folder meanwhile
                continue
            locked = self.take(alone=alone) or self.take(alone=alone, after=A_LOOK)
            if self.is_ours():
                return
            self.close()
            gone = None
            if not locked:
                break  # else its file was removed meanwhile, by such a run
        if gone is not None:
            raise _no_folder(folder, gone) from gone
        raise RunHeldError(
            f"{taken or f'another run holds `{folder}`'}: {_holder(folder)}",
            hint="wait for it" + ("" if taken else ", or look at it with `batchembed status`"),
        )

    def _open(self) -> None:
        """Open the file and make its folder; raises FileNotFoundError, FileExistsError in races."""
        folder, self.locked = self.path.parent, False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            Store(folder).make_folder(".")
            self._file = os.open(self.path, flags, 0o644)
        except (FileNotFoundError, FileExistsError):
            raise
        except OSError as error:
            if not folder.is_dir():
                raise _no_folder(folder, error) from error
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
            self.locked = False
        else:
            self.locked = True
        return self.locked

    def tell(self, holder: dict[str, object]) -> None:
        """Say who holds it, {} for nobody."""
        os.ftruncate(self._file, 0)
        if holder:
            os.pwrite(self._file, orjson.dumps(holder), 0)

    def is_ours(self) -> bool:
        """Return whether it is locked, and the file is still the one that was."""
        if not self.locked:
            return False
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
    return not _could(folder / NAME, fcntl.LOCK_SH)


def is_agreed(path: Path) -> bool:
    """Return whether a process lives that agreed to what a file says; see `Hold.agree`."""
    return not _could(path, fcntl.LOCK_EX)


def _could(path: Path, how: int) -> bool:
    """Return whether a file that is there could be locked."""
    try:
        file = os.open(path, os.O_RDONLY if how == fcntl.LOCK_SH else os.O_RDWR)
    except OSError:
        return True
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True


@contextmanager
def turn(root: Path) -> Iterator[None]:
    """Be the only shard of a run directory that looks at what is all shards'; waits for others."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    file = os.open(root / SHARDS / NAME, flags, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def holder(folder: Path) -> dict[str, object]:
    """Return what a process that holds a folder told of itself, {} where that is not known."""
    try:
        told = orjson.loads((folder / NAME).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return told if isinstance(told, dict) else {}


def _holder(root: Path) -> str:
    """Return in words who holds a run directory: a run, else the first shard that runs."""
    places = [root, *(store.root for _, store in begun(Store(root)))]
    told = holder(next((place for place in places if is_held(place)), root))
    if not told:
        return "a process that has not told its name yet"
    return ", ".join(f"{name} {value}" for name, value in told.items())


def _no_folder(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot make the directory `{folder}`: {error.strerror}",
        hint="give another directory as output",
    )


def _holds_nothing(part: Path) -> bool:
    """Return whether no file but the lock is in a shard's part of the checkpoint."""
    return {path.name for path in part.rglob("*") if path.is_file()} <= {NAME}


def _remove(*folders: Path) -> None:
    """Remove folders that hold nothing."""
    for folder in folders:
        with suppress(OSError):  # it is not there, or something of others is in it
            folder.rmdir()
