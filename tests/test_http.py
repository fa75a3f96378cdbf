"""One attempt over real sockets: every failure is an outcome, and no secret gets out of it."""

import asyncio
import base64
import contextlib
import datetime as dt
import gc
import logging
import os
import socket
import ssl
import subprocess
import sys
import textwrap
from urllib.parse import quote

import aiohttp
import numpy as np
import pytest
from fakes import Server, faults, vectors
from fakes.faults import Fault

from batchembed.exchange import (
    Control,
    Fatal,
    Malformed,
    Refused,
    Request,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)
from batchembed.providers import Access, http, open_provider
from batchembed.providers.redaction import LONGEST, Redactor
from batchembed.spec import Spec

KEY = "SECRET-6f1d2c9e/4b7a+9d"
TEXTS = ("the first text of two", "the second text of two")
PROVIDERS = ("openai", "aleph-alpha")


def request(*texts, **more):
    texts = texts or TEXTS
    return Request(keys=np.zeros((len(texts), 16), np.uint8), texts=texts, **more)


def spec(name="openai", **told):
    return Spec(name, "fake-model", **told)


@contextlib.asynccontextmanager
async def pair(name="openai", *, key=KEY, told=None, access=None, host="127.0.0.1", **settings):
    """Yield a stand-in server and a provider that is connected to it."""
    async with Server(**settings) as server:
        address = server.openai_url if name == "openai" else server.url
        reach = Access(base_url=address.replace("127.0.0.1", host), **(access or {}))
        provider = open_provider(spec(name, **(told or {})), reach, key=key)
        try:
            yield server, provider
        finally:
            await provider.close()


def attempts(*sent, name="openai", **settings):
    """Return the outcomes of attempts, one after the other, and the server."""

    async def go():
        async with pair(name, **settings) as (server, provider):
            return [await provider.attempt(one) for one in sent or (request(),)], server

    return asyncio.run(go())


def outcome(fault, *sent, name="openai", **settings):
    (found,), _ = attempts(*sent, name=name, script=[fault], **settings)
    return found


def right(name, texts=TEXTS):
    return vectors(texts, model="fake-model").tolist()


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
        (faults.encoding("float") | faults.spoiled(), Malformed),
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


def test_poison_spoils_a_request_and_only_that():
    """The stand-in's poison is refused as a real server would."""
    found, _ = attempts(request("a POISON here", "b"), request("b"), request("NANPOISON", "b"))
    assert [type(x) for x in found] == [Refused, Response, Response]
    assert np.isnan(found[2].vectors[0]).any()
    assert not np.isnan(found[2].vectors[1]).any()


def test_a_dimension_that_was_not_asked_for_is_fatal():
    """Seen over the wire as well."""
    assert isinstance(outcome(faults.dimension(5), told={"dimensions": 32}), Fatal)


def test_the_server_wait_is_passed_on():
    """Seconds, fractions and dates; the date counts from the server's own clock."""
    assert outcome(faults.throttled(2.5)).wait == 2.5
    assert outcome(faults.throttled("junk")).wait is None
    assert outcome(faults.throttled_until(1_800_000_000, 45)).wait == 45


def test_a_date_without_a_clock_of_the_server_counts_from_ours():
    """Some proxies send no Date: then the clock that was passed in is the best there is."""

    class Clock:
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
        assert type(http.failure(error)) is kind, error


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


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_text_that_cannot_be_written_is_refused_alone(name):
    """A lone surrogate is no UTF-8: nothing is sent."""
    (found,), server = attempts(request("fine", "bad \ud800"), name=name)
    assert isinstance(found, Refused)
    assert server.bill.requests == 0
    bad = request("a", controls=((Control(0, 1, float("nan")),),))
    assert isinstance(attempts(bad, name="aleph-alpha")[0][0], Refused)


