"""What open requests bring at a real server without limits, and what is found by `"auto"`."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import corpora
from benchmarks.measuring import CLIENT_CORE, Scope, Table, child, goal, job, pinned, program
from benchmarks.pacing import loopback

ROWS = {1: 600, 2: 700, 4: 1000, 8: 1600, 12: 2000, 16: 2400, 24: 2400, 32: 2400, 64: 2400}
AUTO_ROWS, QUICK = 18_000, 4
NEAR = 0.985
LEAST, SLOWEST = 0.95, 1.5


@dataclass(frozen=True, slots=True)
class Measured:
    """Answers a second and seconds of an answer, at the server, at so many open requests."""

    rate: float
    latency: float
    batches: Sequence[tuple[int, float]] = ()


def measure(scope: Scope) -> Table:
    """Measure fixed numbers and `"auto"`, as whole runs."""
    part = QUICK if scope.quick else 1
    with server() as url:
        fixed = {n: run(url, scope.folder, n, rows // part) for n, rows in ROWS.items()}
        auto = run(url, scope.folder, "auto", AUTO_ROWS // part, settled=1 / 3)
        again = {n: run(url, scope.folder, n, ROWS[n] // part) for n in (best(fixed)[0],)}
    number, top = best(fixed | again)
    rows = [_row(str(n), found, top) for n, found in fixed.items()]
    rows.append(_row(f"{number}, once more", again[best(fixed)[0]], top))
    share, times = auto.rate / top.rate, auto.latency / top.latency
    goals = f"{goal(share, least=LEAST)}; {goal(times, most=SLOWEST)}"
    rows.append((*_row('**"auto"**', auto, top)[:-1], goals))
    size, seconds = curve([*fixed.values(), auto])
    told = ", ".join(f"{n}: {1000 * took:.0f}" for n, took in zip(size, seconds, strict=True))
    return Table(
        "Open requests at a server that computes",
        ("open", "answers a second", "of the best", "latency", "times the best's", "goal"),
        rows,
        "Whole runs of `batchembed run` against `benchmarks/pacing/encoder.py` in another process, "
        "which works on batches of up to 16 requests. The best: the fewest open requests that "
        f"bring {NEAR:.1%} of the most. The first fifth of a run is left out, of auto a third. "
        f"Milliseconds of a batch, by its size: {told}.",
    )


def server() -> Any:
    """Run the server, which gets one core."""
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    return loopback.running(module="benchmarks.pacing.encoder")


def run(
    url: str, folder: Path, concurrency: int | str, rows: int, *, settled: float = 0.2
) -> Measured:
    """Run a job of so many texts; return what the server saw of all but its first part."""
    corpus = corpora.make(folder / f"short-{rows}.parquet", rows)
    model = {"provider": '"openai"', "name": '"stand-in"', "base_url": f'"{url}"'}
    told = f'"{concurrency}"' if concurrency == "auto" else concurrency
    path = job(corpus, folder / "run-knee", model, f"concurrency = {told}", "texts_per_request = 1")
    with pinned(CLIENT_CORE):
        child([*program(), "run", str(path)], environ={"OPENAI_API_KEY": "none"})
    found = loopback.seen(url)
    came, done = np.array(found["came"]), np.array(found["done"])
    begin, end = done[0] + settled * (done[-1] - done[0]), done[-1] - 0.2
    within = (done > begin) & (done <= end)
    return Measured(
        float(within.sum() / (end - begin)),
        float((done - came)[within].mean()),
        [(size, seconds) for size, seconds in found["batches"]],
    )


def best(fixed: dict[int, Measured]) -> tuple[int, Measured]:
    """Return the fewest open requests that bring as good as the most, and what they bring."""
    most = max(found.rate for found in fixed.values())
    number = min(n for n, found in fixed.items() if found.rate >= NEAR * most)
    return number, fixed[number]


def curve(found: Sequence[Measured]) -> tuple[list[int], list[float]]:
    """Return the sizes of batches that were seen, and the median seconds of each."""
    seconds: dict[int, list[float]] = {}
    for one in found:
        for size, took in one.batches:
            seconds.setdefault(size, []).append(took)
    sizes = sorted(seconds)
    return sizes, [statistics.median(seconds[size]) for size in sizes]


def _row(name: str, found: Measured, top: Measured) -> tuple[str, ...]:
    return (
        name,
        f"{found.rate:.0f}",
        f"{found.rate / top.rate:.0%}",
        f"{1000 * found.latency:.0f} ms",
        f"{found.latency / top.latency:.2f}",
        "",
    )
