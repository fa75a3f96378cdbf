"""One attempt over real sockets: every failure is an outcome, and no secret gets out of it."""

import asyncio
import datetime as dt
import gc
import socket
import ssl

import aiohttp
import numpy as np
import pytest
from fakes import faults, raw, vectors
from fakes.attempts import PROVIDERS, attempts, outcome, pair, request, right, spec
from fakes.faults import Fault
from fakes.raw import raw as raw_server

from batchembed.exchange import (
    Fatal,
    Malformed,
    Refused,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)
from batchembed.providers import Access, open_provider
from batchembed.providers.http import failing


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_right_answer_gives_the_right_vectors(name):
    """Vectors in the order of the texts, with bill, version and request id."""
    (found,), server = attempts(name=name)
    assert isinstance(found, Response)
    assert found.vectors.tolist() == right(name)
    assert found.tokens == server.bill.tokens == 12
    assert (found.model_version, found.request_id) == ("fake-1", "req-1")
    assert not found.unusable


@pytest.mark.parametrize("form", ["float", "base64"])
@pytest.mark.parametrize("size", [1, 2, 33, 1024])
def test_either_encoding_gives_the_same_bits(form, size):
    """A server that ignores what was asked for changes nothing."""
    texts = tuple(f"text {i}" for i in range(7))
    found = outcome(faults.encoding(form), request(*texts), dimensions=size)
    assert found.vectors.tolist() == vectors(texts, dimensions=size).tolist()


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (faults.reset(), Unavailable),
        (faults.truncate(0.5), Unavailable),
        (faults.truncate(0.0), Unavailable),
        (faults.html(), Unavailable),
        (faults.empty(), Unavailable),
        (faults.status(500), Unavailable),
        (faults.status(503, "<html>", retry_after=4), Unavailable),
        (faults.throttled(), Throttled),
        (faults.throttled(2.5), Throttled),
        (faults.out_of_money(), Fatal),
        (faults.status(307, location="https://elsewhere.example/x?k=1"), Fatal),
        (faults.status(401), Fatal),
        (faults.status(402), Fatal),
        (faults.status(404), Fatal),
        (faults.status(400), Refused),
        (faults.status(413), TooLarge),
        (faults.bomb(20_000_000), Fatal),
        (faults.dropped(), Malformed),
        (faults.ragged(), Malformed),
        (Fault(headers={"Content-Encoding": "gzip"}), Unavailable),
        (Fault(body=b'{"data":[{'), Malformed),
        (Fault(body=b'{"error":{"message":"boom"}}'), Malformed),
        (Fault(body=b"[" * 100_000), Unavailable),
        (faults.encoding("float") | faults.spoiled(), Response),
    ],
)
@pytest.mark.parametrize("name", PROVIDERS)
def test_every_fault_is_an_outcome(name, fault, kind):
    """What the server or the way to it does wrong comes back as a value, never as an exception."""
    found = outcome(fault, name=name)
    assert type(found) is kind, found


def test_indices_decide_where_there_are_any():
    """Shuffled answers are put in order; a doubled index spoils all."""
    assert outcome(faults.shuffled()).vectors.tolist() == right("openai")
    assert isinstance(outcome(faults.duplicated()), Malformed)


def test_numbers_that_are_none_are_left_to_the_run():
    """base64 carries NaN, infinity and zero through; the run judges them row by row."""
    for fault in (faults.spoiled(), faults.spoiled(float("inf")), faults.zeroed()):
        found = outcome(fault)
        assert isinstance(found, Response)
        assert found.vectors[1].tolist() == right("openai")[1]
    assert not outcome(faults.zeroed()).vectors[0].any()


@pytest.mark.parametrize(
    "odd", ["NaN", "Infinity", "-Infinity", "null", '"NaN"', "1e400", "-2.5E+999", " NaN "]
)
@pytest.mark.parametrize("name", PROVIDERS)
def test_what_is_no_number_costs_its_own_row(name, odd):
    """JSON has no NaN, so a parser refuses it; the other rows of the answer are kept."""
    rows = [f"[{odd},1.5]", "[0.6,0.8]"]
    shown = (
        '{"data":[' + ",".join(f'{{"index":{n},"embedding":{r}}}' for n, r in enumerate(rows)) + "]"
        if name == "openai"
        else '{"embeddings":[' + ",".join(rows) + "]"
    )
    found = outcome(Fault(body=shown.encode() + b"}"), name=name, told={"normalize": False})
    assert isinstance(found, Response), found
    assert found.vectors[1].tolist() == [np.float32(0.6), np.float32(0.8)]
    assert not np.isfinite(found.vectors[0][0])


def test_poison_spoils_a_request_and_only_that():
    """The stand-in's poison is refused as a real server would."""
    found, _ = attempts(request("a POISON here", "b"), request("b"), request("NANPOISON", "b"))
    assert [type(x) for x in found] == [Refused, Response, Response]
    assert np.isnan(found[2].vectors[0]).any()
    assert not np.isnan(found[2].vectors[1]).any()


def test_the_server_wait_is_passed_on():
    """Seconds, fractions and dates; the date counts from the server's own clock."""
    assert outcome(faults.throttled(2.5)).wait == 2.5
    assert outcome(faults.throttled("junk")).wait is None
    assert outcome(faults.throttled_until(1_800_000_000, 45)).wait == 45


