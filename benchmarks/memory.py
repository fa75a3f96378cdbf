"""Does memory grow with the corpus?"""

from __future__ import annotations

from benchmarks import corpora, local_job
from benchmarks.measuring import Scope, Table, goal, interleaved, median

ROWS, QUICK_ROWS = (200_000, 2_000_000), (50_000, 200_000)
GROWTH = 1.1


def measure(scope: Scope) -> Table:
    """Compare the peak memory of whole jobs of ten times as many rows."""
    few, many = QUICK_ROWS if scope.quick else ROWS
    small, large = corpora.short(scope, few), corpora.short(scope, many)
    took = {
        few: interleaved(scope.rounds, {"small": lambda: local_job.run(small, scope)})["small"],
        many: interleaved(1, {"large": lambda: local_job.run(large, scope)})["large"],
    }
    peaks = {rows: median([usage.memory for usage in found]) for rows, found in took.items()}
    growth = peaks[many] / peaks[few]
    rows = [
        (
            f"{count:,}",
            f"{corpus.stat().st_size / 1e6:.0f} MB",
            f"{peaks[count]:.0f} MB",
            "" if count == few else f"**{growth:.2f}**",
            "" if count == few else goal(growth, most=GROWTH),
        )
        for count, corpus in ((few, small), (many, large))
    ]
    return Table(
        "Peak memory on `local`",
        ("rows", "corpus, compressed", "peak RSS of the process", "growth", "goal"),
        rows,
        f"`ru_maxrss` of the process, libraries and model included: the median of {scope.rounds} "
        "runs, and one run of the large corpus. The vectors alone are 1 KB a row.",
    )
