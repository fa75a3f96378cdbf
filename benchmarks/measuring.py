"""Measuring: child processes with their CPU, wall time and memory; medians; interleaved rounds."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parent.parent
CLIENT_CORE = 0
Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a child process took. Seconds (CPU of all threads and of its children), megabytes."""

    wall: float
    cpu: float
    memory: float
    output: str


@dataclass(frozen=True, slots=True)
class Table:
    """A question and its answer: `rows` of words under `header`, and a note on how to read them."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"## {self.title}", "", "| " + " | ".join(self.header) + " |"]
        lines.append("|" + "---|" * len(self.header))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, "", self.note, ""])


@dataclass(frozen=True, slots=True)
class Scope:
    """How much to measure, and a scratch folder for it. `texts`: a corpus of one's own."""

    folder: Path
    rounds: int
    quick: bool
    texts: Path | None = None


class FailedError(Exception):
    """A measured command did not do what it should."""


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Start children in this block on one core; do nothing where there is only one."""
    own = os.sched_getaffinity(0)
    if core not in own or len(own) == 1:
        yield
        return
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def child(
    command: Sequence[str], *, environ: Mapping[str, str] | None = None, settled: bool = False
) -> Usage:
    """Run a command to its end and return what it took. Raises FailedError when it fails.

    `settled`: let the disk finish first what earlier commands wrote.
    """
    if settled:
        os.sync()
    told = {**os.environ, **(environ or {}), "PYTHONPATH": str(ROOT)}
    told.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program is not compiled at each start
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=told
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, took = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise FailedError(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    return Usage(wall, took.ru_utime + took.ru_stime, took.ru_maxrss / 1024, output)


def program() -> list[str]:
    """Return the command line that users type, `batchembed`, of this environment."""
    found = Path(sys.executable).with_name("batchembed")
    return [str(found)] if found.exists() else [sys.executable, "-m", "batchembed"]


def module(name: str, *words: str) -> list[str]:
    """Return the command that runs one of our own modules."""
    return [sys.executable, "-m", f"benchmarks.{name}", *words]


def interleaved(rounds: int, ways: Mapping[Name, Callable[[], Usage]]) -> dict[Name, list[Usage]]:
    """Measure every way once a round, so that a busy minute is shared by all."""
    found: dict[Name, list[Usage]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, measure in ways.items():
            print(f"\r\033[K{number + 1}/{rounds} {name}", end="", file=sys.stderr, flush=True)
            found[name].append(measure())
    print("\r\033[K", end="", file=sys.stderr, flush=True)
    return found


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def ratio(mine: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios within a round: what slows a whole round cancels."""
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def goal(value: float, *, least: float | None = None, most: float | None = None) -> str:
    """Return a goal in words, and whether `value` meets it."""
    if least is not None:
        return f"≥ {least:g}: {'met' if value >= least else '**missed**'}"
    assert most is not None
    return f"≤ {most:g}: {'met' if value <= most else '**missed**'}"


def job(corpus: Path, run: Path, model: Mapping[str, str], *limits: str) -> Path:
    """Write a job file beside the run directory, remove that, and return the file."""
    shutil.rmtree(run, ignore_errors=True)
    lines = ["[corpus]", f'path = "{corpus}"', 'text = "text"', 'id = "id"', "[model]"]
    lines += [f"{name} = {value}" for name, value in model.items()]
    lines += ["[limits]", *limits, "[output]", f'path = "{run}"']
    path = run.with_suffix(".toml")
    path.write_text("\n".join(lines) + "\n")
    return path
