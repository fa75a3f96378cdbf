"""One attempt over the network: the only file that speaks HTTP, and it never raises."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from email.utils import format_datetime
from http import HTTPStatus

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from batchembed.clock import Clock, SystemClock
from batchembed.errors import ActionNeededError
from batchembed.exchange import (
    About,
    Call,
    Dialect,
    Inquirer,
    Limits,
    Outcome,
    Refused,
    Request,
    Response,
    Throttled,
    Unavailable,
)
from batchembed.providers import quota, retiring
from batchembed.providers.access import Access
from batchembed.providers.http.failing import OversizeError, failure
from batchembed.providers.http.resolving import GuardedResolver
from batchembed.providers.redaction import Redactor
from batchembed.version import VERSION

CONNECT_SECONDS = 30.0
IDLE_SECONDS = 2.0  # a server that took longer than this had the request, and may bill it
INQUIRY_SECONDS = 10.0
UNKNOWN_DIMENSIONS = 8192
BYTES_PER_NUMBER = 24
ROOM = 64 * 1024
MOST_BYTES = 512 * 1024 * 1024
_CARRIED = re.compile(r"[\x21-\x7e]+")


class HttpProvider:
    """A provider that is reached over HTTP: one session, one attempt a call, no retries.

    Redirects, cookies, proxies from the environment and compression are off. `renew` reads the
    key anew when the server takes it no more. `retires` hears once, in words, that the server
    says that it is to go; `resolver` finds the addresses of names. Must be made inside a running
    event loop.
    """

    def __init__(
        self,
        dialect: Dialect,
        base_url: str,
        *,
        key: str | None,
        access: Access,
        clock: Clock | None = None,
        renew: Callable[[], str | None] | None = None,
        key_header: str = "Authorization",
        retires: Callable[[str], None] | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._retires = retires
        self._key, self._renew, self._renewing = key, renew, asyncio.Lock()
        self._dialect = dialect
        self._base = base_url.rstrip("/") + "/"
        self._redactor = Redactor([key])
        self._clock = clock or SystemClock()
        self._key_header = key_header
        self._authorization = _authorization(key_header, key)
        self._urls: dict[tuple[object, ...], URL] = {}
        self._resolver = GuardedResolver(resolver or aiohttp.DefaultResolver())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, socket_factory=_opened, resolver=self._resolver
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=access.timeout, sock_connect=min(CONNECT_SECONDS, access.timeout)
            ),
            headers={
                "User-Agent": f"batchembed/{VERSION}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            },
            trust_env=False,
        )

    def __repr__(self) -> str:
        return f"HttpProvider({type(self._dialect).__name__}, {self._base!r})"

    @property
    def limits(self) -> Limits:
        """What one request may hold."""
        return self._dialect.limits

    async def attempt(self, request: Request) -> Outcome:
        """Send the request once and say what came of it."""
        try:
            call = self._dialect.build(request)
        except (ValueError, TypeError) as error:
            return self._redactor.outcome(Refused(f"cannot be sent: {error}", sent=False))
        key, line, began = self._key, _Line(), self._clock.monotonic()
        _LINE.set(line)
        try:
            allowed = self._allowed(request)
            status, headers, body = await self._exchange(call, allowed)
            outcome = self._dialect.parse(request, status=status, headers=headers, body=body)
            if isinstance(outcome, Response | Throttled) and (told := quota.told(headers)):
                outcome = replace(outcome, told=told)
            if status == HTTPStatus.UNAUTHORIZED and await self._renewed(key):
                outcome = Unavailable("401, and the key is another by now", wait=0.0)
        except Exception as error:  # noqa: BLE001 — one attempt never raises: see Provider
            outcome = failure(error)
            closed = not line.opened and isinstance(error, aiohttp.ServerDisconnectedError)
            if closed and self._clock.monotonic() - began < IDLE_SECONDS:
                outcome = Unavailable("the server closed an idle connection", wait=0.0)
        return self._redactor.outcome(outcome)

    async def about(self) -> About:
        """Ask the server about itself, each question once; what fails leaves things as they were.

        A server without such a route has answered then, and one that is down is waited for by
        the run, which knows how.
        """
        known = About(self._dialect.limits)
        if not isinstance(self._dialect, Inquirer):
            return known
        for inquiry in self._dialect.inquiries():
            try:
                async with asyncio.timeout(INQUIRY_SECONDS):
                    status, headers, body = await self._exchange(inquiry.call, inquiry.most)
                known = self._dialect.learn(
                    known, inquiry, status=status, headers=headers, body=body
                )
            except Exception:  # noqa: BLE001, S112 — see above: never worse than not to ask
                continue
        return self._redactor.about(known)

    async def ask(self, call: Call, most: int) -> tuple[int, Mapping[str, str], bytes] | Outcome:
        """Make any call once; return the answer, or what came in its place."""
        try:
            return await self._exchange(call, most)
        except Exception as error:  # noqa: BLE001 — one attempt never raises: see Provider
            return self._redactor.outcome(failure(error))

    async def close(self) -> None:
        """Release connections; the provider is not used afterwards."""
        await self._session.close()
        await self._resolver.close()

    def _allowed(self, request: Request) -> int:
        """Return how many bytes of answer are read: twice what the longest right one would have."""
        spec = getattr(self._dialect, "spec", None)
        dimensions = getattr(spec, "dimensions", None) or UNKNOWN_DIMENSIONS
        numbers = len(request) * dimensions * getattr(spec, "outputs", 1)
        return min(MOST_BYTES, 2 * BYTES_PER_NUMBER * numbers + ROOM)

    async def _renewed(self, key: str | None) -> bool:
        """Return whether the key is another than the `key` of an attempt, if need be read anew."""
        if self._renew is None:
            return False
        async with self._renewing:
            if self._key == key:
                fresh = await asyncio.to_thread(self._renew)
                if fresh and fresh != key:
                    self._key, self._redactor = fresh, Redactor([key, fresh])
                    self._authorization = _authorization(self._key_header, fresh)
            return self._key != key

    async def _exchange(self, call: Call, most: int) -> tuple[int, Mapping[str, str], bytes]:
        async with self._session.request(
            call.method,
            self._url(call),
            data=call.body,
            headers={**call.headers, **self._authorization},
            allow_redirects=False,
        ) as answer:
            self._hear(answer.headers)
            good = answer.status == HTTPStatus.OK
            body = await _read(answer, most if good else ROOM, whole=good)
            return answer.status, self._dated(answer.headers), body

    def _hear(self, headers: Mapping[str, str]) -> None:
        """Tell once that the server says that it is to go."""
        if self._retires is None:
            return
        if words := retiring.told(headers, self._clock.now().date()):
            self._retires(f"the server says that what is asked for is {words}")
            self._retires = None

    def _url(self, call: Call) -> URL:
        """Return the address of a call; made once for each, as a job has one or two."""
        told = (call.path, *call.query.items())
        found = self._urls.get(told)
        if found is None:
            found = URL(self._base + call.path, encoded=True).with_query(call.query or None)
            self._urls[told] = found
        return found

    def _dated(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return the headers with a `date`, by which a dialect reads a Retry-After date."""
        if "date" in headers or "retry-after" not in headers:
            return headers  # look-ups in aiohttp's headers know no case
        return CIMultiDict({**headers, "date": format_datetime(self._clock.now(), usegmt=True)})


