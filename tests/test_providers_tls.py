"""A server that cannot prove who it is gets no key and no text."""

import asyncio
import os
import sys
import textwrap

import pytest
from fakes import Server
from fakes.attempts import KEY, attempts, request, spec
from fakes.tls import certificate, context

from batchembed.exchange import Fatal
from batchembed.providers import Access, open_provider


@pytest.fixture
def files(tmp_path):
    return certificate(tmp_path)


def test_a_certificate_that_cannot_be_proven_is_fatal(files):
    """The cause is named, and nothing was sent."""
    (found,), server = attempts(tls=context(files))
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
def test_an_authority_can_be_named_and_the_host_is_still_checked(tmp_path, name, kind):
    """SSL_CERT_FILE, as the hint says; a certificate for another host stays refused."""
    files = certificate(tmp_path, name=name)
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
        async with Server(tls=context(files)) as server:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", words, server.openai_url,
                env={**os.environ, "SSL_CERT_FILE": str(files[0])},
                stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            return (await process.communicate())[0].decode()

    said = asyncio.run(go())
    assert said.startswith(kind), said
    assert kind == "Response" or "IP address mismatch" in said
