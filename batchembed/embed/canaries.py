"""Canary texts: sentences whose vectors stay what they were, unless the model is another."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from batchembed.clock import Clock
from batchembed.embed.loop import Loop
from batchembed.errors import ActionNeededError
from batchembed.exchange import Fatal, Request, Response, Role, Throttled, Unavailable, Vectors

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Planets form from discs of gas and dust.",
    "A recipe for bread needs flour, water, salt and time.",
    "Der Zug nach Heidelberg fährt um zehn nach drei.",
    "Les prix du blé ont baissé pour la troisième semaine.",
    "La biblioteca cierra a las ocho de la tarde.",
    "def area(radius): return 3.14159 * radius ** 2",
    "The court dismissed the appeal for lack of evidence.",
    "Take one tablet twice a day with food.",
    "Quarterly revenue rose by four per cent to 12.7 million.",
    "An octopus has three hearts and blue blood.",
    "机器学习模型把文字变成数字。",
    "To be, or not to be, that is the question.",
    "red, green, blue",
    "How do I reset my password?",
    "The violin concerto in E minor was first heard in Leipzig.",
)
EVERY = 3600.0
SAME = 0.999
MANY = 20_000  # texts to send: from here on, a look costs less than a thousandth of them
TRIES = 5


@dataclass(frozen=True, slots=True)
class Baseline:
    """What the canary texts had for vectors, shape (16, d), and when."""

    vectors: Vectors
    asked: datetime


@dataclass(frozen=True, slots=True)
class Watching:
    """When to look, at which baseline, and what becomes of a change.

    `keep` is given a new baseline, `say` a line for people. `always`: at the start and the end,
    however short the run. `stop`: a change ends the run. Of shards that begin at once one is first:
    `kept` tells what another one kept meanwhile, while it is this one's `turn`.
    """

    role: Role
    baseline: Baseline | None
    keep: Callable[[Baseline], None]
    say: Callable[[str], None]
    clock: Clock
    stop: bool = True
    always: bool = False
    kept: Callable[[], Baseline | None] = lambda: None
    turn: Callable[[], AbstractContextManager[None]] = nullcontext

    def due(self, baseline: Baseline | None) -> bool:
        """Return whether it is long enough ago that the canaries were asked."""
        if baseline is None or self.always:
            return True
        return (self.clock.now() - baseline.asked).total_seconds() >= EVERY


class Watch:
    """Asks for the canary texts while a hot loop runs, and compares."""

    def __init__(self, loop: Loop, watching: Watching, *, texts_per_request: int) -> None:
        self._loop = loop
        self._how = watching
        self._size = texts_per_request
        self._baseline = watching.baseline

    async def begin(self) -> None:
        """Look at the start."""
        if self._how.due(self._baseline):
            await self.look()

    async def end(self) -> None:
        """Look at the end, unless that was done a short while ago."""
        if self._loop.ending is None and self._how.due(self._baseline):
            await self.look()

    async def go_on(self) -> None:
        """Look each hour, until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Ask and compare; a change ends the run or is told. What cannot be had proves nothing."""
        vectors = await self._ask()
        if vectors is None:
            return
        found = compared(self._how, self._baseline, vectors)
        if isinstance(found, Baseline):
            self._baseline = found
        else:
            self._loop.stop(found)

    async def _ask(self) -> Vectors | None:
        """Return the vectors of all texts: the first request alone, as it may be refused."""
        first, *others = self._requests()
        if (answer := await self._answer(first)) is None:
            return None
        found = [answer, *await asyncio.gather(*map(self._answer, others))]
        vectors = [one for one in found if one is not None]
        if len(vectors) < len(found) or len({one.shape[1] for one in vectors}) != 1:
            return None
        return np.concatenate(vectors)

    async def _answer(self, request: Request) -> Vectors | None:
        """Return the vectors of a request, None when there are none that prove anything."""
        for _ in range(TRIES):
            outcome = await self._loop.ask(request)
            if isinstance(outcome, Fatal):
                self._loop.stop(ActionNeededError(outcome.reason, hint=outcome.hint))
            elif isinstance(outcome, Throttled | Unavailable):
                self._loop.mind_patience()
                continue
            elif isinstance(outcome, Response) and outcome.vectors.shape[:1] == (len(request),):
                return outcome.vectors
            return None
        return None

    def _requests(self) -> Iterator[Request]:
        whole = asking(self._how.role)
        for at in range(0, len(TEXTS), self._size):
            yield whole.part(at, min(at + self._size, len(TEXTS)))


def asking(role: Role) -> Request:
    """Return the request for all canary texts; they are no rows, so their keys are zeros."""
    tokens = sum(1 + len(text.encode()) // 4 for text in TEXTS)
    return Request(np.zeros((len(TEXTS), 16), np.uint8), TEXTS, role, tokens=tokens)


def compared(
    how: Watching, before: Baseline | None, vectors: Vectors
) -> Baseline | ActionNeededError:
    """Return the baseline from now on, which is kept, or why the run ends; a change may be told."""
    with how.turn():
        before = before or how.kept()
        moved = before is not None and (least := _least_cosine(before.vectors, vectors)) < SAME
        if before is not None and moved:
            why = _changed(least, before.asked)
            if how.stop:
                return why
            how.say(f"warning: {why.message}")
        kept = vectors if before is None or moved else before.vectors
        found = Baseline(kept, how.clock.now())
        how.keep(found)
        return found


def texts_hash() -> str:
    """Return what names these texts: a baseline of others says nothing."""
    return hashlib.sha256("\n".join(TEXTS).encode()).hexdigest()


def _least_cosine(before: Vectors, now: Vectors) -> float:
    if before.shape != now.shape:
        return -1.0
    a, b = before.astype(np.float64), now.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = (a * b).sum(axis=1) / np.maximum(lengths, 1e-300)
    return float(np.nan_to_num(cosines, nan=-1.0).min())


def _changed(least: float, since: datetime) -> ActionNeededError:
    when = since.isoformat(timespec="minutes")
    return ActionNeededError(
        "the provider's model is another by now: a canary text has a cosine of "
        f"`{least:.4f}` to its vector of {when}",
        hint="embed into a new directory; or go on, with vectors of both, by "
        "--set limits.on_model_change=go_on",
    )
