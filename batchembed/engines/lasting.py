"""How long an engine goes on: the beat in which time is seen, and the deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from batchembed.errors import BatchembedError, NotFinishedError
from batchembed.interrupts import Drains
from batchembed.monitor import Monitor

BEAT = 0.5

Objection = Callable[[int | None], BatchembedError | None]


class Beats(Drains, Protocol):
    """A loop that something may end from outside."""

    ending: BatchembedError | None

    @property
    def dimensions(self) -> int | None:
        """How many numbers a vector has, once that is known."""

    def mind_patience(self) -> None:
        """End the run if it waits for too long, also for what others that share its limit saw."""


@contextmanager
def beating(loop: Beats, monitor: Monitor, objection: Objection) -> Iterator[None]:
    """Let time be seen while nothing happens: by the monitor, and by what may end the run."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(BEAT)
            monitor.tick()
            if loop.ending is None and (why := objection(loop.dimensions)):
                loop.drain(why)
            if loop.ending is None:
                loop.mind_patience()

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()


@contextmanager
def deadline(
    loop: Drains, seconds: float | None, standing: Callable[[], str] = str
) -> Iterator[None]:
    """Stop the hot loop after so many seconds; `standing` tells why it stood still then."""
    if seconds is None:
        yield
        return

    def end() -> None:
        told = standing()
        loop.drain(
            NotFinishedError(
                f"the deadline of `{seconds:.0f}` s is over" + (f"; {told}" if told else ""),
                hint="run the same command again to continue",
            )
        )

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        yield
    finally:
        timer.cancel()
