"""The limiter as a process: listens until it is stopped, or nobody has taken part for long."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from batchembed.clock import Clock
from batchembed.errors import InterruptedRunError, RunHeldError, UsageError
from batchembed.limiter.link import BEAT
from batchembed.limiter.messages import MOST_BYTES
from batchembed.limiter.places import Limited, Place, private_folder
from batchembed.limiter.serving import Limiter

IDLE_WHEN_STARTED = "5m"
KEPT = {"PATH", "HOME", "LANG", "PYTHONPATH", "VIRTUAL_ENV", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"}
_STARTED: list[subprocess.Popen[bytes]] = []


def serve(
    place: Place, clock: Clock, *, idle: float | None, ready: Callable[[Place], None]
) -> None:
    """Serve at a place until SIGTERM or Ctrl-C, or until nobody took part for `idle` seconds.

    `ready` is told where, once it listens. Raises RunHeldError where another limiter listens,
    UsageError where nobody can, InterruptedRunError after a signal.
    """
    asyncio.run(_serve(place, clock, idle, ready))


async def _serve(
    place: Place, clock: Clock, idle: float | None, ready: Callable[[Place], None]
) -> None:
    limiter = Limiter(clock, rng=random.Random())  # noqa: S311 - jitter, no secret
    stopped: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, _stop, stopped, signum)
    async with _listening(place, limiter) as there:
        ready(there)
        beating: asyncio.Future[int | None] = asyncio.create_task(limiter.beat())
        try:
            while not stopped.done():
                await asyncio.wait({stopped, beating}, timeout=BEAT)
                if beating.done():
                    beating.result()
                quiet = 0.0 if limiter.workers else clock.monotonic() - limiter.idle_since
                if idle is not None and quiet > idle:
                    return
        finally:
            beating.cancel()
    raise InterruptedRunError(stopped.result() or signal.SIGTERM)


def _stop(stopped: asyncio.Future[int | None], signum: int) -> None:
    if not stopped.done():
        stopped.set_result(signum)


@contextlib.asynccontextmanager
async def _listening(place: Place, limiter: Limiter) -> AsyncIterator[Place]:
    """Listen at a place; give the place itself, with its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await limiter.serve(reader, Limited(writer))

    if place.path:
        with _alone(Path(place.path)):
            server = await asyncio.start_unix_server(serve, place.path, limit=MOST_BYTES)
            async with server:
                yield place
        return
    try:
        server = await asyncio.start_server(serve, place.host, place.port, limit=MOST_BYTES)
    except OSError as error:
        raise UsageError(
            f"cannot listen at `{place}`: {error.strerror}",
            hint="does another limiter listen there?",
        ) from error
    async with server:
        yield Place(host=place.host, port=server.sockets[0].getsockname()[1])


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only limiter of a socket, and take the place of one that died."""
    private_folder(path.parent)
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunHeldError(
                f"another limiter listens at `unix:{path}`", hint="runs find that one"
            ) from None
        path.unlink(missing_ok=True)
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def start(place: Place) -> None:
    """Start a limiter in a process of its own, which ends by itself; there may be one already.

    It is given none of this process's environment that could hold a key.
    """
    command = [sys.executable, "-m", "batchembed", "limiter", "--listen", str(place)]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(  # noqa: S603 - our own program
        [*command, "--idle", IDLE_WHEN_STARTED],
        stdin=nothing,
        stdout=nothing,
        stderr=nothing,
        start_new_session=True,
        env={name: told for name, told in os.environ.items() if name in KEPT},
    )
    _STARTED.append(process)  # it goes on when this process ends
