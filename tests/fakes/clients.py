"""What the suites against the vendors' own clients share: our attempt, and what a server saw."""

from __future__ import annotations

import asyncio
import json

import numpy as np

from batchembed.exchange import Request, Response
from batchembed.providers import Access, open_provider


def request(texts, role="symmetric", controls=None, prompts=None):
    keys = np.zeros((len(texts), 16), np.uint8)
    return Request(keys=keys, texts=tuple(texts), role=role, controls=controls, prompts=prompts)


def ours(server, spec, sent, *, base_url=None, **access):
    """Return the outcome of one attempt of ours, and what the server saw of it."""

    async def attempt():
        reach = Access(base_url=base_url or server.url, **access)
        provider = open_provider(spec, reach, key="TOKEN")
        try:
            return await provider.attempt(sent)
        finally:
            await provider.close()

    outcome = asyncio.run(attempt())
    assert isinstance(outcome, Response), outcome
    return outcome, seen(server)


def seen(server):
    """Return method, path, query, headers that matter, and the body with its order of fields."""
    last = server.last
    headers = {name.lower(): value for name, value in last["headers"].items()}
    return {
        "method": last["method"],
        "path": last["path"],
        "query": last["query"],
        "authorization": headers["authorization"],
        "content-type": headers["content-type"],
        "body": json.loads(last["body"], object_pairs_hook=list),
    }


def plain(factor):
    """Return a factor as people give it to a client: 7, not 7.0."""
    return int(factor) if float(factor).is_integer() else factor


def listed(access):
    """Return settings as the client of Aleph Alpha takes them."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in access.items()}