def test_headers_of_a_request():
    """The key goes in its header; nothing is compressed, remembered or announced beyond need."""
    _, server = attempts()
    told = {k.lower(): v for k, v in server.last["headers"].items()}
    assert told["authorization"] == f"Bearer {KEY}"
    assert told["accept-encoding"] == "identity"
    assert told["content-type"] == "application/json"
    assert told["user-agent"].startswith("batchembed/")
    assert set(told) == {
        "authorization", "accept", "accept-encoding", "content-type", "user-agent", "host",
        "content-length",
    }  # fmt: skip
    _, server = attempts(key=None)
    assert "Authorization" not in server.last["headers"]


def test_cookies_redirects_and_proxies_are_off(monkeypatch, tmp_path):
    """A server cannot plant a cookie, send us elsewhere, or be stood in for by an environment."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    cookie = Fault(headers={"Set-Cookie": "a=b"})  # for a name: no jar keeps those of an address
    found, server = attempts(request(), request(), script=[cookie, None], host="localhost")
    assert [type(x) for x in found] == [Response, Response]
    assert "Cookie" not in server.last["headers"]
    moved = faults.status(302, location="/v1/embeddings")
    found, server = attempts(script=[moved])
    assert server.bill.requests == 1
    assert "Authorization" not in attempts(key=None)[1].last["headers"]


def test_a_huge_answer_does_not_fill_the_memory():
    """Bodies are read up to what a right answer could have, whole or unpacked."""
    honest = Fault(body=b"{" + b" " * 5_000_000)
    assert isinstance(outcome(honest, told={"dimensions": 32}), Fatal)
    error = faults.status(400, b"x" * 5_000_000)
    found = outcome(error)
    assert isinstance(found, Refused)
    assert len(found.reason) <= LONGEST


def test_compressed_answers_are_still_read():
    """They are not asked for, but some proxies insist."""
    plain = outcome(None)
    import gzip

    import orjson

    body = orjson.dumps(
        {
            "data": [{"index": i, "embedding": row} for i, row in enumerate(right("openai"))],
            "model": "fake-1",
        }
    )
    packed = Fault(body=gzip.compress(body), headers={"Content-Encoding": "gzip"})
    assert outcome(packed).vectors.tolist() == plain.vectors.tolist()


@pytest.mark.parametrize("name", PROVIDERS)
def test_no_fault_brings_the_key_to_light(name, caplog, capfd):
    """All faults, with servers that echo the key in every form, and nothing shows it."""
    caplog.set_level(logging.DEBUG)
    shapes = [KEY, quote(KEY, safe=""), base64.b64encode(KEY.encode()).decode().rstrip("=")]
    echo = " ".join(f"key {shape} Bearer {KEY}" for shape in shapes)
    script = [made() for made in map(faults.BY_NAME.get, sorted(set(faults.BY_NAME) - {
        "status", "delay", "hang", "bomb", "encoding", "dimension", "version"}))]  # fmt: skip
    script += [faults.status(c, f'{{"error":{{"message":"{echo}","code":"{KEY}"}}}}')
               for c in (400, 401, 403, 404, 413, 422, 429, 500, 503)]  # fmt: skip
    named = {"retry_after": KEY, "location": f"https://h/?{KEY}", "x_request_id": KEY}
    script += [faults.status(c, echo, **named) for c in (301, 400, 429, 500)]
    script += [faults.version(KEY), Fault(body=f'{{"error":"{echo}"}}'.encode())]
    script += [Fault(body=echo.encode(), headers={"Content-Type": "text/html"})]
    found, _ = attempts(*[request()] * len(script), name=name, script=script)
    shown = repr(found) + caplog.text + "".join(capfd.readouterr())
    for shape in shapes:
        assert shape not in shown
    assert len(found) == len(script)


def test_without_redaction_the_canary_would_be_seen(monkeypatch):
    """Control: it is the redaction that keeps an echoed key from a reason."""
    monkeypatch.setattr(Redactor, "outcome", lambda _self, found: found)
    found = outcome(faults.status(400, f'{{"error":{{"message":"wrong key {KEY}"}}}}'))
    assert KEY in repr(found)


def test_a_provider_does_not_show_its_key():
    """Not by repr, not in any attribute but the header itself."""

    async def go():
        async with pair() as (_, provider):
            return repr(provider) + repr(provider._redactor) + str(provider.limits)

    assert KEY not in asyncio.run(go())


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Incorrect API key: sk-proj-abc_DEF-123.", "Incorrect API key: ***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("see https://user:pw@h.example/x?token=1&a=2 now", "see https://***@h.example/x?*** now"),
        ("lines\nand\x1b[31m colours", "lines and [31m colours"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(words, shown):
    """Even one that is not ours, and no control characters reach a terminal."""
    assert Redactor([None]).text(words) == shown


def test_reasons_are_short():
    """300 characters at most, with a sign that there was more."""
    assert len(Redactor([]).text("word " * 1000)) == LONGEST
    assert Redactor([]).text("word " * 1000).endswith("…")


def _certificate(folder, *, days=1, name="localhost"):
    """Make a self-signed certificate with the openssl program; returns certificate and key file."""
    files = folder / "cert.pem", folder / "key.pem"
    extra = f"subjectAltName=DNS:{name}" + (",IP:127.0.0.1" if name == "localhost" else "")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", str(files[1]), "-out", str(files[0]), "-days", str(days),
         "-subj", f"/CN={name}", "-addext", extra],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def _tls(files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    return context


@pytest.fixture
def certificate(tmp_path):
    try:
        return _certificate(tmp_path)
    except FileNotFoundError:
        pytest.skip("NOT PROVEN: TLS failures, as there is no openssl program to make certificates")


def test_a_certificate_that_cannot_be_proven_is_fatal(certificate):
    """The cause is named, and nothing was sent."""
    (found,), server = attempts(tls=_tls(certificate))
    assert isinstance(found, Fatal)
    assert "self-signed" in found.reason.replace(" ", "-")
    assert server.bill.requests == 0


def test_plain_http_behind_https_is_fatal():
    """A wrong scheme is a matter for a person."""

    async def go():
        async with Server() as server:
            reach = Access(base_url=server.url.replace("http:", "https:"))
            provider = open_provider(spec(), reach, key=KEY)
            found = await provider.attempt(request())
            await provider.close()
            return found

    found = asyncio.run(go())
    assert isinstance(found, Fatal)
    assert "TLS" in found.reason


@pytest.mark.parametrize(("name", "kind"), [("localhost", "Response"), ("other.test", "Fatal")])
def test_an_authority_can_be_named_and_the_host_is_still_checked(tmp_path, certificate, name, kind):
    """SSL_CERT_FILE, as the hint says; a certificate for another host stays refused."""
    files = _certificate(tmp_path, name=name)
    words = textwrap.dedent(
        """
        import asyncio, sys, numpy as np
        from batchembed.providers import Access, open_provider
        from batchembed.exchange import Request
        from batchembed.spec import Spec

        async def go():
            provider = open_provider(Spec("openai", "m"), Access(base_url=sys.argv[1]), key="k")
            found = await provider.attempt(Request(np.zeros((1, 16), np.uint8), ("a",)))
            await provider.close()
            print(type(found).__name__, getattr(found, "reason", ""))

        asyncio.run(go())
        """
    )

    async def go():
        async with Server(tls=_tls(files)) as server:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", words, server.openai_url,
                env={**os.environ, "SSL_CERT_FILE": str(files[0])},
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            return (await process.communicate())[0].decode()

    said = asyncio.run(go())
    assert said.startswith(kind), said
    assert kind == "Response" or "IP address mismatch" in said


def test_nothing_is_left_open():
    """Closing a provider closes its connections: a warning here would fail this test."""
    attempts(*[request()] * 3)
    gc.collect()
