"""Runs that share a limit, in virtual time: the code of pacer, link and limiter as it stands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from batchembed.exchange import Outcome, Response, Throttled, Unavailable
from batchembed.limiter import Limiter, Link, messages, taking_part
from batchembed.limiter.messages import Hello
from batchembed.pacing import Pacer, Permit, Rates

from .time import Clock, now
from .wires import Net

NAME = "0" * 32
VECTORS = np.zeros((0, 1), np.float32)


def net_of(late: float = 0.0005, seed: int = 1) -> Net:
    """Return a limiter that listens, and the way to it."""
    net = Net(lambda: Limiter(Clock(), rng=random.Random(seed)), late)
    net.start()
    return net


def hello(rates: Rates = Rates(), name: str = NAME) -> Hello:  # noqa: B008 - frozen
    """Return what a run with such limits says first."""
    return messages.hello(name, rates)


class Run:
    """A run with endless demand of so many requests at once, which a server of `world` answers.

    `seen` has the time and the kind of each answer, `said` the words for people.
    """

    def __init__(self, net: Net, world, rates: Rates, *, number: int, at_once: int = 16) -> None:
        rng = random.Random(number)
        self.said: list[tuple[float, str]] = []
        self.link = Link(net.connect, hello(rates), clock=Clock(), rng=rng, say=self._say)
        self.pacer = Pacer(rates, Clock(), rng=rng, link=self.link)
        self.seen: list[tuple[float, str]] = []
        self._world, self._rng, self._at_once = world, rng, at_once
        self._task: asyncio.Task | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._all())

    async def kill(self) -> None:
        """End it as SIGKILL does: what is open is never told of."""
        self.pacer.settle = lambda *_: None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def end(self) -> None:
        """Let it start nothing more, and wait for what is open."""
        self.pacer.stop()
        await self._task

    def count(self, kind: str, begin: float = 0.0, end: float = float("inf")) -> int:
        """Return how many answers of a kind came in a time."""
        return sum(k == kind and begin <= at < end for at, k in self.seen)

    def _say(self, words: str) -> None:
        self.said.append((now(), words))

    async def _all(self) -> None:
        async with taking_part(self.link, self.pacer):
            await asyncio.gather(*(self._one() for _ in range(self._at_once)))

    async def _one(self) -> None:
        while (permit := await self.pacer.permit(100)) is not None:
            await self._attempt(permit)

    async def _attempt(self, permit: Permit) -> None:
        outcome: Outcome | None = None
        try:
            await asyncio.sleep(0.02 + self._rng.expovariate(100))
            answer = self._world.serve(now(), 100, self._rng)
            self.seen.append((now(), answer.kind))
            await asyncio.sleep(answer.seconds + 0.02)
            outcome = {
                "accepted": Response(VECTORS, 100),
                "throttled": Throttled("429", answer.wait),
                "failed": Unavailable("503"),
            }[answer.kind]
        finally:
            self.pacer.settle(permit, outcome)


def used(runs: Iterable[Run], limit: float, begin: float, end: float) -> float:
    """Return the share of a limit a second that runs used together."""
    return sum(run.count("accepted", begin, end) for run in runs) / limit / (end - begin)


def refused(runs: Iterable[Run], begin: float = 0.0, end: float = float("inf")) -> float:
    """Return the share of 429s of what was answered."""
    runs = list(runs)
    bad = sum(run.count("throttled", begin, end) for run in runs)
    return bad / max(1, bad + sum(run.count("accepted", begin, end) for run in runs))
