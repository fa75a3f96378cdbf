"""What leaves this machine, and what a server can do to it: no secret out, no flood in."""

import asyncio
import base64
import gzip
import logging
from urllib.parse import quote

import orjson
import pytest
from fakes import faults
from fakes.attempts import KEY, PROVIDERS, attempts, outcome, pair, request, right
from fakes.faults import Fault

from batchembed.exchange import Fatal, Refused, Response
from batchembed.providers.redaction import LONGEST, Redactor


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
