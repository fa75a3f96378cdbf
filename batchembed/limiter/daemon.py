"""The limiter as a process: listens until it is stopped, or nobody has taken part for long."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from batchembed.clock import Clock
from batchembed.errors import RunHeldError, UsageError
from batchembed.limiter.link import BEAT
from batchembed.limiter.places import ELSEWHERE, MOST_BYTES, Limited, Place, private_folder, reason
from batchembed.limiter.serving import Limiter

IDLE_WHEN_STARTED = "5m"
KEPT = {
    *("PATH", "HOME", "LANG", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
}
_STARTED: list[subprocess.Popen[bytes]] = []


def serve(
    place: Place, clock: Clock, *, idle: float | None, ready: Callable[[Place], None]
) -> None:
    """Serve at a place until SIGTERM or Ctrl-C, or until nobody took part for `idle` seconds.

    `ready` is told where, once it listens. Raises RunHeldError where another limiter listens,
    UsageError where nobody can.
    """
    asyncio.run(_serve(place, clock, idle, ready))


async def _serve(
    place: Place, clock: Clock, idle: float | None, ready: Callable[[Place], None]
) -> None:
    limiter = Limiter(clock, rng=random.Random())  # noqa: S311 - jitter, no secret
    stopped = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    stopping = asyncio.create_task(stopped.wait())
    async with _listening(place, limiter) as there:
        ready(place)
        beating = asyncio.create_task(limiter.beat())
        ends: set[asyncio.Task[Any]] = {stopping, beating}
        while not stopped.is_set():
            left = BEAT if idle is None else min(BEAT, idle - limiter.idle_for())
            if left <= 0.0 or not there():
                return
            await asyncio.wait(ends, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if beating.done():
                beating.result()  # it never ends but by a mistake of ours, which is raised here


@contextlib.asynccontextmanager
async def _listening(place: Place, limiter: Limiter) -> AsyncIterator[Callable[[], bool]]:
    """Listen at a place; what is given says whether runs still find it there.

    Who is connected at the end is let go when the loop ends.
    """
    path = Path(place.path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await limiter.serve(reader, Limited(writer))

    with _alone(path) if place.path else contextlib.nullcontext():
        try:
            if place.path:
                server = await asyncio.start_unix_server(serve, place.path, limit=MOST_BYTES)
            else:
                server = await asyncio.start_server(serve, place.host, place.port, limit=MOST_BYTES)
        except OSError as error:
            raise UsageError(
                f"cannot listen at `{place}`: {reason(error)}",
                hint="does something else listen there?",
            ) from error
        mine = _which(path) if place.path else None

        def there() -> bool:
            return mine is None or _which(path) == mine

        try:
            yield there
        finally:
            if mine is not None and there():
                os.unlink(path)  # noqa: PTH108 - nothing to wait for
            server.close()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Be the only limiter of a socket, and take the place of one that died; for its user alone."""
    private_folder(path.parent)
    try:
        lock = os.open(
            path.with_name(f"{path.name}.lock"),
            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
        )
    except OSError as error:
        raise UsageError(
            f"cannot listen at `unix:{path}`: {error.strerror}", hint=ELSEWHERE
        ) from error
    before = os.umask(0o177)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunHeldError(
                f"another limiter listens at `unix:{path}`", hint="runs find that one"
            ) from None
        _remove_socket(path)
        yield
    finally:
        os.umask(before)
        os.close(lock)


def _which(path: Path) -> tuple[int, int] | None:
    """Return which file a path is; None: there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_socket(path: Path) -> None:
    """Remove what a limiter left that died. Raises UsageError where something else is there."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise UsageError(f"cannot listen at `unix:{path}`: a file is there", hint=ELSEWHERE)
        path.unlink()


def start(place: Place) -> subprocess.Popen[bytes]:
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
        cwd=Path(__file__).parents[2],  # where Python finds this very package
        env={name: told for name, told in os.environ.items() if name in KEPT},
    )
    _STARTED.append(process)  # it goes on when this process ends
    return process
