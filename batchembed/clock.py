"""Time as it is passed in, so that tests can run hours in milliseconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the program may know of time."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow; for pacing and time-outs."""

    def now(self) -> datetime:
        """Return the time of day in UTC; for people and files."""


class SystemClock:
    """The clock of the machine."""

    def monotonic(self) -> float:
        """Return `time.monotonic`."""
        return time.monotonic()

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        return datetime.now(UTC)
