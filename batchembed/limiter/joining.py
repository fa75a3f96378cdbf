"""A run takes part in a limit that it shares with others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress

from batchembed.clock import Clock
from batchembed.errors import RunHeldError, UsageError
from batchembed.limiter import daemon, messages
from batchembed.limiter.link import PATIENCE, Link, Reader, Writer
from batchembed.limiter.messages import Look, Seen
from batchembed.limiter.places import Place, connect
from batchembed.pacing import Pacer, Rates

PATIENCE_WITH_A_START = 10.0
A_LOOK = 0.1
STARTS = 3  # without success: one is a process, and costs a second


def link_to(
    place: Place,
    name: str,
    rates: Rates,
    *,
    clock: Clock,
    rng: random.Random,
    say: Callable[[str], None],
) -> Link:
    """Return the way of a run with these limits to the limiter at a place, not open yet."""
    starts = STARTS if place.starts else 0

    async def reach() -> tuple[Reader, Writer]:
        nonlocal starts
        try:
            return await connect(place)
        except OSError:
            if not starts:
                raise
        starts -= 1
        way = await _started(place)
        starts = STARTS
        return way

    hello = messages.hello(name, rates)
    patience = PATIENCE_WITH_A_START if place.starts else PATIENCE
    return Link(reach, hello, clock=clock, rng=rng, say=say, where=str(place), patience=patience)


async def _started(place: Place) -> tuple[Reader, Writer]:
    """Start a limiter, or wait for one that another run has just started. Raises OSError."""
    process = daemon.start(place)
    for _ in range(round(PATIENCE_WITH_A_START / A_LOOK)):
        await asyncio.sleep(A_LOOK)
        ended = process.poll()
        with suppress(OSError):
            return await connect(place)
        if ended not in (None, RunHeldError.exit_code):
            break
    command = f"batchembed limiter --listen {place}"
    raise OSError(f"none could be started, see `{command}`")


def look(place: Place) -> list[Seen]:
    """Return how the limits stand that runs share at a place. Raises UsageError: no limiter."""
    return asyncio.run(_look(place))


async def _look(place: Place) -> list[Seen]:
    seen = []
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await connect(place)
            with closing(writer):
                writer.write(messages.line(Look()))
                while told := await reader.readline():
                    if isinstance(message := messages.from_limiter(told), Seen):
                        seen.append(message)
    except (OSError, TimeoutError, ValueError) as error:
        raise UsageError(
            f"no limiter answers at `{place}`", hint="`batchembed limiter` starts one"
        ) from error
    return seen


@asynccontextmanager
async def taking_part(link: Link, pacer: Pacer) -> AsyncIterator[None]:
    """Keep the way open as long as the block lasts; begin when the limiter has answered, or not."""
    link.hear = pacer.hear
    link.rate = lambda: min(pacer.state.request_rate, pacer.state.found)
    keeping = asyncio.create_task(link.keep())
    try:
        await link.joined()
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
