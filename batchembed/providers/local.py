"""Models that run on this machine: an attempt is one call of a function in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from batchembed.cores import cores
from batchembed.exchange import About, Fatal, Limits, Outcome, Refused, Request, Response
from batchembed.providers.lanes import (
    MOST_WORKERS,
    REQUESTS_A_WORKER,
    Lanes,
    Worker,
    most_workers,
)
from batchembed.providers.static_files import EMBEDDED, checked, identity
from batchembed.providers.static_worker import Answer, Encoder, Spans
from batchembed.spec import Spec

if TYPE_CHECKING:
    from batchembed.providers.static_model import StaticModel

# As many workers as cores: this process has little to do while they encode, and where it has much,
# they wait for it. Two requests for each lane: one is encoded, the other is packed, on its way or
# written down. The vectors of 1,000 texts fit into a pipe, so that a worker can go on while they
# wait to be read.
_WORKERS = min(cores(), MOST_WORKERS) if cores() > 1 else 0
LIMITS = Limits(
    texts_per_request=1000,
    bytes_per_request=2 * 1024 * 1024,
    concurrency=2 + REQUESTS_A_WORKER * _WORKERS,
    unlimited=True,
)
TORCH_LIMITS = Limits(
    texts_per_request=256, bytes_per_request=1024 * 1024, concurrency=2, unlimited=True
)
EARLY_ROWS = 50_000  # a worker costs as much as encoding so many short texts
NO_KNOWN_TOKEN = "no_known_token"  # noqa: S105 — a reason, not a secret


class LocalProvider:
    """A provider whose vectors are computed here, off the event loop.

    `encode` takes a request and returns its outcome; it may raise, which ends the run: no
    network can be at fault. It is called by `threads` at once. `close` ends what it rests on.
    """

    def __init__(
        self,
        encode: Callable[[Request], Outcome],
        limits: Limits,
        *,
        threads: int = 1,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._encode = encode
        self._limits = limits
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="encode")
        self._close = close

    @property
    def limits(self) -> Limits:
        """What one request may hold."""
        return self._limits

    async def attempt(self, request: Request) -> Outcome:
        """Embed the request once and say what came of it."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, self._encode, request)
        except Exception as error:  # noqa: BLE001 — one attempt never raises: see Provider
            return Fatal(
                f"the model on this machine failed: {type(error).__name__}",
                hint=" ".join(str(error).split())[:300] or None,
            )

    async def about(self) -> About:
        """Return what is known: there is no server to ask."""
        return About(self._limits)

    async def close(self) -> None:
        """Release threads and processes; the provider is not used afterwards."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._close is not None:
            self._close()


class Later:
    """The embedded model, loaded when it is first needed in this process. Safe with threads."""

    def __init__(self, dimensions: int | None) -> None:
        self.name, self.version, self.dimensions = identity(EMBEDDED, dimensions)
        self._lock = threading.Lock()
        self._model: StaticModel | None = None

    def load(self) -> StaticModel:
        """Return the model, loaded once."""
        with self._lock:
            if self._model is None:
                from batchembed.providers.static_model import StaticModel

                self._model = StaticModel.load(dimensions=self.dimensions)
            return self._model

    def encode(self, texts: tuple[str, ...], controls: Spans | None = None, /) -> Answer:
        """Do what the model does."""
        return self.load().encode(texts, controls)


class Early:
    """Processes that load the embedded model while a run still reads its corpus."""

    def __init__(self, dimensions: int, rows: int, concurrency: int) -> None:
        """Start what a corpus of so many rows is worth."""
        wanted = min(_WORKERS, concurrency - 1, rows // EARLY_ROWS)
        self.workers: list[Worker] = []
        with suppress(OSError):  # no more processes to be had: see `Lanes`
            for _ in range(most_workers(wanted)):
                self.workers.append(Worker(dimensions))

    def close(self) -> None:
        """End those that are still there."""
        for worker in self.workers:
            worker.close()


def open_static(
    spec: Spec, *, concurrency: int = LIMITS.concurrency, early: Sequence[Worker] = ()
) -> LocalProvider:
    """Return the embedded model as a provider of no more lanes than `concurrency`."""
    checked(EMBEDDED)
    model = Later(spec.dimensions)
    if not early:  # else it is theirs to load, and the time it takes is saved here
        model.load()
    lanes = Lanes(model, workers=min(_WORKERS, concurrency - 1), early=early)
    return LocalProvider(
        lambda request: embed(lanes, request),
        LIMITS,
        threads=1 + REQUESTS_A_WORKER * _WORKERS,
        close=lanes.close,
    )


def embed(model: Encoder, request: Request) -> Outcome:
    """Return the vectors of `request`; a text of which the model knows no token is unusable.

    Refused means that some text or control of the request makes no sense to the model.
    """
    controls: Spans | None = None
    if request.controls is not None:
        controls = [[(c.start, c.length, c.factor) for c in spans] for spans in request.controls]
    try:
        vectors, tokens = model.encode(request.texts, controls)
    except ValueError as error:
        return Refused(str(error)[:300])
    return Response(
        vectors,
        tokens=int(tokens.sum()),
        model_version=f"{model.name} {model.version}",
        unusable={int(i): NO_KNOWN_TOKEN for i in (tokens == 0).nonzero()[0]},
        proven=True,
    )
