"""A server that speaks HTTP by the byte, for what no well-behaved library would ever send."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from . import wire
from .bill import Bill
from .faults import Reply
from .vectors import tokens, vector


@dataclass
class Exchange:
    """One request and the means to answer it, or not. `body` is the right answer's."""

    number: int
    asked: wire.Asked
    body: bytes
    writer: asyncio.StreamWriter
    bill: Bill
    leaving: asyncio.Event

    def charge(self) -> None:
        """Do the work: from here on it is to be paid, whatever comes of the answer."""
        total = sum(map(tokens, self.asked.texts))
        self.bill.write(path="", status=200, texts=self.asked.texts, tokens=total)

    def say(self, raw: bytes) -> None:
        """Write bytes as they stand."""
        self.writer.write(raw)

    def head(self, *lines: str, status: str = "200 OK", length: int | None = -1) -> None:
        """Write a head; `length` is that of the body unless told, None leaves it out."""
        told = [f"HTTP/1.1 {status}", "Content-Type: application/json", *lines]
        if length is not None:
            told.append(f"Content-Length: {len(self.body) if length < 0 else length}")
        self.say("\r\n".join([*told, "", ""]).encode())

    def reset(self) -> None:
        """Tear the connection down (RST)."""
        plug = self.writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Close the connection, as if all had been said."""
        self.writer.close()

    async def pause(self, seconds: float) -> None:
        """Wait so long, or until the server stops."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.leaving.wait(), seconds)


Way = Callable[[Exchange], Awaitable[None]]


async def right(x: Exchange) -> None:
    """Answer as one should."""
    x.charge()
    x.head()
    x.say(x.body)


async def reset_in_the_answer(x: Exchange) -> None:
    """Half an answer, then RST."""
    x.charge()
    x.head()
    x.say(x.body[: len(x.body) // 2])
    await x.writer.drain()
    x.reset()


async def reset_at_once(x: Exchange) -> None:
    """RST in place of an answer, nothing done."""
    x.reset()


async def hung_up(x: Exchange) -> None:
    """The connection is closed in place of an answer."""
    x.close()


async def idle_closed(x: Exchange) -> None:
    """A right answer, and then the connection is closed without a word."""
    await right(x)
    await x.writer.drain()
    x.close()


async def cut_by_length(x: Exchange) -> None:
    """Fewer bytes than promised."""
    x.charge()
    x.head()
    x.say(x.body[:-10])
    x.close()


async def cut_in_chunks(x: Exchange) -> None:
    """A chunked answer without its last chunk."""
    x.charge()
    x.head("Transfer-Encoding: chunked", length=None)
    half = x.body[: len(x.body) // 2]
    x.say(f"{len(half):x}\r\n".encode() + half + b"\r\n")
    x.close()


async def cut_at_the_close(x: Exchange) -> None:
    """An answer that ends with the connection, which comes too early."""
    x.charge()
    x.head("Connection: close", length=None)
    x.say(x.body[: len(x.body) // 2])
    x.close()


async def slow_loris(x: Exchange) -> None:
    """One byte at a time, for ever."""
    x.head()
    for byte in x.body:
        x.say(bytes([byte]))
        await x.pause(0.02)
        if x.leaving.is_set():
            return


async def black_hole(x: Exchange) -> None:
    """Nothing at all."""
    await x.pause(60)


async def late(x: Exchange) -> None:
    """The right answer when nobody waits for it any more."""
    x.charge()
    await x.pause(1.5)
    x.head()
    x.say(x.body)


async def endless(x: Exchange) -> None:
    """Promise 10 GB and begin to send them."""
    x.charge()
    x.head(length=10_000_000_000)
    with contextlib.suppress(ConnectionError):
        for _ in range(2000):
            x.say(b" " * 100_000)
            await x.writer.drain()
    x.close()


async def no_http(x: Exchange) -> None:
    """Something that is no HTTP."""
    x.say(b"\x16\x03\x01 220 mail.example ESMTP\r\n\r\n")
    x.close()


async def no_gzip(x: Exchange) -> None:
    """An answer that says it is packed, and is not."""
    x.charge()
    x.head("Content-Encoding: gzip")
    x.say(x.body)


@dataclass
class RawServer:
    """An embedding API in OpenAI's form on 127.0.0.1; `script(number, texts)` gives the way.

    None is the right way. `down`: every connection is torn down before it says anything, and
    counted in `knocks`.
    """

    script: Callable[[int, list[str]], Way | None] = lambda _number, _texts: None
    host: str = "127.0.0.1"
    bill: Bill = field(default_factory=Bill)
    down: bool = False
    knocks: int = 0
    port: int = 0
    delay: float = 0.0
    _server: asyncio.Server | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _leaving: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://{self.host}:{self.port}"

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's form."""
        return self.url + "/v1"

    async def open(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more."""
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.down:
            self.knocks += 1
            writer.transport.abort()
            return
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                length = next(
                    int(line.partition(":")[2])
                    for line in head.lower().splitlines()
                    if line.startswith("content-length:")
                )
                await self._answer(head, await reader.readexactly(length), writer)
                await writer.drain()
        writer.close()

    async def _answer(self, head: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        asked = wire.read(head.split()[1], body)
        number = self.bill.requests
        self.bill.enter(asyncio.get_running_loop().time(), len(asked.texts))
        try:
            if self.delay:
                await asyncio.sleep(self.delay)
            rows = [vector(text, role=asked.role, model=asked.model) for text in asked.texts]
            reply = Reply(rows, list(range(len(rows))), "fake-1", 1)
            right_body = wire.write(asked, reply, None)
            way = self.script(number, asked.texts) or right
            await way(Exchange(number, asked, right_body, writer, self.bill, self._leaving))
        finally:
            self.bill.now_open -= 1

    def call(self, what: Awaitable[object]) -> object:
        """Do something on the server's own loop, from outside."""
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(timeout=30)


@contextlib.contextmanager
def raw(script: Callable[[int, list[str]], Way | None] | None = None) -> Iterator[RawServer]:
    """Yield a server that runs in a thread of its own."""
    server = RawServer(script or (lambda _number, _texts: None))
    server._loop = loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server.call(server.open())
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(server._leaving.set)
        server.call(server.close())
        server.call(_settled(loop))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=30)
        loop.close()


async def _settled(loop: asyncio.AbstractEventLoop) -> None:
    """Let what still runs end."""
    left = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for one in left:
        one.cancel()
    await asyncio.gather(*left, return_exceptions=True)
