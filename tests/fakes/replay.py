"""A server that says what it is told to say, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> object:
        """The body, None where there is none."""
        return json.loads(self.body) if self.body else None


@dataclass(frozen=True)
class Said:
    """One answer; a body that is no bytes goes out as JSON."""

    status: int = 200
    body: object = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answers = Callable[[Asked], Said] | Mapping[str, Said]


class Replay:
    """A server at `url`: a table of answers by path (404 for others), or a function of `Asked`."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.seen: list[Asked] = []
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        asked = Asked(
            request.method,
            request.path,
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
            await request.read(),
        )
        self.seen.append(asked)
        known = self.answers
        said = known(asked) if callable(known) else known.get(asked.path, Said(404, b"{}"))
        body = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
        headers = {"Content-Type": "application/json", **said.headers}
        return web.Response(status=said.status, body=body, headers=headers)


@contextlib.contextmanager
def replaying(answers: Answers) -> Iterator[Replay]:
    """Yield such a server in a thread of its own, for tests that have no event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(what: object) -> object:
        return asyncio.run_coroutine_threadsafe(what, loop).result(timeout=30)

    server = Replay(answers)
    wait(server.__aenter__())
    try:
        yield server
    finally:
        wait(server.__aexit__())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()
