"""A process that dies, or a disk that fails, at any one call into the system."""

from __future__ import annotations

import io
import os

WATCHED = (
    *((os, name) for name in ("open", "mkdir", "rename", "fsync", "fdatasync", "unlink", "rmdir")),
    (os, "writev"),
    (io, "open"),
)


class Died(BaseException):
    """The process ends here: nothing after this happens."""


class Steps:
    """Counts the calls into the system that a `MonkeyPatch` lets it see.

    From the call number `at` on (from 1) everything dies; with an `error`, that one call fails.
    """

    def __init__(self, monkeypatch, at: int | None = None, error: OSError | None = None) -> None:
        self.seen: list[str] = []
        self._at, self._error = at, error
        for owner, name in WATCHED:
            monkeypatch.setattr(owner, name, self._watched(name, getattr(owner, name)))

    @property
    def count(self) -> int:
        return len(self.seen)

    def _watched(self, name, real):
        def call(*args, **more):
            self.seen.append(name)
            if self._error is None and self._at is not None and self.count >= self._at:
                raise Died
            if self._error is not None and self.count == self._at:
                raise self._error
            return real(*args, **more)

        return call
