"""Requests that are made ahead of the workers, in a thread, some at a time."""

from __future__ import annotations

import asyncio

from batchembed.embed.parties import Feed
from batchembed.exchange import Request

AHEAD = 2  # for each worker, so many requests wait for it before more are made


class Upcoming:
    """What `workers` take from. The feeder is woken for every list, not for every request."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Request | None] = asyncio.Queue()
        self._few = asyncio.Event()
        self.workers = 0
        self._ended = False

    async def take(self) -> Request | None:
        """Return the next request, waiting for it; None: no more comes."""
        request = await self._queue.get()
        if request is None:
            self._dismiss()
        if self._queue.qsize() <= AHEAD * self.workers:
            self._few.set()
        return request

    def end(self) -> None:
        """Drop what was made; those who wait for a request need not wait for the corpus."""
        self._ended = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self._dismiss()

    async def read(self, feed: Feed, workers: int) -> None:
        """Make all requests of a feed for so many workers; they are dismissed, also on an error."""
        self.workers, made = workers, feed.upcoming()
        try:
            while (some := await asyncio.to_thread(next, made, None)) is not None:
                if self._ended:
                    break
                for request in some:
                    self._queue.put_nowait(request)
                if self._queue.qsize() > AHEAD * self.workers:
                    self._few.clear()
                    await self._few.wait()
        finally:
            self._dismiss()

    def _dismiss(self) -> None:
        """Let every worker, and the feeder, see the end."""
        self._queue.put_nowait(None)  # whoever takes it puts it back for the next
        self._few.set()
