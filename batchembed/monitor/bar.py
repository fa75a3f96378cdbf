"""One bar on a terminal, as wide as it is: what is done, how fast, and why not faster."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from batchembed.monitor import telling
from batchembed.monitor.progress import Progress

if TYPE_CHECKING:
    from tqdm import tqdm

LEAST_BAR = 6
WIDEST_BAR = 30
WITH_BAR = "{desc} {bar} {words}"
WITHOUT = "{desc}  {words}"


class Bar:
    """A bar that is drawn when it is told to; `close` leaves nothing of it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm[Any] | None = None

    def show(self, progress: Progress) -> None:
        """Draw where a run stands."""
        if self._bar is None:
            self._bar = _made(self._stream)
        bar = self._bar
        width = self._width()
        desc = progress.phase
        if progress.total:
            desc += f" {telling.percent(progress):>5}"
        room = width - len(desc) - 2
        words = telling.beside(progress, room - LEAST_BAR - 1 if progress.total else room)
        free = room - len(words) - 1
        bar.desc, bar.words = desc, words  # type: ignore[attr-defined]
        bar.bar_format = WITH_BAR if progress.total and free >= LEAST_BAR else WITHOUT
        bar.ncols = min(width, len(desc) + len(words) + WIDEST_BAR + 2)
        bar.total, bar.n = progress.total, progress.done
        wanted = "yellow" if progress.standing.kind and "NO_COLOR" not in os.environ else None
        bar.colour = wanted
        with suppress(OSError):  # nobody looks any more
            bar.refresh()

    def say(self, words: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(words, file=self._stream, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def close(self) -> None:
        """Wipe the bar."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()
            self._bar = None

    def _width(self) -> int:
        """Return how many letters a line of the terminal has."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        except (OSError, ValueError):
            return shutil.get_terminal_size().columns


def _made(stream: TextIO) -> tqdm[Any]:
    """Return tqdm's bar, which draws only when it is told to, with words of ours beside it."""
    from tqdm import tqdm

    class Drawn(tqdm):  # type: ignore[type-arg]
        """A bar with words of ours, and without a thread of its own."""

        monitor_interval = 0
        words = ""

        @property
        def format_dict(self) -> Any:
            return {**super().format_dict, "words": self.words}

    return Drawn(total=1, file=stream, leave=False, bar_format=WITHOUT, desc="")
