"""The limiter's own loop: connections in, starts out; what is silent for too long is let go."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from batchembed.clock import Clock
from batchembed.limiter import messages
from batchembed.limiter.account import LEASE, Account, Worker
from batchembed.limiter.link import BEAT, Reader, Writer
from batchembed.limiter.messages import (
    SHOWN,
    VERSION,
    End,
    FromLimiter,
    Hello,
    Look,
    MessageError,
    No,
    Seen,
    Want,
)
from batchembed.pacing.state import INF

MOST_WORKERS = 1000
MOST_ACCOUNTS = 1000
REMEMBERED = 600.0  # seconds, after the last run of an account has left


class Limiter:
    """Serves any number of runs; each account has a pace of its own."""

    def __init__(self, clock: Clock, *, rng: random.Random) -> None:
        self.accounts: dict[str, Account] = {}
        self._left_at = clock.monotonic()
        self._clock, self._rng = clock, rng
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._outboxes: dict[Worker, _Outbox] = {}

    @property
    def workers(self) -> int:
        """How many runs take part now."""
        return len(self._outboxes)

    def idle_for(self) -> float:
        """Return for how many seconds no run has taken part."""
        return 0.0 if self.workers else self._clock.monotonic() - self._left_at

    async def serve(self, reader: Reader, writer: Writer) -> None:
        """Serve one run until it leaves, or breaks off, or says what is no message."""
        outbox = _Outbox(writer)
        try:
            async with asyncio.timeout(LEASE):
                told = await reader.readline()
            if other := messages.other_version(told):
                why = f"it speaks version {VERSION}, and you {other}: install the same"
                outbox.tell(No(why, for_good=True))
                return
            hello = messages.from_run(told)
            if isinstance(hello, Look):
                self._show(outbox)
            elif not isinstance(hello, Hello):
                outbox.tell(No("a run says hello first"))
            elif self._full(hello.name):
                outbox.tell(No("too many runs take part already"))
            else:
                await self._take_part(hello, reader, outbox)
        except (MessageError, ValueError) as error:
            outbox.tell(No(str(error)[:200]))
        except (OSError, TimeoutError):
            pass
        finally:
            outbox.close()

    async def beat(self) -> None:
        """Tell everyone how the limits stand, every few seconds; let go of the silent."""
        while True:
            await asyncio.sleep(BEAT)
            now = self._clock.monotonic()
            for name, account in list(self.accounts.items()):
                for worker in account.expired(now):
                    self._outboxes[worker].close()
                    self._leave(name, account, worker)
                account.tell_all(now)
                if not account.workers and now - account.left_at > REMEMBERED:
                    del self.accounts[name]

    async def _take_part(self, hello: Hello, reader: Reader, outbox: _Outbox) -> None:
        name, now = hello.name, self._clock.monotonic()
        account = self.accounts.setdefault(name, Account(self._rng, now))
        worker = Worker(messages.rates_of(hello), outbox.tell, now)
        self._outboxes[worker] = outbox
        account.join(worker, now, hello.rate)
        try:
            while told := await reader.readline():
                message, now = messages.from_run(told), self._clock.monotonic()
                worker.heard_at = now
                if isinstance(message, Want):
                    if not account.want(worker, message, now):
                        outbox.tell(No("too many starts are asked for at once, or one twice"))
                        return
                elif isinstance(message, End):
                    account.end(worker, message, now)
                self._turn(name, account)
        finally:
            self._leave(name, account, worker)

    def _show(self, outbox: _Outbox) -> None:
        """Tell how every limit stands that anyone takes part in."""
        now = self._clock.monotonic()
        for name, account in self.accounts.items():
            if account.workers:
                standing = account.standing(now)
                outbox.tell(Seen(name[:SHOWN], standing, account.started, account.state.open))

    def _leave(self, name: str, account: Account, worker: Worker) -> None:
        if self._outboxes.pop(worker, None) is None:
            return  # it was let go of before
        self._left_at = self._clock.monotonic()
        account.leave(worker, self._left_at)
        self._turn(name, account)

    def _turn(self, name: str, account: Account) -> None:
        """Grant what may start now, and come back when more may."""
        now = self._clock.monotonic()
        when = account.turn(now)
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
        if when < INF:
            loop = asyncio.get_running_loop()
            self._timers[name] = loop.call_later(max(0.0, when - now), self._turn, name, account)

    def _full(self, name: str) -> bool:
        """Return whether one more run would be too many."""
        new = name not in self.accounts
        return self.workers >= MOST_WORKERS or (new and len(self.accounts) >= MOST_ACCOUNTS)


class _Outbox:
    """What goes to one run: all that is said in one turn of the loop in one write."""

    def __init__(self, writer: Writer) -> None:
        self._writer, self._going, self._closed = writer, list[bytes](), False

    def tell(self, message: FromLimiter) -> None:
        if not self._going:
            asyncio.get_running_loop().call_soon(self._flush)
        self._going.append(messages.line(message))

    def _flush(self) -> None:
        going, self._going = b"".join(self._going), []
        if going and not self._closed:
            self._writer.write(going)

    def close(self) -> None:
        self._flush()
        self._closed = True
        with suppress(OSError):
            self._writer.close()
