"""Threads that share one stream of work, each with a single-threaded BLAS."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

Work = TypeVar("Work")


def available() -> int:
    """Return how many threads are worth having here.

    Only `threadpoolctl` can tell BLAS to leave the other cores alone. Without it there is one
    thread, and BLAS spreads each product over all cores as it always does.
    """
    if importlib.util.find_spec("threadpoolctl") is None:
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each(work: Callable[[Work], None], stream: Iterator[Work], threads: int) -> None:
    """Call `work` with all that `stream` yields; raise the first error, once all have stopped.

    The order in which work ends is open, so it must not matter.
    """
    if threads == 1:
        for one in stream:
            work(one)
        return
    lock, stopped = threading.Lock(), threading.Event()

    def pull() -> None:
        try:
            while not stopped.is_set():
                with lock:
                    one = next(stream, None)
                if one is None:
                    return
                work(one)
        except BaseException:
            stopped.set()
            raise

    with _single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        pulling = [pool.submit(pull) for _ in range(threads)]
        try:
            for thread in pulling:
                thread.result()
        finally:
            stopped.set()


def _single_threaded_blas() -> AbstractContextManager[object]:
    if importlib.util.find_spec("threadpoolctl") is None:
        return nullcontext()
    control = importlib.import_module("threadpoolctl")
    limits: AbstractContextManager[object] = control.threadpool_limits(1, user_api="blas")
    return limits
