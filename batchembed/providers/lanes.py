"""Lanes: the static model encodes in this process, and for longer runs in others beside it."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Final

import numpy as np
from numpy.typing import NDArray

from batchembed.providers.static_worker import Encoder, identity, receive, receive_array, send

Spans = Sequence[Sequence[tuple[int, int, float]]]
Answer = tuple[NDArray[np.float32], NDArray[np.int32]]

START_AT: Final = int(os.environ.get("X_START", "4"))
_PIPE_BYTES: Final = 2**20
_CODE: Final = (
    "import sys; sys.path[:] = sys.argv[1:-1];"
    "from batchembed.providers.static_worker import main; main()"
)


class Worker:
    """A process that encodes one request at a time. `start` it first."""

    def __init__(self, dimensions: int) -> None:
        # Nothing of the folder it is started in may be imported, so the path is ours (-I, argv).
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _CODE, *sys.path, str(dimensions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false", "OPENBLAS_NUM_THREADS": "1"},
        )
        self.requests, self.answers = self._process.stdin, self._process.stdout
        for pipe in (self.requests, self.answers):
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._busy = threading.Lock()

    def identity(self):
        with self._busy:
            return receive(self.answers)

    def encode(self, texts, controls, dimensions):
        with self._busy:
            send(self.requests, (tuple(texts), controls))
            count, why = receive(self.answers)
            if why is not None:
                raise ValueError(why)
            return (
                receive_array(self.answers, (count, dimensions), np.float32),
                receive_array(self.answers, (count,), np.int32),
            )

    def close(self):
        self._process.kill()
        with self._busy:
            self._process.wait()
            for pipe in (self.requests, self.answers):
                with suppress(OSError):
                    pipe.close()


class Lanes:
    def __init__(self, model, workers):
        self.name, self.version, self.dimensions = identity(model)
        self._model = model
        self._wanted = workers
        self._free = SimpleQueue()
        self._free.put(None)
        self._lock = threading.Lock()
        self._workers = []
        self._served = 0
        self._closed = False

    def encode(self, texts, controls=None):
        self._count()
        while True:
            lane = self._free.get()
            if lane is None and os.environ.get("X_LEAVE") and len(self._workers) >= self._wanted:
                continue
            break
        try:
            if lane is not None:
                return lane.encode(texts, controls, self.dimensions)
            return self._model.encode(texts, controls)
        finally:
            self._free.put(lane)

    def _count(self):
        self._served += 1
        if self._served == START_AT:
            for _ in range(self._wanted):
                threading.Thread(target=self._start, daemon=True).start()

    def _start(self):
        worker = Worker(self.dimensions)
        if worker.identity() == identity(self._model):
            self._workers.append(worker)
            self._free.put(worker)

    def close(self):
        for w in self._workers:
            w.close()
