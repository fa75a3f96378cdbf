"""What a run says on stderr: a bar, plain lines, lines of JSON, or nothing."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal, TextIO

from batchembed.errors import BatchembedError
from batchembed.monitor import telling
from batchembed.monitor.bar import Bar
from batchembed.monitor.progress import Progress
from batchembed.monitor.telling import Level

LINE_SECONDS = 30.0
BAR_SECONDS = 0.5
Mode = Literal["auto", "bar", "lines", "json", "quiet"]


class Voice:
    """Says nothing more often than a person or a log can bear. Seconds are of the run's clock."""

    def __init__(self, mode: Mode, stream: TextIO, now: float) -> None:
        if mode == "auto":
            mode = "bar" if stream.isatty() else "lines"
        self.mode: Mode = mode
        self._stream = stream
        self._said_at = now
        self._bar = Bar(stream) if mode == "bar" else None

    def is_due(self, now: float) -> bool:
        """Return whether it is time to say where the run stands."""
        if self.mode == "quiet":
            return False
        return now - self._said_at >= (BAR_SECONDS if self.mode == "bar" else LINE_SECONDS)

    def stands(self, progress: Progress, now: float) -> None:
        """Say where the run stands."""
        self._said_at = now
        if self._bar is not None:
            self._bar.show(progress)
        elif self.mode == "json":
            self._event("progress", telling.line(progress), progress)
        else:
            self._print(telling.line(progress))

    def phase(self, progress: Progress, now: float) -> None:
        """Say that a part of the run begins, where that is worth a word."""
        if self._bar is not None:
            self.stands(progress, now)
        elif self.mode == "json":
            self._event("phase", progress.phase, progress)

    def say(self, words: str, progress: Progress) -> None:
        """Say a line to people."""
        if self.mode == "json":
            level: Level = "warning" if words.startswith("warning") else "info"
            self._event("note", words, progress, level=level)
        elif self.mode != "quiet":
            self._print(words)

    def error(self, error: BatchembedError, progress: Progress) -> None:
        """Say as JSON why a run ends."""
        told = (error.message, progress)
        self._event("error", *told, level="error", hint=error.hint, code=error.exit_code)

    def end(self, progress: Progress) -> None:
        """Say that the run came to its end, and let go of the terminal."""
        if self._bar is not None:
            self._bar.close()
        if self.mode == "json" and progress.summary.state != "stopped":
            state, code = progress.summary.state, progress.summary.exit_code
            self._event("end", state, progress, code=code)

    def _event(
        self,
        event: str,
        message: str,
        progress: Progress,
        *,
        level: Level = "info",
        hint: str | None = None,
        code: int | None = None,
    ) -> None:
        self._print(
            telling.json_line(event, message, progress, level=level, hint=hint, exit_code=code)
        )

    def _print(self, words: str) -> None:
        """Print a line; when nobody can read it any more, the run goes on without."""
        with suppress(OSError):
            if self._bar is not None:
                self._bar.say(words)
            else:
                print(words, file=self._stream, flush=True)
