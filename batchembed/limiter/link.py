"""A run's way to a limiter: asks for starts, tells how attempts ended, comes back when it can."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol, TypeAlias

from batchembed.clock import Clock
from batchembed.exchange import Outcome
from batchembed.limiter import messages
from batchembed.limiter.account import LEASE
from batchembed.limiter.messages import (
    End,
    FromLimiter,
    FromRun,
    Hello,
    Here,
    MessageError,
    No,
    Stands,
    Start,
    Want,
)
from batchembed.limiter.places import reason
from batchembed.pacing import Permit, Shared

BEAT = LEASE / 3.0
PATIENCE = 2.0
FIRST_WAIT, LONGEST_WAIT, A_MINUTE = 0.125, 3.0, 60.0
HELD = LEASE  # seconds: a way that breaks sooner was none


class Reader(Protocol):
    """What comes in."""

    async def readline(self) -> bytes:
        """Return the next line; nothing when there will be no more. Raises ValueError: too long."""


class Writer(Protocol):
    """What goes out."""

    def write(self, data: bytes, /) -> None:
        """Send."""

    def close(self) -> None:
        """Send nothing more."""


Connect: TypeAlias = Callable[[], Awaitable[tuple[Reader, Writer]]]


class Link:
    """A way to the limiter that `connect` reaches; `hello` says of what limit this run is part.

    `hear` is told how the limit stands, and None when the limiter is gone; `say` has words for
    people; `rate` says how many requests a second the run has by itself. It waits `patience`
    seconds for the limiter's first word before it goes alone.
    """

    def __init__(
        self,
        connect: Connect,
        hello: Hello,
        *,
        clock: Clock,
        rng: random.Random,
        say: Callable[[str], None],
        where: str = "",
        patience: float = PATIENCE,
    ) -> None:
        self.up = False
        self._since = -math.inf
        self.hear: Callable[[Shared | None], None] = lambda _: None
        self.rate: Callable[[], float] = lambda: math.inf
        self._connect, self._hello = connect, hello
        self._clock, self._rng, self._say = clock, rng, say
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[tuple[Permit, str] | None]] = {}
        self._asked: dict[int, Want] = {}
        self._writer: Writer | None = None
        self._going: list[bytes] = []
        self._joined = asyncio.Event()
        self._patience = patience
        self._refused: No | None = None
        self._absent = False
        self._where = f" at {where}" if where else ""

    async def permit(self, tokens: float, texts: int) -> tuple[Permit, str] | None:
        """Wait for a start; None: the limiter is gone. And what the start had to wait for."""
        number = next(self._numbers)
        future: asyncio.Future[tuple[Permit, str] | None] = (
            asyncio.get_running_loop().create_future()
        )
        want = Want(number, tokens, texts)
        self._waiting[number], self._asked[number] = future, want
        self._send(want)
        try:
            return await future
        except asyncio.CancelledError:
            self._send(End(number, "lost"))
            raise
        finally:
            del self._waiting[number], self._asked[number]

    def settle(self, permit: Permit, outcome: Outcome | None) -> bool:
        """Tell how an attempt ended; False: there is no limiter that could be told."""
        if self.up and permit.lease:
            self._send(messages.end_of(permit.lease, outcome))
        return self.up

    def stop(self) -> None:
        """Let whoever waits for a start have None; the limiter is told that it is not wanted."""
        for number, future in self._waiting.items():
            if not future.done():
                future.set_result(None)
                self._send(End(number, "lost"))

    async def joined(self) -> bool:
        """Wait for the limiter's first word, not too long; return whether it came."""
        try:
            async with asyncio.timeout(self._patience):
                await self._joined.wait()
        except TimeoutError:
            self._note_absence("does not answer")
        return self.up

    async def keep(self) -> None:
        """Keep the way open until cancelled: connect, listen, and try again when it breaks."""
        failures = 0
        try:
            while True:
                held = await self._once()
                if self._refused is not None and self._refused.for_good:
                    return
                failures = 0 if held is not None and held >= HELD else min(failures + 1, 10)
                longest = LONGEST_WAIT if held is None or held >= HELD else A_MINUTE
                wait = A_MINUTE if self._refused else min(longest, FIRST_WAIT * 2.0**failures)
                await asyncio.sleep(wait * (0.5 + self._rng.random() / 2.0))
        finally:
            self._close(ended=True)

    async def _once(self) -> float | None:
        """Take part until the way breaks; return for how many seconds, None: not at all."""
        try:
            async with asyncio.timeout(LEASE):
                reader, self._writer = await self._connect()
        except TimeoutError:
            self._note_absence("does not answer")
            return None
        except OSError as error:
            self._note_absence(f"cannot be reached ({reason(error)})")
            return None
        why, held = "is gone", None
        rate = self.rate()
        brought = rate if self._absent and math.isfinite(rate) else None
        self._send(replace(self._hello, rate=brought))
        beating = asyncio.create_task(self._beat())
        try:
            while True:
                async with asyncio.timeout(LEASE):
                    told = await reader.readline()
                if not told.endswith(b"\n"):  # it is gone, perhaps in the middle of a word
                    break
                self._take(messages.from_limiter(told))
        except asyncio.CancelledError:  # the run has ended
            self._close(ended=True)
            raise
        except TimeoutError:
            why = "does not answer"
        except OSError:
            pass
        except (MessageError, ValueError):
            why = "says what this version does not understand"
        finally:
            beating.cancel()
            held = self._clock.monotonic() - self._since if self.up else None
            self._close()
        self._note_absence(why)
        return held

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT)
            self._send(Here())

    def _take(self, message: FromLimiter) -> None:
        if isinstance(message, Start):
            self._start(message)
        elif isinstance(message, Stands):
            if not self.up:
                self.up, self._since, self._refused = True, self._clock.monotonic(), None
                self._joined.set()
                if self._absent:
                    self._say(f"note: the limiter{self._where} is back; it grants the starts again")
                self._absent = False
            self.hear(message.standing)
        elif isinstance(message, No):
            if self._refused is None:
                who = f"the limiter{self._where}"
                self._say(f"warning: {who} does not take this run: {message.reason}")
            self._refused = message

    def _start(self, start: Start) -> None:
        future = self._waiting.get(start.number)
        if future is None or future.done():  # its end was told, or is about to be
            return
        want = self._asked[start.number]
        permit = Permit(
            want.tokens,
            start.cost,
            self._clock.monotonic(),
            start.probe,
            want.texts,
            lease=start.number,
        )
        future.set_result((permit, start.why))

    def _note_absence(self, why: str) -> None:
        """Say once that the limiter is not there."""
        if not self._absent and not self._refused:
            who = f"the limiter{self._where} {why}"
            self._say(f"warning: {who}; this run paces itself until it is back")
        self._absent = True
        self._joined.set()

    def _send(self, message: FromRun) -> None:
        """Send with all else that is said in this turn of the loop."""
        if self._writer is None:
            return
        if not self._going:
            asyncio.get_running_loop().call_soon(self._flush)
        self._going.append(messages.line(message))

    def _flush(self) -> None:
        going, self._going = b"".join(self._going), []
        if self._writer is not None:
            self._writer.write(going)

    def _close(self, *, ended: bool = False) -> None:
        """Break the way: who waits for a start goes on alone, unless the run has ended."""
        if self._writer is not None:
            self._writer.close()
        self._writer, self._going = None, []
        if self.up and not ended:
            self.up = False
            self.hear(None)
        self.up = False
        self.stop()
