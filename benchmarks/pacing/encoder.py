"""A server that computes: it works on one batch at a time, of all requests that wait.

`python -m benchmarks.pacing.encoder` is what self-hosted servers of models are like: requests wait
in a queue, and up to `BATCH` of them are computed together, as a pass over the weights costs as
much for one text as for some. Vectors are those of a small network with random weights. It prints
its port, and ends when standard input does. GET /seen tells when each request came and was done,
how many each batch had and how long it took, since it was asked last.
"""

from __future__ import annotations

import asyncio
import base64
import time
import zlib
from dataclasses import dataclass, field

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks.serving import Connection, serve

BATCH = 16
DIMENSIONS, WIDTH, HIDDEN, LAYERS = 128, 1024, 4096, 12
Rows = NDArray[np.float32]


class Network:
    """Some layers of a transformer's size, without attention; the weights are always the same."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        sizes = [(WIDTH, HIDDEN), (HIDDEN, WIDTH)] * LAYERS + [(WIDTH, DIMENSIONS)]
        self._weights = [
            rng.standard_normal(size, dtype=np.float32) / np.float32(size[0] ** 0.5)
            for size in sizes
        ]

    def vectors(self, texts: list[str]) -> Rows:
        """Return the vectors of texts, shape (n, DIMENSIONS)."""
        seeds = [zlib.crc32(text.encode()) for text in texts]
        rows = [
            np.random.default_rng(seed).standard_normal(WIDTH, dtype=np.float32) for seed in seeds
        ]
        found = np.array(rows)
        for weights in self._weights:
            found = np.maximum(found, np.float32(-0.1) * found) @ weights
        return found


@dataclass(slots=True)
class Seen:
    """When each request came and was done; the size and the seconds of each batch."""

    came: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    batches: list[tuple[int, float]] = field(default_factory=list)


class Queue:
    """What waits, and the one batch that is worked on, in a thread."""

    def __init__(self, network: Network) -> None:
        self._network, self._seen = network, Seen()
        self._waiting: list[tuple[float, Connection, str]] = []
        self._work: asyncio.Task[None] | None = None

    def answer(self, line: Connection, request: bytes) -> None:
        """Put a request into the queue."""
        head, _, body = request.partition(b"\r\n\r\n")
        if head.startswith(b"GET /seen"):
            line.send("200 OK", orjson.dumps(self._seen))
            self._seen = Seen()
            return
        (text,) = orjson.loads(body)["input"]
        self._waiting.append((time.monotonic(), line, text))
        if self._work is None:
            self._work = asyncio.create_task(self._batches())

    async def _batches(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            began = time.monotonic()
            rows = await asyncio.to_thread(self._network.vectors, [text for _, _, text in some])
            now = time.monotonic()
            self._seen.batches.append((len(some), now - began))
            for (came, line, _), row in zip(some, rows, strict=True):
                self._seen.came.append(came)
                self._seen.done.append(now)
                line.send("200 OK", _answer(row))
        self._work = None


def _answer(row: Rows) -> bytes:
    vector = base64.b64encode(row.tobytes()).decode()
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    return orjson.dumps({"object": "list", "data": data, "model": "stand-in", "usage": usage})


async def _main() -> None:
    await serve(Queue(Network()).answer)


if __name__ == "__main__":
    asyncio.run(_main())
