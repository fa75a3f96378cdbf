"""The stand-in server as a process of its own: `python -m tests.fakes.server --port 0 …`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from . import faults
from .api import Server
from .faults import Fault, Seen
from .vectors import DIMENSIONS


def main() -> None:
    """Serve until `--seconds` are over; the first line of output is the address."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.server", description=__doc__)
    numbers = {"--port": 0, "--dimensions": DIMENSIONS, "--texts-per-request": None}
    for name, default in numbers.items():
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--tokens-per-request", type=int)
    parser.add_argument("--requests-per-minute", type=float)
    parser.add_argument("--window", type=float, default=60.0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--bill")
    parser.add_argument("--key")
    parser.add_argument("--model-version", default="fake-1")
    parser.add_argument("--fault", action="append", default=[], help="name[=value][@number]")
    parser.add_argument("--seconds", type=float, default=300.0, help="end after so long, always")
    told = vars(parser.parse_args())
    seconds, scripted = told.pop("seconds"), [faults.named(words) for words in told.pop("fault")]

    def script(seen: Seen) -> Fault | None:
        found = [fault for number, fault in scripted if number in (None, seen.number)]
        whole = Fault()
        for fault in found:
            whole |= fault
        return whole if found else None

    async def serve() -> None:
        async with Server(script=script, **told) as server:
            print(server.url, flush=True)
            await asyncio.sleep(seconds)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
