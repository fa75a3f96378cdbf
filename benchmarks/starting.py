"""How long until something is there: help, a first vector, the news that all is done?"""

from __future__ import annotations

import sys

from benchmarks import corpora, local_job
from benchmarks.measuring import (
    Scope,
    Table,
    Usage,
    child,
    goal,
    interleaved,
    median,
    program,
)

ROUNDS, QUICK_ROUNDS = 10, 3
FIRST = (
    "from batchembed.providers.static_model import StaticModel\n"
    "vectors, _ = StaticModel.load().encode(['I want to play on my TV.'])\n"
    "assert vectors.any()"
)


def measure(scope: Scope) -> Table:
    """Time processes that should hardly be felt, against the start of Python itself."""
    rows = local_job.QUICK_ROWS if scope.quick else local_job.ROWS
    rounds = QUICK_ROUNDS if scope.quick else max(ROUNDS, scope.rounds)
    corpus = corpora.short(scope, rows)
    local_job.run(corpus, scope)
    again = scope.folder / "run-local.toml"
    took = interleaved(
        rounds,
        {
            "python": lambda: child([sys.executable, "-c", "pass"]),
            "help": lambda: child([*program(), "--help"]),
            "first": lambda: child([sys.executable, "-c", FIRST]),
            "again": lambda: child([*program(), "run", str(again)]),
        },
    )
    bare = median([usage.wall for usage in took["python"]])
    told = (
        ("`python -c pass`", "python", None),
        ("`batchembed --help`", "help", 0.15),
        ("a first vector of the embedded model", "first", 0.5),
        (f"second run of a finished job, {rows:,} rows", "again", 2.0),
    )
    return Table(
        "Starting",
        ("a fresh process until", "ms", "CPU ms", "times Python's own start", "goal, seconds"),
        [_row(title, took[name], bare, most) for title, name, most in told],
        f"Wall time, median of {rounds} interleaved runs, files in cache.",
    )


def _row(title: str, took: list[Usage], bare: float, most: float | None) -> tuple[str, ...]:
    wall = median([usage.wall for usage in took])
    cpu = median([usage.cpu for usage in took])
    met = "" if most is None else goal(wall, most=most)
    return title, f"{wall * 1000:.0f}", f"{cpu * 1000:.0f}", f"{wall / bare:.1f}", met
