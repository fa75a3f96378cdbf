"""HTTP/1.1 as far as stand-in servers need it: whole requests in, whole answers out."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """One connection; `answer` is called with it and each request that is whole."""

    def __init__(self, answer: Callable[[Connection, bytes], None]) -> None:
        self._answer = answer
        self._in = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the requests that are whole."""
        self._in += data
        while (head := self._in.find(b"\r\n\r\n")) >= 0:
            told = _LENGTH.search(self._in, 0, head + 2)
            whole = head + 4 + (int(told[1]) if told else 0)
            if len(self._in) < whole:
                return
            request, self._in = self._in[:whole], self._in[whole:]
            self._answer(self, request)

    def send(self, status: str, body: bytes) -> None:
        """Send an answer whose body is JSON, if the client is still there."""
        assert self._transport is not None
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        self._transport.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)


async def serve(answer: Callable[[Connection, bytes], None]) -> None:
    """Serve on a free port, printed, until standard input ends."""
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(answer), "127.0.0.1", 0, backlog=512)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