def test_a_date_without_a_clock_of_the_server_counts_from_ours():
    """Some proxies send no Date: then the clock that was passed in is the best there is."""

    class Clock:
        def monotonic(self):
            return 0.0

        def now(self):
            return dt.datetime(2026, 11, 4, 10, 0, 0, tzinfo=dt.UTC)

    async def plain(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 429 X\r\nRetry-After: Wed, 04 Nov 2026 10:01:00 GMT\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    async def go():
        server = await asyncio.start_server(plain, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            reach = Access(base_url=f"http://127.0.0.1:{port}")
            provider = open_provider(spec(), reach, key=None, clock=Clock())
            found = await provider.attempt(request())
            await provider.close()
            return found

    assert asyncio.run(go()).wait == 60


def test_one_attempt_is_one_request():
    """No fault makes this layer try again: that is for the run to decide and to count."""
    script = [faults.reset(), faults.status(503), faults.throttled(0), faults.truncate()]
    found, server = attempts(*[request()] * 4, script=script)
    assert server.bill.requests == 4
    assert not any(isinstance(x, Response) for x in found)


def test_a_connection_that_the_server_dropped_is_no_exception():
    """A kept-alive connection that was closed costs one outcome, and the next attempt works."""
    found, _ = attempts(*[request()] * 3, script=[None, faults.reset()])
    assert [type(x) for x in found] == [Response, Unavailable, Response]


def test_a_closed_port_and_a_silent_server_are_unavailable():
    """Nobody there, or nobody answering: no fault of any text."""
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = plug.getsockname()[1]

    async def refused():
        reach = Access(base_url=f"http://127.0.0.1:{port}")
        provider = open_provider(spec(), reach, key=None)
        found = await provider.attempt(request())
        await provider.close()
        return found

    found = asyncio.run(refused())
    assert isinstance(found, Unavailable)
    assert "127.0.0.1" in found.reason
    silent = outcome(faults.hang(), access={"timeout": 0.05})
    assert isinstance(silent, Unavailable)
    assert "in time" in silent.reason


def test_failures_that_no_socket_here_can_make():
    """DNS and the rest by the exceptions that aiohttp has for them."""
    where = aiohttp.client_reqrep.ConnectionKey("h.example", 443, True, None, None, None, None)
    broken = {
        aiohttp.ClientConnectorDNSError(where, OSError(-2, "unknown")): Unavailable,
        aiohttp.ClientConnectorError(where, OSError(113, "No route")): Unavailable,
        aiohttp.ServerDisconnectedError(): Unavailable,
        aiohttp.ServerTimeoutError(): Unavailable,
        aiohttp.ClientPayloadError("cut"): Unavailable,
        aiohttp.InvalidURL("x"): Fatal,
        TimeoutError(): Unavailable,
        ConnectionResetError(104, "reset"): Unavailable,
        ssl.SSLError(1, "tls"): Unavailable,
        RuntimeError("a mistake of ours"): Fatal,
    }
    for error, kind in broken.items():
        assert type(failing.failure(error)) is kind, error


def test_no_exception_gets_out_of_an_attempt(monkeypatch):
    """Even a mistake in this package becomes an outcome, which asks to be reported."""

    async def go():
        async with pair() as (_, provider):
            monkeypatch.setattr(provider, "_exchange", None)
            return await provider.attempt(request())

    found = asyncio.run(go())
    assert isinstance(found, Fatal)
    assert "report" in found.hint


def test_cancelling_an_attempt_is_not_an_outcome():
    """A run that is stopped does not wait for answers."""

    async def go():
        async with pair(script=[faults.hang()]) as (_, provider):
            attempt = asyncio.ensure_future(provider.attempt(request()))
            while not provider._session.connector._acquired:  # noqa: ASYNC110 — no event tells
                await asyncio.sleep(0)
            attempt.cancel()
            with pytest.raises(asyncio.CancelledError):
                await attempt

    asyncio.run(go())


def test_nothing_is_left_open():
    """Closing a provider closes its connections: a warning here would fail this test."""
    attempts(*[request()] * 3)
    gc.collect()


def test_an_idle_connection_that_was_closed_is_no_outage():
    """The server may close it at any time: the next attempt may start at once, over a new one."""

    async def go():
        with raw_server(lambda n, _texts: raw.hung_up if n == 1 else None) as server:
            provider = open_provider(spec(), Access(base_url=server.openai_url), key=None)
            found = [await provider.attempt(request()) for _ in range(3)]
            await provider.close()
            return found

    first, closed, third = asyncio.run(go())
    assert isinstance(first, Response)
    assert isinstance(closed, Unavailable)
    assert (closed.wait, "idle" in closed.reason) == (0.0, True)
    assert isinstance(third, Response)


def test_a_server_that_hangs_up_on_new_connections_is_down():
    """Then waiting at once would be a storm."""

    async def go():
        with raw_server(lambda *_: raw.hung_up) as server:
            provider = open_provider(spec(), Access(base_url=server.openai_url), key=None)
            found = await provider.attempt(request())
            await provider.close()
            return found

    found = asyncio.run(go())
    assert isinstance(found, Unavailable)
    assert found.wait is None
