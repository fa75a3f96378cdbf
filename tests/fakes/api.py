"""The stand-in for embedding APIs: real sockets, known vectors, an honest bill, faults to order."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import orjson
from aiohttp import web

from . import wire
from .batches import BatchDesk
from .bill import Bill
from .faults import Fault, Reply, Seen
from .vectors import DIMENSIONS, tokens, vector

Script = Callable[[Seen], Fault | None] | Sequence[Fault | None]


class Server:
    """An embedding API at `url` (Aleph Alpha) and `openai_url`, on 127.0.0.1.

    `script` decides the fault of each request: a sequence (used up in order) or a function of
    `Seen`. A text holding POISON is refused with 400, one holding NANPOISON gets a NaN.
    """

    def __init__(
        self,
        *,
        script: Script = (),
        dimensions: int = DIMENSIONS,
        bill: Path | str | None = None,
        key: str | None = None,
        model_version: str = "fake-1",
        requests_per_minute: float | None = None,
        window: float = 60.0,
        retry_after: bool = True,
        texts_per_request: int | None = None,
        too_many_status: int = 400,
        tokens_per_request: int | None = None,
        tokens_per_text: int | None = None,
        tells_lengths: bool = False,
        refuse_all: bool = False,
        delay: float = 0.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        about: dict[str, bytes] | None = None,
        batches: BatchDesk | None = None,
    ) -> None:
        self.batches = batches
        self.about = about or {}  # by path: what it says of itself
        self.inquiries: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.script, self.dimensions, self.key = script, dimensions, key
        self.model_version, self.delay, self.refuse_all = model_version, delay, refuse_all
        self.requests_per_minute, self.window = requests_per_minute, window
        self.retry_after = retry_after
        self.texts_per_request, self.too_many_status = texts_per_request, too_many_status
        self.tokens_per_request = tokens_per_request
        self.tokens_per_text, self.tells_lengths = tokens_per_text, tells_lengths
        self.bill = Bill(Path(bill) if bill else None)
        self.last: dict[str, object] = {}  # path, query, headers and body of the last request
        self._sleep, self._clock, self._port, self._tls = sleep, clock, port, tls
        self._admitted: deque[float] = deque()
        self._runner: web.AppRunner | None = None
        self.url = ""

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's form."""
        return self.url + "/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await site.start()
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        self.bill.close()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if self.batches is not None and request.path.startswith(("/v1/files", "/v1/batch")):
            return self.batches.serve(self, request, body)
        if request.method == "GET":
            return self._about(request)
        asked = wire.read(request.path, body)
        self.last = {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "headers": dict(request.headers),
            "body": body,
        }
        number = self.bill.requests
        self.bill.enter(self._clock(), len(asked.texts) if asked else 0)
        try:
            if asked is None:
                return self._refusal(request, 404, "no such path, or a body without meaning")
            seen = Seen(number, request.path, asked.texts, asked.role, self._clock())
            fault = self._fault(seen) or Fault()
            wait = self.delay + fault.delay
            if wait == math.inf:
                await asyncio.Event().wait()
            if wait:
                await self._sleep(wait)
            return await self._answer(request, asked, fault)
        finally:
            self.bill.now_open -= 1

    def _about(self, request: web.Request) -> web.Response:
        """Answer what the server is asked about itself: no text, so nothing on the bill."""
        self.inquiries.append((request.path, dict(request.query), dict(request.headers)))
        told = self.about.get(request.path.removeprefix("/v1").lstrip("/"))
        return web.Response(body=told or b"{}", status=200 if told else 404)

    def _fault(self, seen: Seen) -> Fault | None:
        if callable(self.script):
            return self.script(seen)
        return self.script[seen.number] if seen.number < len(self.script) else None

    async def _answer(
        self, request: web.Request, asked: wire.Asked, fault: Fault
    ) -> web.StreamResponse:
        objection = self._objection(request, asked)
        if objection is not None and fault.status is None:
            return objection
        if fault.status is not None:
            self.bill.write(path=request.path, status=fault.status, texts=[], tokens=0)
            body = fault.body or b""
            return web.Response(body=body, status=fault.status, headers=dict(fault.headers))
        total = sum(map(tokens, asked.texts))
        body = fault.body
        if body is None:
            reply = fault.reply(self._right(asked, total))
            body = wire.write(asked, reply, fault.encoding)
        self.bill.write(path=request.path, status=200, texts=asked.texts, tokens=total)
        if fault.reset:
            return _torn(request)
        headers = {"Content-Type": "application/json", **fault.headers}
        headers["x-request-id"] = f"req-{self.bill.requests}"
        if fault.keep is not None:
            return await _cut(request, body, headers, fault.keep)
        return web.Response(body=body, headers=headers)

    def _right(self, asked: wire.Asked, total: int) -> Reply:
        size = asked.dimensions or self.dimensions
        told = {"role": asked.role, "model": asked.model, "dimensions": size, "unit": asked.unit}
        more = asked.more
        rows = [
            np.concatenate(
                [
                    vector(text, controls=c, more=(*more, *output), **told)
                    for output in ((wire.absolute(n), p) for n, p in asked.outputs)
                ]
                if asked.outputs
                else [vector(text, controls=c, more=more, **told)]
            )
            for text, c in zip(asked.texts, asked.controls, strict=True)
        ]
        for text, row in zip(asked.texts, rows, strict=True):
            if "NANPOISON" in text:
                row[0] = float("nan")
        return Reply(rows, list(range(len(rows))), self.model_version, total)

    def _objection(  # noqa: PLR0911 - one for each limit
        self, request: web.Request, asked: wire.Asked
    ) -> web.Response | None:
        """Return the refusal that an honest server with these limits would give."""
        given = request.headers.get("Authorization", "")
        if self.key is not None and given != f"Bearer {self.key}":
            return self._refusal(request, 401, f"Incorrect API key provided: {given[7:]}")
        if not self._admit():
            left = max(0.0, self.window - (self._clock() - self._admitted[0]))
            headers = {"Retry-After": f"{left:.3f}"} if self.retry_after else {}
            return self._refusal(request, 429, "too many requests", headers)
        most = self.texts_per_request
        if most is not None and len(asked.texts) > most:
            words = f"batch size {len(asked.texts)} > maximum allowed batch size {most}"
            return self._refusal(request, self.too_many_status, words)
        total = sum(map(tokens, asked.texts))
        if self.tokens_per_request is not None and total > self.tokens_per_request:
            words = f"Requested {total} tokens, max {self.tokens_per_request} tokens per request"
            return self._refusal(request, 400, words)
        longest = max(map(tokens, asked.texts), default=0)
        if self.tokens_per_text is not None and longest > self.tokens_per_text:
            words = f"This model's maximum context length is {self.tokens_per_text} tokens"
            more = f", however you requested {longest} tokens" if self.tells_lengths else ""
            return self._refusal(request, 400, words + more)
        if self.refuse_all or any("POISON" in t.replace("NANPOISON", "") for t in asked.texts):
            return self._refusal(request, 400, "a text is not acceptable")
        return None

    def _admit(self) -> bool:
        """Return whether any `window` seconds, this moment included, stay within the limit."""
        if self.requests_per_minute is None:
            return True
        now = self._clock()
        while self._admitted and now - self._admitted[0] >= self.window:
            self._admitted.popleft()
        if len(self._admitted) >= self.requests_per_minute * self.window / 60:
            return False
        self._admitted.append(now)
        return True

    def _refusal(
        self, request: web.Request, status: int, message: str, headers: dict[str, str] | None = None
    ) -> web.Response:
        self.bill.write(path=request.path, status=status, texts=[], tokens=0)
        error = {"message": message, "type": "scripted", "param": None, "code": None}
        told: object = {"error": error}
        if not request.path.endswith("/embeddings"):
            told = {"error": message, "code": "SCRIPTED"}
        return web.Response(
            body=orjson.dumps(told), status=status, headers=headers, content_type="application/json"
        )


def _torn(request: web.Request) -> web.Response:
    assert request.transport is not None
    plug = request.transport.get_extra_info("socket")
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response()


async def _cut(
    request: web.Request, body: bytes, headers: dict[str, str], share: float
) -> web.StreamResponse:
    answer = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
    await answer.prepare(request)
    await answer.write(body[: int(len(body) * share)])
    assert request.transport is not None
    request.transport.close()
    return answer


@contextlib.contextmanager
def running(**settings: object) -> Iterator[Server]:
    """Yield a server that runs in a thread of its own, for tests that have no event loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(what: object) -> object:
        return asyncio.run_coroutine_threadsafe(what, loop).result(timeout=30)

    server = Server(**settings)
    wait(server.__aenter__())
    try:
        yield server
    finally:
        wait(server.__aexit__())
        wait(_ended())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()


async def _ended() -> None:
    """End what still waits in this loop, such as a request whose answer never comes."""
    waiting = asyncio.all_tasks() - {asyncio.current_task()}
    for one in waiting:
        one.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
