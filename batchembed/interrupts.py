"""Signals: an exception while reading and writing, a drain while requests are in flight."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from batchembed.errors import BatchembedError, InterruptedRunError

STOPPING = (signal.SIGINT, signal.SIGTERM)


class Drains(Protocol):
    """Something with requests in flight."""

    def drain(self, why: BatchembedError) -> None:
        """Start nothing more; let what is in flight land, for a few seconds."""

    def abandon(self) -> None:
        """Let go of what is in flight."""


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """Raise InterruptedRunError at SIGINT or SIGTERM; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, _: FrameType | None) -> None:
        raise InterruptedRunError(signum)

    before = {signum: signal.signal(signum, interrupt) for signum in STOPPING}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def drain_on_signal(loop: Drains) -> Iterator[None]:
    """Drain at the first signal, let go at the second. For use on the main thread's event loop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    running = asyncio.get_running_loop()
    seen: list[int] = []

    def interrupt(signum: int) -> None:
        seen.append(signum)
        if len(seen) == 1:
            loop.drain(InterruptedRunError(signum))
        else:
            loop.abandon()

    before = {signum: signal.getsignal(signum) for signum in STOPPING}
    for signum in STOPPING:
        running.add_signal_handler(signum, interrupt, signum)
    try:
        yield
    finally:
        for signum in STOPPING:
            running.remove_signal_handler(signum)
            signal.signal(signum, before[signum])
