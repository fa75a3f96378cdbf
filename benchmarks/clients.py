"""The peers: aiohttp with the best parse and nothing else, and the providers' own clients.

Run as a process of its own: `python -m benchmarks.clients WAY URL CORPUS WORKERS`. Each reads
the texts from the corpus, gets their vectors and keeps them in memory; nothing is written.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import aiohttp
import numpy as np
import orjson
import pyarrow.parquet as pq
import pybase64
import simdjson
from numpy.typing import NDArray

MODEL = "luminous-base"
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Way:
    """How to ask: the path, texts a request, how to write a request and read its answer."""

    path: str
    texts: int
    build: Callable[[Sequence[str]], bytes]
    read: Callable[[bytes, int], Rows]


def _prompt(text: str) -> list[dict[str, object]]:
    return [{"type": "text", "data": text, "controls": []}]


def _single(texts: Sequence[str]) -> bytes:
    told = {"prompt": _prompt(texts[0]), "representation": "symmetric", "compress_to_size": 128}
    return orjson.dumps({**told, "normalize": True, "model": MODEL})


def _batch(texts: Sequence[str]) -> bytes:
    prompts = [_prompt(text) for text in texts]
    told = {"prompts": prompts, "representation": "symmetric", "compress_to_size": 128}
    return orjson.dumps({**told, "normalize": True, "model": MODEL})


def _openai(encoding: str) -> Callable[[Sequence[str]], bytes]:
    return lambda texts: orjson.dumps(
        {"input": texts, "model": "stand-in", "encoding_format": encoding}
    )


def _numbers(name: str) -> Callable[[bytes, int], Rows]:
    def read(body: bytes, texts: int) -> Rows:
        found: Any = simdjson.Parser().parse(body)
        numbers = found[name].as_buffer(of_type="d")
        return np.frombuffer(numbers, np.float64).astype(np.float32).reshape(texts, -1)

    return read


def _data_numbers(body: bytes, texts: int) -> Rows:
    found: Any = simdjson.Parser().parse(body)
    buffers = [entry["embedding"].as_buffer(of_type="d") for entry in found["data"]]
    rows = [np.frombuffer(buffer, np.float64) for buffer in buffers]
    vectors = np.empty((texts, len(rows[0])), np.float32)
    for at, row in enumerate(rows):
        vectors[at] = row
    return vectors


def _data_base64(body: bytes, texts: int) -> Rows:
    data = orjson.loads(body)["data"]
    joined = b"".join([pybase64.b64decode(entry["embedding"]) for entry in data])
    return np.frombuffer(joined, np.float32).reshape(texts, -1)


WAYS = {
    "single": Way("semantic_embed", 1, _single, _numbers("embedding")),
    "batch": Way("batch_semantic_embed", 100, _batch, _numbers("embeddings")),
    "float": Way("embeddings", 64, _openai("float"), _data_numbers),
    "base64": Way("embeddings", 64, _openai("base64"), _data_base64),
}


def opened(workers: int) -> aiohttp.ClientSession:
    """Return a session with the settings that a whole job has."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=workers),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=300, sock_connect=30),
        headers={
            "User-Agent": "bare",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        },
        trust_env=False,
    )


async def post(session: aiohttp.ClientSession, url: str, body: bytes) -> bytes:
    """Ask once; return the body of the answer."""
    async with session.post(
        url, data=body, headers={"Authorization": "Bearer none"}, allow_redirects=False
    ) as answer:
        assert answer.status == 200  # noqa: PLR2004 - HTTP's own number
        return await answer.read()


async def bare(way: Way, url: str, texts: list[str], workers: int) -> list[Rows]:
    """Ask with aiohttp: workers that share one iterator, no checks, no retries, no files."""
    kept: list[Rows] = []
    upcoming: Iterator[int] = iter(range(0, len(texts), way.texts))
    async with opened(workers) as session:

        async def work() -> None:
            for start in upcoming:
                some = texts[start : start + way.texts]
                body = await post(session, f"{url}/{way.path}", way.build(some))
                kept.append(way.read(body, len(some)))

        await asyncio.gather(*(work() for _ in range(workers)))
    return kept


async def aleph_alpha(name: str, url: str, texts: list[str], workers: int) -> int:
    """Ask with aleph-alpha-client; return how many vectors came."""
    import aleph_alpha_client as aa

    given: dict[str, Any] = {
        "representation": aa.SemanticRepresentation.Symmetric,
        "compress_to_size": 128,
    }
    given["normalize"] = True
    async with aa.AsyncClient("none", host=f"{url}/", limit=workers) as client:
        prompts = [aa.Prompt.from_text(text) for text in texts]
        if name == "batch":
            whole = aa.BatchSemanticEmbeddingRequest(prompts=prompts, **given)
            answer = await client.batch_semantic_embed(
                whole, model=MODEL, num_concurrent_requests=workers
            )
            return len(answer.embeddings)
        asked = [aa.SemanticEmbeddingRequest(prompt=prompt, **given) for prompt in prompts]
        found = await asyncio.gather(*map(client.semantic_embed, asked, repeat(MODEL)))
        return sum(len(answer.embedding) == 128 for answer in found)  # noqa: PLR2004 - as asked


async def openai(name: str, url: str, texts: list[str], workers: int) -> int:
    """Ask with openai's AsyncOpenAI; return how many vectors came."""
    from openai import AsyncOpenAI

    count = 0
    upcoming = iter(range(0, len(texts), WAYS[name].texts))
    async with AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:

        async def work() -> None:
            nonlocal count
            for start in upcoming:
                some = texts[start : start + WAYS[name].texts]
                # base64 is what the client asks for, and decodes, when nothing else is said
                wish: dict[str, Any] = {"encoding_format": "float"} if name == "float" else {}
                answer = await client.embeddings.create(input=some, model="stand-in", **wish)
                count += len(answer.data)

        await asyncio.gather(*(work() for _ in range(workers)))
    return count


def main(peer: str, name: str, url: str, corpus: str, workers: str) -> None:
    """Get a vector for every text of a corpus."""
    texts: list[str] = pq.read_table(corpus)["text"].to_pylist()
    if peer == "bare":
        count = sum(map(len, asyncio.run(bare(WAYS[name], url, texts, int(workers)))))
    elif peer == "aleph-alpha-client":
        count = asyncio.run(aleph_alpha(name, url, texts, int(workers)))
    else:
        count = asyncio.run(openai(name, url, texts, int(workers)))
    assert count == len(texts), (count, len(texts))


if __name__ == "__main__":
    main(*sys.argv[1:])
