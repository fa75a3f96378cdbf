"""A file for node_exporter's textfile collector: in Prometheus' text format, replaced whole."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from batchembed.errors import UsageError
from batchembed.metrics.table import About, Reading, readings
from batchembed.monitor import Progress

WRITE_SECONDS = 60.0
_SUCCESS = re.compile(
    r"(?m)^batchembed_run_last_success_timestamp_seconds\{.*\} ([0-9.e+]{1,24})$", re.ASCII
)


class Textfile:
    """Writes the metrics of a run every minute and at its end.

    Raises UsageError where the file cannot be written; later that is a warning, not an end.
    """

    def __init__(self, path: Path, about: About, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._about = replace(about, success=_last_success(path))
        self._written_at: float | None = None
        self._warned = False
        if not path.suffix == ".prom":
            raise UsageError(
                f"`metrics.textfile` is `{path}`, which no collector reads",
                hint=f"its name must end with .prom: {path.stem or 'batchembed'}.prom",
            )
        folder = path.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK) or path.is_dir():
            raise UsageError(
                f"`metrics.textfile` cannot be written: `{path}`",
                hint="its folder must be there and writable; node_exporter reads the one that "
                "--collector.textfile.directory names",
            )

    def heard(self, progress: Progress, now: float) -> None:
        """Write the file when it is time to."""
        if self._written_at is None or now - self._written_at >= WRITE_SECONDS:
            self._written_at = now
            self._write(progress, ended=False)

    def ended(self, progress: Progress) -> None:
        """Write the file for the last time."""
        self._write(progress, ended=True)

    def _write(self, progress: Progress, *, ended: bool) -> None:
        words = rendered(readings(self._about, progress, ended=ended))
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            temporary.write_text(words, "utf-8")
            temporary.replace(self._path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if not self._warned:
                self._warned = True
                self._say(f"warning: {self._path}: {error.strerror}; metrics are not written")


def rendered(found: Iterable[Reading]) -> str:
    """Return readings in Prometheus' text format; those of one metric must follow each other."""
    return "".join(_lines(found))


def _lines(found: Iterable[Reading]) -> Iterator[str]:
    last = ""
    for one in found:
        metric = one.metric
        if metric.name != last:
            last = metric.name
            yield f"# HELP {metric.name} {metric.help}\n# TYPE {metric.name} {metric.kind}\n"
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in one.labels.items())
        yield f"{metric.name}{{{labels}}} {one.value!r}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _last_success(path: Path) -> float | None:
    """Return when a run last ended well, by the file that is there."""
    try:
        found = _SUCCESS.search(path.read_text("utf-8"))
        return float(found[1]) if found else None
    except (OSError, ValueError):
        return None
