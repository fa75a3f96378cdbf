"""A server on this machine that limits or computes: the simulator's limits, on a real clock.

`python -m benchmarks.pacing.loopback RATE WINDOW LATENCY` counts requests as a sliding window
of WINDOW seconds does, or as a bucket of one second (WINDOW 0), RATE a second, and answers after
LATENCY seconds. It prints its port, and ends when standard input does; what it saw is told at
GET /seen, as JSON.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from subprocess import PIPE, Popen
from typing import Any
from urllib.request import urlopen

import orjson

from benchmarks import server
from benchmarks.measuring import ROOT, pinned
from benchmarks.pacing.servers import Bucket, Limiter, SlidingWindow, always
from benchmarks.serving import Connection, serve

DIMENSIONS = 128
REFUSED = (
    b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}'
)


@dataclass(slots=True)
class Door:
    """What the server counts by, and what came. Times are seconds of its clock."""

    limiter: Limiter
    latency: float
    taken: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def enter(self, now: float) -> bool:
        """Return whether a request that came now is taken."""
        if self.limiter.wait(now, 1.0) > 0.0:
            self.refused.append(now)
            return False
        self.limiter.take(now, 1.0)
        self.taken.append(now)
        return True


def limited(door: Door) -> Callable[[Connection, bytes], None]:
    """Return how a server with a limit answers; about its `latency`, refusals in a third of it."""
    body = server.openai(1, DIMENSIONS, as_base64=True)
    rng = random.Random(1)

    def answer(line: Connection, request: bytes) -> None:
        if request.startswith(b"GET /seen"):
            line.send("200 OK", orjson.dumps({"taken": door.taken, "refused": door.refused}))
            return
        taken = door.enter(time.monotonic())
        told = ("200 OK", body) if taken else ("429 Too Many Requests", REFUSED)
        seconds = door.latency * (0.5 + rng.random()) / (1.0 if taken else 3.0)
        asyncio.get_running_loop().call_later(seconds, line.send, *told)

    return answer


@contextmanager
def running(*words: str, module: str = "benchmarks.pacing.loopback") -> Iterator[str]:
    """Run this server, or that of another module, in a process; give its address."""
    command = [sys.executable, "-m", module, *words]
    with pinned(server.SERVER_CORE):
        process = Popen(command, stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT)
    with process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"


def seen(url: str) -> dict[str, Any]:
    """Return what a server saw, by name."""
    with urlopen(f"{url}/seen", timeout=10) as answer:  # noqa: S310 - of this machine
        found: dict[str, Any] = orjson.loads(answer.read())
        return found


if __name__ == "__main__":
    rate, window, latency = map(float, sys.argv[1:4])
    counted = SlidingWindow(always(rate), window) if window else Bucket(always(rate), 1.0)
    asyncio.run(serve(limited(Door(counted, latency))))
