"""Threads that share one stream of work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Work = TypeVar("Work")


def each(
    work: Callable[[Work], None],
    stream: Iterator[Work],
    threads: int,
    begin: Callable[[], None] = lambda: None,
) -> None:
    """Call `work` with all that `stream` yields; raise the first error, once all have stopped.

    The order in which work ends is open, so it must not matter. Each thread calls `begin` first.
    """
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

    with ThreadPoolExecutor(threads, initializer=begin) as pool:
        pulling = [pool.submit(pull) for _ in range(threads)]
        try:
            for thread in pulling:
                thread.result()
        finally:
            stopped.set()
