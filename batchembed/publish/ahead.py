"""Staging in a thread, which begins while texts are still embedded."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from batchembed.ledger import NOWHERE, Places
from batchembed.publish.staging import Form, Heard, Sides, Staged, clear, stage
from batchembed.store import Store

LOOK_SECONDS = 0.2


class DroppedError(Exception):
    """What is staged is not wanted any more."""


class Ahead:
    """Stages the rows of `sides` in order, each as soon as it has a vector or a reject.

    `form` says what the parts look like, by what is known of the vectors by then. What leaves the
    `with` block before the `end` leaves nothing staged. `rows` counts those that are.
    """

    def __init__(
        self,
        sides: Sides,
        places: Places,
        store: Store,
        *,
        form: Callable[[], Form],
    ) -> None:
        self._sides, self._places = sides, places
        self._store, self._form = store, form
        self._ended = self._dropped = False
        self.rows = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="stage")
        self._staging = self._thread.submit(self._run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._dropped = True
        self._places.news.set()
        self._thread.shutdown()
        if kind is not None:
            clear(self._sides, self._store)

    def end(self, heard: Heard) -> Staged:
        """Return what is staged once all is, which needs all rows to be settled; see `stage`."""
        self._ended = True
        self._places.news.set()
        told = 0
        while not self._staging.done():
            wait([self._staging], LOOK_SECONDS)
            told, before = self.rows, told
            heard(told - before)
        begun, staged = self._staging.result()
        form = self._form()
        if begun == form:
            return staged
        return stage(self._sides, self._store, form=form, heard=lambda _: None)

    def read(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the places of some rows once they are settled: see `Placed`."""
        while True:
            self._places.news.clear()
            ended = self._ended
            self._sides.still_ours()
            if self._dropped:
                raise DroppedError
            found = self._places.read(start, stop)
            if ended or self._settled(start, stop, found):
                return found
            self._places.news.wait()

    def _run(self) -> tuple[Form, Staged]:
        self._places.news.wait()
        form, sides = self._form(), replace(self._sides, places=self)
        try:
            return form, stage(sides, self._store, form=form, heard=self._hear)
        except BaseException:
            self.rows = 0
            raise

    def _hear(self, rows: int) -> None:
        self.rows += rows

    def _settled(self, start: int, stop: int, found: NDArray[np.int64]) -> bool:
        """Return whether the rows that have no vector yet never will."""
        without = np.flatnonzero(found == NOWHERE).tolist()
        if not without:
            return True
        keys, reasons = self._sides.keyed.read(start, stop)
        rejects = self._sides.ledger.rejects
        return all(reasons[at] or keys[at].tobytes() in rejects for at in without)
