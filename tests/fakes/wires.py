"""Connections in memory, for a limiter and its runs in virtual time: bytes, late by a little."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from batchembed.limiter import Limiter
from batchembed.limiter.places import MOST_BYTES


class End:
    """One end of a wire: written bytes reach the other end's reader after `late` seconds."""

    def __init__(self, late: float) -> None:
        self.reader = asyncio.StreamReader(limit=MOST_BYTES)
        self.other: End | None = None
        self.closed = self.cut = False
        self.coming: deque[Callable[[End], None]] = deque()
        self._late = late

    def write(self, data: bytes, /) -> None:
        assert data.endswith(b"\n")
        self._after(lambda end: end.reader.feed_data(data))

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            for end in (self, self.other):
                end._after(End.ended, late=self._late, at=end)

    def _after(self, act: Callable[[End], None], late=None, at=None) -> None:
        end = at or self.other
        if not self.cut:
            end.coming.append(act)
            asyncio.get_running_loop().call_later(late or self._late, end.arrive)

    def arrive(self) -> None:
        """Take what was sent first, whichever timer came: nothing overtakes on a wire."""
        act = self.coming.popleft()
        if not self.cut and not self.reader.at_eof() and not self.reader._eof:
            act(self)

    def ended(self) -> None:
        self.reader.feed_eof()


def wire(late: float) -> tuple[End, End]:
    """Return both ends of a wire."""
    one, other = End(late), End(late)
    one.other, other.other = other, one
    return one, other


class Net:
    """A limiter that can be reached, until it is killed; `late`: how long a word takes."""

    def __init__(self, make: Callable[[], Limiter], late: float = 0.0005) -> None:
        self.limiter: Limiter | None = None
        self.reached = 0
        self._make, self._late = make, late
        self._tasks: list[asyncio.Task] = []
        self._ends: list[End] = []

    def start(self) -> None:
        self.limiter = self._make()
        self._tasks = [asyncio.create_task(self.limiter.beat())]

    async def kill(self) -> None:
        """End it as SIGKILL does: the system closes its connections, and nothing else is said."""
        self.limiter = None
        for end in self._ends:
            end.close()
        self._ends = []
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Let nothing pass any more, and break nothing: as when a cable is pulled."""
        for end in self._ends:
            end.cut = end.other.cut = True

    async def connect(self) -> tuple[asyncio.StreamReader, End]:
        await asyncio.sleep(self._late)
        if self.limiter is None:
            raise ConnectionRefusedError
        self.reached += 1
        ours, theirs = wire(self._late)
        self._ends.append(theirs)
        serving = self.limiter.serve(theirs.reader, theirs)
        self._tasks.append(asyncio.create_task(serving))
        return ours.reader, ours
