"""Attempts of real providers at the stand-in server, for the suites about one attempt."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np

from batchembed.exchange import Request
from batchembed.providers import Access, open_provider
from batchembed.spec import Spec

from .api import Server
from .vectors import vectors

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
