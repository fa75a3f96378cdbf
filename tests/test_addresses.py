"""A host name may lead anywhere but to the addresses of the link, where clouds keep their keys."""

import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver
from fakes import raw
from fakes.attempts import request
from fakes.raw import raw as raw_server
from fakes.rows import GIVEN

from batchembed.errors import JobError
from batchembed.exchange import Fatal, Response, Unavailable
from batchembed.providers import Access, defaults, info
from batchembed.providers import http as http_module
from batchembed.providers.access import checked, is_link_local
from batchembed.spec import Spec

NAME = "provider.test"
REFUSED = [
    "169.254.169.254",
    "169.254.0.1",
    "169.254.255.255",
    "fe80::1",
    "fe80::a9fe:a9fe%eth0",
    "febf::1",
    "::ffff:169.254.169.254",
    "2002:a9fe:a9fe::",
    "64:ff9b::a9fe:a9fe",
    "fd00:ec2::254",
]
TAKEN = [
    "127.0.0.1",
    "::1",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "fd00::1",
    "203.0.113.9",
    "64:ff9b::cb00:7109",
]


class Names(AbstractResolver):
    """Answers with what it is given, another answer for each question; the last one stays."""

    def __init__(self, *answers):
        self.answers, self.asked, self.closed = list(answers), [], False

    async def resolve(self, host, port=0, family=socket.AF_INET):
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            {
                "hostname": host,
                "host": one,
                "port": port,
                "family": socket.AF_INET6 if ":" in one else socket.AF_INET,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_NUMERICHOST,
            }
            for one in found
        ]

    async def close(self):
        self.closed = True


def attempt(names, port, count=1):
    """What comes of requests to a server by its name, one after the other."""
    spec = defaults(Spec("openai", "fake-1", dimensions=32))
    provider = info("openai")

    async def asked():
        reached = http_module.HttpProvider(
            provider.dialect(provider, spec, Access()),
            f"http://{NAME}:{port}/v1",
            key="a-key",
            access=Access(timeout=5.0),
            resolver=names,
        )
        try:
            found = []
            for _ in range(count):
                found.append(await reached.attempt(request("a", "b")))
                reached._session.connector.clear_dns_cache()  # as after some seconds
            return found
        finally:
            await reached.close()

    return asyncio.run(asked())


@pytest.fixture
def opened(monkeypatch):
    """The addresses for which a socket was opened."""
    seen, open_one = [], http_module._opened
    monkeypatch.setattr(
        http_module, "_opened", lambda told: (seen.append(told[4][0]), open_one(told))[1]
    )
    return seen


@pytest.mark.parametrize("address", REFUSED)
def test_a_name_that_leads_to_the_link_is_refused_before_a_socket_is_opened(address, opened):
    """Also where it leads to a good address besides."""
    for answer in ([address], ["127.0.0.1", address]):
        with raw_server() as server:
            (found,) = attempt(Names(answer), server.port)
            assert server.bill.requests == 0
        assert isinstance(found, Fatal)
        assert found.reason == f"the host `{NAME}` leads to `{address}`, a link-local address"
        assert found.hint
        assert opened == []


def test_a_name_that_leads_to_this_machine_is_taken(opened):
    """Control: the resolver that was passed in is asked, and what it says is connected to."""
    names = Names(["127.0.0.1"])
    with raw_server() as server:
        (found,) = attempt(names, server.port)
    assert isinstance(found, Response)
    assert (names.asked, opened, names.closed) == ([NAME], ["127.0.0.1"], True)


def test_a_name_that_leads_elsewhere_later_is_refused_then(opened):
    """What is connected to is what was looked at, each time that a connection is opened."""
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    with raw_server(lambda _n, _texts: raw.idle_closed) as server:
        first, *between, last = attempt(names, server.port, 4)
        assert server.bill.requests == 1
    assert isinstance(first, Response)
    assert {type(one) for one in between} <= {Unavailable, Fatal}  # perhaps over what was closed
    assert isinstance(last, Fatal)
    assert opened == ["127.0.0.1"]


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_no_providers_address(address):
    """By name or as it stands in a job, it is the same."""
    assert is_link_local(address)
    bare = address.partition("%")[0]
    host = f"[{bare}]" if ":" in bare else bare
    with pytest.raises(JobError, match="link-local"):
        checked(f"https://{host}/v1")


@pytest.mark.parametrize("address", [*TAKEN, "localhost", "provider.test", "169.254.example.com"])
def test_what_may_be_one(address):
    """Servers of one's own are on this machine or in a private network."""
    assert not is_link_local(address)


def test_a_run_ends_with_a_word(place):
    """A person must look: nothing is sent, no key leaves, and once the name is right it goes on."""
    with raw_server() as server:
        server.host = NAME
        leads = ("leads_to", NAME, "169.254.169.254")
        says = (f"the host `{NAME}` leads to `169.254.169.254`, a link-local address",)
        job = place(GIVEN, server=server, access__allow_insecure_http=True)
        ended = job.run(code=4, twists=[leads])
        assert says[0] in ended.err
        assert "hint:" in ended.err
        assert server.bill.requests == 0
        job.run(twists=[("leads_to", NAME, "127.0.0.1")])
        assert job.wrong() == []
        assert server.bill.paid_twice == {}
