"""The tasks that work through a feed: some at first, more when more requests may be open."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeAlias

Work: TypeAlias = Coroutine[Any, Any, None]


class Crew:
    """Tasks that can be let go of together. Use on one event loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    async def work(self, works: Iterable[Work]) -> None:
        """Await all these, and what is added meanwhile. The first error ends all, and is raised."""
        try:
            async with asyncio.TaskGroup() as self._group:
                for work in works:
                    self.add(work)
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None
        finally:
            self._group = None

    def add(self, work: Work) -> None:
        """Let one more work beside the others; only while they do."""
        assert self._group is not None
        self._keep(self._group.create_task(work))

    async def beside(self, work: Work) -> None:
        """Await a piece of work of its own kind; `let_go` cancels it too."""
        task = asyncio.create_task(work)
        self._keep(task)
        try:
            await task
        finally:
            task.cancel()

    def let_go(self) -> None:
        """Cancel all."""
        for task in self._tasks:
            task.cancel()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