@dataclass(slots=True)
class _Line:
    """How a request goes out: over a connection that was opened for it, or over an idle one."""

    opened: bool = False


_LINE: ContextVar[_Line] = ContextVar("line")


def _opened(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket for a new connection, and tell the line; tracing would cost 12 µs more."""
    if (line := _LINE.get(None)) is not None:
        line.opened = True
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


def _authorization(header: str, key: str | None) -> dict[str, str]:
    """Return the header that carries the key, none without one."""
    if not key:
        return {}
    scheme = "Bearer " if header.lower() == "authorization" else ""
    return {header: scheme + carried(key)}


def carried(key: str) -> str:
    """Return the key if a header can carry it; raises ActionNeededError, which does not show it."""
    if not _CARRIED.fullmatch(key):
        raise ActionNeededError(
            "the key holds white space or characters that a header cannot carry",
            hint="copy it again, without quotes or line breaks",
        )
    return key


async def _read(answer: aiohttp.ClientResponse, most: int, *, whole: bool) -> bytes:
    """Return the decoded body: at most `most` bytes, more raises OversizeError if `whole`."""
    told = answer.content_length
    if told is not None and told <= most and "Content-Encoding" not in answer.headers:
        return await answer.read()
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.content.iter_any():
        pieces.append(piece)
        size += len(piece)
        if size > most:
            answer.close()
            if whole:
                raise OversizeError(f"the answer is larger than {most:,} bytes")
            break
    return b"".join(pieces)[:most]
