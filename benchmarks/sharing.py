"""Do runs that are each told the whole limit of one key use it, share it, and not pass it?"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from aiohttp import web

from benchmarks.measuring import FailedError, Scope, Table, job, program

RUNS = 4
WINDOW = 10.0
ANSWERS = 0.05  # seconds that an answer takes
RATES = (50, 200)
SECONDS, QUICK_SECONDS = 40, 12
EDGE = 1.0  # seconds at both ends that are left out, where not all of them send


class Server:
    """Answers as OpenAI does, at most so many requests in any ten seconds; knows whose each was."""

    def __init__(self, per_second: float) -> None:
        self.url = ""
        self.taken: list[tuple[float, str]] = []
        self.refused = 0
        self._most = per_second * WINDOW
        self._window: deque[float] = deque()

    async def answer(self, request: web.Request) -> web.Response:
        """Answer one request: a text says at its beginning whose it is."""
        told, now = orjson.loads(await request.read()), time.monotonic()
        while self._window and now - self._window[0] >= WINDOW:
            self._window.popleft()
        if len(self._window) >= self._most:
            self.refused += 1
            return web.json_response({"error": {"message": "slow down"}}, status=429)
        self._window.append(now)
        self.taken.append((now, told["input"][0].partition("/")[0]))
        await asyncio.sleep(ANSWERS)
        vector = np.ones(8, "<f4")
        whole = told.get("encoding_format") == "base64"
        given = base64.b64encode(vector.tobytes()).decode() if whole else vector.tolist()
        data = [{"index": at, "embedding": given} for at in range(len(told["input"]))]
        return web.json_response({"data": data, "model": "stand-in", "usage": {"total_tokens": 9}})


@contextmanager
def serving(per_second: float) -> Iterator[Server]:
    """Serve on a thread of its own until the block ends."""
    server, loop, ready = Server(per_second), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/embeddings", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def measure(scope: Scope) -> Table:
    """Let four runs of one key send for some time, with a limiter and without one."""
    seconds = QUICK_SECONDS if scope.quick else SECONDS
    rows: list[Sequence[str]] = []
    for per_second in RATES[:1] if scope.quick else RATES:
        rows += [_row(scope, per_second, seconds, shared=shared) for shared in (True, False)]
    return Table(
        "Runs that share a limit",
        ("four runs, each told the whole limit", "limit a second", "used", "429s", "shares"),
        rows,
        f"Percent. Real processes over loopback, {seconds} s of work, one text a request; a server "
        f"that takes so many in any {WINDOW:.0f} s and answers after {1000 * ANSWERS:.0f} ms. "
        "By what the server counted, while all four had something to send.",
    )


def _row(scope: Scope, per_second: int, seconds: int, *, shared: bool) -> Sequence[str]:
    with serving(per_second) as server:
        share = f"unix:{scope.folder}/s"
        with limiter(share) if shared else nullcontext():
            count = per_second * seconds // RUNS
            limits = (
                f"requests_per_minute = {60 * per_second}",
                "texts_per_request = 1",
                f'share = "{share if shared else "off"}"',
            )
            begun = [_start(scope, server, number, count, limits) for number in range(RUNS)]
            for process in begun:
                said, _ = process.communicate()
                if process.returncode:
                    raise FailedError(f"a run ended with {process.returncode}:\n{said}")
        used, shares = _between(server)
    attempts = len(server.taken) + server.refused
    return (
        "with a limiter" if shared else "without one",
        str(per_second),
        f"{100 * used / per_second:.1f}",
        f"{100 * server.refused / attempts:.2f}",
        ", ".join(f"{100 * share:.1f}" for share in shares),
    )


def _between(server: Server) -> tuple[float, list[float]]:
    """Return the requests a second, and the share of each run, while all of them sent."""
    names = [str(number) for number in range(RUNS)]
    times = {name: [at for at, whose in server.taken if whose == name] for name in names}
    begin = max(told[0] for told in times.values()) + EDGE
    end = min(told[-1] for told in times.values()) - EDGE
    counts = Counter(whose for at, whose in server.taken if begin <= at < end)
    total = sum(counts.values())
    return total / (end - begin), [counts[name] / total for name in names]


def _start(
    scope: Scope, server: Server, number: int, count: int, limits: Sequence[str]
) -> subprocess.Popen[str]:
    corpus = scope.folder / f"shared-{number}.parquet"
    texts = [f"{number}/{at} of what is to be embedded" for at in range(count)]
    pq.write_table(pa.table({"id": list(range(count)), "text": texts}), corpus)
    model = {"provider": '"openai"', "name": '"stand-in"', "base_url": f'"{server.url}"'}
    file = job(corpus, scope.folder / f"run-shared-{number}", model, *limits)
    command = [*program(), "run", str(file), "--quiet"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@contextmanager
def limiter(place: str) -> Iterator[None]:
    """Let a limiter listen at a place until the block ends."""
    command = [*program(), "limiter", "--listen", place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise FailedError(f"{' '.join(command)} ended with {process.wait()}")
        try:
            yield
        finally:
            process.terminate()
