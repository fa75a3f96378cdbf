"""Who may write into a run directory: one process at a time, until it ends."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

import orjson

from batchembed.errors import NotFinishedError, RunHeldError, UsageError
from batchembed.store import Store

A_LOOK = 0.05  # seconds: `status` has the lock for less, to see whether it is free


class Hold:
    """The right to write into a run directory; the operating system ends it with the process."""

    def __init__(self, root: Path, holder: dict[str, object], *, taken: str = "") -> None:
        """Take it at once, or raise RunHeldError naming who has it; `taken` are its first words.

        Raises UsageError when there is no directory and none can be made.
        """
        try:
            Store(root).make_folder(".")
        except OSError as error:
            raise UsageError(
                f"cannot make the directory `{root}`: {error.strerror}",
                hint="give another directory as output",
            ) from error
        self._path = path = root / ".lock"
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise NotFinishedError(
                f"cannot open the lock file `{path}`: {error.strerror}",
                hint="is the directory writable for you?",
            ) from error
        if not (_locked(self._file) or _locked(self._file, after=A_LOOK)):
            told = _told(os.read(self._file, 4096))
            os.close(self._file)
            raise RunHeldError(
                f"{taken or f'another run holds `{root}`'}: {told}",
                hint="wait for it" + ("" if taken else ", or look at it with `batchembed status`"),
            )
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, orjson.dumps(holder), 0)

    def is_ours(self) -> bool:
        """Return whether the lock file is still the one that was locked."""
        mine = os.fstat(self._file)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)

    def check(self) -> None:
        """Raise RunHeldError unless the lock is still ours.

        Someone deleted its file, while this process was frozen, say: another run may hold the
        directory by now, and nothing may be published over what it makes.
        """
        if not self.is_ours():
            raise RunHeldError(
                f"the lock of `{self._path.parent}` was taken away from this run",
                hint="never delete `.lock`; run the same command again once no other run goes on",
            )

    def leave(self) -> None:
        """Let go of what is not ours any more, and touch nothing."""
        os.close(self._file)

    def release(self, *, leave_nothing: bool = False) -> None:
        """Give it back; with `leave_nothing`, as if it had never been taken."""
        os.ftruncate(self._file, 0)
        if leave_nothing:
            self._path.unlink(missing_ok=True)
            with suppress(OSError):  # it holds something of others
                self._path.parent.rmdir()
        os.close(self._file)


def _locked(file: int, *, after: float = 0.0) -> bool:
    time.sleep(after)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(holder: bytes) -> str:
    try:
        return ", ".join(f"{name} {value}" for name, value in orjson.loads(holder).items())
    except (orjson.JSONDecodeError, AttributeError):
        return "a process that has not told its name yet"
