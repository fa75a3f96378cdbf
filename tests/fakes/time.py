"""Virtual time: an event loop whose clock jumps to the next timer, and clocks set by hand."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


class NothingWillHappenError(RuntimeError):
    """Everyone waits, and no timer is set: in real time this is a program that hangs."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without waiting: when nothing is ready, it is the time of the next timer.

    What goes to a thread runs at once, in no time, so that every run is the same. `late` says by
    how many seconds the next timer comes late, as real ones do.
    """

    def __init__(self, late: Callable[[], float] = lambda: 0.0) -> None:
        self._seconds = 0.0
        self._late = late
        super().__init__()

    def time(self) -> float:
        return self._seconds

    def run_in_executor(
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's to judge
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        while self._scheduled and self._scheduled[0]._cancelled:
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not self._ready and not self._stopping:
            if not self._scheduled:
                raise NothingWillHappenError
            self._seconds = max(self._seconds, self._scheduled[0]._when + self._late())
        super()._run_once()


def run(
    main: Callable[[], Coroutine[Any, Any, Any]], late: Callable[[], float] = lambda: 0.0
) -> Any:
    """Run a coroutine function to its end in virtual time, and return what it returned."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(late)) as runner:
        return runner.run(main())


def now() -> float:
    """Return the seconds since the virtual loop began."""
    return asyncio.get_running_loop().time()


class Clock:
    """The clock of the loop that runs."""

    def monotonic(self) -> float:
        return now()

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=now())


class HandClock:
    """A clock that moves when a test moves it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds)
