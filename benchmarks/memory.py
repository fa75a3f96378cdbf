"""Does memory grow with the corpus?"""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import corpora, local_job
from benchmarks.measuring import FailedError, Scope, Table, goal, median

ROWS, QUICK_ROWS = (200_000, 2_000_000), (50_000, 200_000)
GROWTH = 1.1
EVERY = 0.1


def measure(scope: Scope) -> Table:
    """Compare the peak memory of whole jobs of ten times as many rows."""
    few, many = QUICK_ROWS if scope.quick else ROWS
    small, large = corpora.short(scope, few), corpora.short(scope, many)
    before = _peaks(small, scope, scope.rounds)
    after = _peaks(large, scope, 1)
    rows = []
    for title, small_peaks, large_peaks in zip(
        ("the largest process (`ru_maxrss`)", "all processes (sum of PSS, sampled)"),
        before,
        after,
        strict=True,
    ):
        low, high = median(small_peaks), median(large_peaks)
        met = _judged(high / low, quick=scope.quick)
        rows.append((title, f"{low:.0f} MB", f"{high:.0f} MB", f"**{high / low:.2f}**", met))
    return Table(
        "Peak memory on `local`",
        ("", f"{few:,} rows", f"{many:,} rows", "growth", "goal"),
        rows,
        f"Libraries and model included: the median of {scope.rounds} runs, and one run of the "
        f"large corpus. PSS counts a page that processes share once; it is looked at every "
        f"{EVERY:g} s, so a short peak may be missed. The vectors alone are 1 KB a row.",
    )


def _peaks(corpus: Path, scope: Scope, runs: int) -> tuple[list[float], list[float]]:
    """Return, for each of some runs, the peak in MB of its largest process, and of all of them."""
    largest, together = [], []
    for _ in range(runs):
        with _watched() as seen:
            usage = local_job.run(corpus, scope)
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if own >= usage.memory:
            raise FailedError(f"{own:.0f} MB here hide the {usage.memory:.0f} MB of the child")
        largest.append(usage.memory)
        together.append(max(seen))
    return largest, together


@contextmanager
def _watched() -> Iterator[list[float]]:
    """Note the memory in MB of all that this process started, now and again."""
    seen, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            seen.append(sum(map(_proportional, _descendants(os.getpid()))))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _descendants(process: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it may be gone by now
        for told in Path(f"/proc/{process}/task").glob("*/children"):
            for child in map(int, told.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def _proportional(process: int) -> float:
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return 0.0


def _judged(growth: float, *, quick: bool) -> str:
    """Return the goal in words; small corpora have not filled the buffers yet, so they say less."""
    return "judged on 2,000,000 rows only" if quick else goal(growth, most=GROWTH)
