"""Lanes: the static model encodes here at first, and in longer runs in processes beside this one.

Theory of operation. A lane takes a request and gives its answer; free lanes wait in a queue. The
first lane is the model in this process, so that few texts cost no start-up. When requests have to
wait, workers are started one after another, and each joins once it says that it has the same model.
A worker takes two requests, so that it finds the next one when it is done. A worker that dies is
not started again: the request it had is done here, the vectors are the same wherever they are made.
Where workers were started early, the first lane stays out: the model here need not even be loaded.
"""

from __future__ import annotations

import fcntl
import marshal
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import IO, Any, Final

import numpy as np

from batchembed.providers.static_worker import (
    Answer,
    Encoder,
    Spans,
    identity,
    receive,
    receive_into,
    send,
)

REQUESTS_A_WORKER: Final = 2
MOST_WORKERS: Final = 8  # more would wait for this process; each takes about 100 MB
_START_AFTER: Final = 4  # requests that had to wait, for each worker
_MANY: Final = 1  # with so many workers, encoding here only delays feeding them
_PIPE_BYTES: Final = 2**20  # what Linux lets everybody have: an answer fits, no one waits
_CODE: Final = (
    "import sys; sys.path[:] = sys.argv[1:-1];"
    "from batchembed.providers.static_worker import main; main()"
)
_ALONE: Final = {"TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"}


class Worker:
    """A process that encodes, its pipes, and the order in which its answers are read."""

    def __init__(self, dimensions: int) -> None:
        # Nothing but what we import ourselves may be imported there: hence -I and our own path.
        self._process = subprocess.Popen(  # noqa: S603 — ourselves
            [sys.executable, "-I", "-c", _CODE, *sys.path, str(dimensions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | _ALONE,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = _wide(self._process.stdin), _wide(self._process.stdout)
        self._sending, self._reading = threading.Lock(), threading.Lock()
        self._dimensions = dimensions

    def identity(self) -> Any:
        """Wait until the worker has loaded its model and return which; None: it cannot serve."""
        with self._reading:
            try:
                return receive(self._answers)
            except Exception:  # noqa: BLE001 — it died, or something else spoke in its place
                return None

    def encode(self, texts: tuple[str, ...], controls: Spans | None = None, /) -> Answer:
        """Do what the model does; raises EOFError or OSError if the worker is gone."""
        vectors = np.empty((len(texts), self._dimensions), np.float32)
        tokens = np.empty(len(texts), np.int32)
        message = marshal.dumps((texts, controls))
        with self._sending:
            if self._process.returncode is not None:
                raise EOFError
            send(self._requests, message)
            self._reading.acquire()  # before the next one is sent: answers come in this order
        try:
            if (refused := receive(self._answers)) is None:
                receive_into(self._answers, vectors)
                receive_into(self._answers, tokens)
        finally:
            self._reading.release()
        if refused is not None:
            raise ValueError(refused)
        return vectors, tokens

    def kill(self) -> None:
        """End the process at once; whoever waits for an answer gets EOFError."""
        self._process.kill()

    def close(self) -> None:
        """End the process and leave nothing of it behind. May be called twice."""
        self.kill()
        with self._sending, self._reading:
            self._process.wait()
            for pipe in (self._requests, self._answers):
                with suppress(OSError):  # what was not flushed has no reader any more
                    pipe.close()


class Lanes:
    """The model and up to `workers` processes with the same one, as if they were one model.

    Use `encode` from threads, `1 + workers * REQUESTS_A_WORKER` at a time keep all busy. `early`
    are workers that were started before; they are closed with the others.
    """

    def __init__(self, model: Encoder, workers: int, *, early: Sequence[Worker] = ()) -> None:
        self.name, self.version, self.dimensions = identity(model)
        self._model = model
        self._most = most_workers(workers)
        self._lock = threading.Lock()
        self._free: SimpleQueue[Encoder | Worker] = SimpleQueue()
        self._started: list[Worker] = []
        self._joined: set[Worker] = set()
        self._starts = self._inside = self._waited = 0
        self._resting, self._closed = bool(early), False
        self._expected = len(early)
        if not early:
            self._free.put(model)
        for worker in early:
            self._starts += 1
            threading.Thread(target=self._let_join, args=(worker,), daemon=True).start()

    def encode(self, texts: tuple[str, ...], controls: Spans | None = None, /) -> Answer:
        """Do what the model does, in the lane that is free next."""
        self._enter()
        try:
            return self._encode(texts, controls)
        finally:
            with self._lock:
                self._inside -= 1

    def close(self) -> None:
        """End the workers at once; requests that they have are lost."""
        with self._lock:
            self._closed = True
            started = list(self._started)
        for worker in started:
            worker.kill()
        for worker in started:
            worker.close()

    def _encode(self, texts: tuple[str, ...], controls: Spans | None) -> Answer:
        lane = self._take()
        try:
            return lane.encode(texts, controls)
        except (EOFError, OSError):
            if not isinstance(lane, Worker):
                raise
            self._drop(lane)
            return self._model.encode(texts, controls)
        finally:
            if lane is self._model or lane in self._joined:
                self._free.put(lane)

    def _take(self) -> Encoder | Worker:
        while True:
            lane = self._free.get()
            with self._lock:
                if self._closed:
                    self._free.put(lane)
                    raise RuntimeError("the provider is closed")
                if lane is not self._model or len(self._joined) < _MANY:
                    return lane
                self._resting = True

    def _enter(self) -> None:
        """Start a worker if requests have to wait and there may be one more."""
        with self._lock:
            self._inside += 1
            self._waited += self._inside > 1 + REQUESTS_A_WORKER * len(self._joined)
            due = self._waited >= _START_AFTER and self._starts < self._most and not self._closed
            if not due:
                return
            self._waited = 0
            self._starts += 1
            self._expected += 1
        threading.Thread(target=self._start, name="start a worker", daemon=True).start()

    def _start(self) -> None:
        """Start a worker more."""
        try:
            worker = Worker(self.dimensions)
        except OSError:  # no more processes or memory to be had: the other lanes serve
            with self._lock:
                self._expected -= 1
                self._wake()
            return
        self._let_join(worker)

    def _let_join(self, worker: Worker) -> None:
        """Let a worker join once it says that it is ready."""
        with self._lock:
            self._started.append(worker)
            if self._closed:
                worker.kill()
        same = worker.identity() == identity(self._model)
        with self._lock:
            self._expected -= 1
            if same and not self._closed:
                self._joined.add(worker)
                for _ in range(REQUESTS_A_WORKER):
                    self._free.put(worker)
                return
            self._wake()
        worker.close()

    def _wake(self) -> None:
        """Let requests be done here again where too few workers are left to do them."""
        if self._resting and len(self._joined) < _MANY and not self._expected:
            self._resting = False
            self._free.put(self._model)

    def _drop(self, worker: Worker) -> None:
        """Let no more requests go to a worker that died."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the provider is closed")
            self._joined.discard(worker)
            self._wake()
        worker.close()


def most_workers(wanted: int) -> int:
    """Return how many workers there may be: none where there is no interpreter to start."""
    return 0 if getattr(sys, "frozen", False) else wanted


def _wide(pipe: IO[bytes]) -> IO[bytes]:
    """Make a pipe as wide as it may be, where the system has a say in that."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return pipe
