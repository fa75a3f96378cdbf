"""What is looked at while texts are bought: is the directory still ours, can the disk take more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from batchembed.errors import BatchembedError, NotFinishedError
from batchembed.preparing import Run
from batchembed.spec import KEY_BYTES
from batchembed.store import disk_usage

RESERVE = 64 << 20
SHARE = 20  # of a small disk, a twentieth is kept free instead
LOOK_SECONDS = 0.1  # a look takes 20 µs, a quarter of a request of one text
A_NUMBER = 4


@dataclass(slots=True)
class Guard:
    """Says why no more may be bought. `rows` tells how many rows are still to be published."""

    run: Run
    rows: Callable[[], int]
    looked: float = -inf
    dimensions: int | None = None

    def objection(self, dimensions: int | None) -> BatchembedError | None:
        """Return why nothing more may be sent, None when it may.

        `dimensions` is what one row takes, None while no answer has told. What is left to buy and
        the parts made of all that is bought must fit on the disk, with a reserve. It is looked at
        most ten times a second, and when the first answer has told.
        """
        now = self.run.clock.monotonic()
        if now - self.looked < LOOK_SECONDS and dimensions == self.dimensions:
            return None
        self.looked, self.dimensions = now, dimensions
        try:
            self.run.still_ours()
        except NotFinishedError as error:
            return error
        free, total = disk_usage(self.run.store.root)
        needed = min(RESERVE, total // SHARE) + self._bytes(dimensions or 0)
        if free >= needed:
            return None
        return NotFinishedError(
            f"the disk of `{self.run.store.root}` has room for {free:,} bytes, and what is still "
            f"to be bought and published needs {needed:,}",
            hint="make room, then run the same command again: what was paid for is kept",
        )

    def _bytes(self, dimensions: int) -> int:
        summary, width = self.run.summary, A_NUMBER * dimensions
        left = summary.to_send - summary.sent
        halves = 1 + (self.run.job.output.dtype == "float16")
        return left * (width + KEY_BYTES) + self.rows() * (width // halves + KEY_BYTES)
