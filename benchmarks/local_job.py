"""How near does a whole job with the embedded model come to its bare encoder?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import corpora
from benchmarks.measuring import (
    Scope,
    Table,
    Usage,
    child,
    goal,
    interleaved,
    job,
    median,
    module,
    program,
    ratio,
)

ROWS, QUICK_ROWS = 200_000, 50_000
GOAL = 0.8
LOCAL = {"provider": '"local"'}


def measure(scope: Scope) -> Table:
    """Compare the job, process start and published files included, with a loop over the encoder."""
    rows = QUICK_ROWS if scope.quick else ROWS
    if scope.texts is not None:
        kinds = {"texts of one's own": corpora.short(scope, rows)}
    else:
        kinds = {
            "varied words": corpora.short(scope, rows, varied=True),
            "few words": corpora.short(scope, rows),
        }
    found = [line for kind, corpus in kinds.items() for line in _compared(kind, corpus, scope)]
    return Table(
        f"A whole job on `local`, {rows:,} short texts",
        ("texts", "", "seconds", "CPU seconds", "texts/s", "job : this", "goal"),
        found,
        f"Wall time, median of {scope.rounds} interleaved rounds, everything from a cold "
        "start. *Whole job*: start Python, read the corpus, make keys, embed, checkpoint, "
        "fsync, publish every column and vector. *Bare loop*: start Python, read the texts, "
        "load the same model, `encode` in batches of 1,024, throw the vectors away. "
        "`job : this` is the job's rate as a share of the loop's. "
        + (corpora.ABOUT if scope.texts is None else ""),
    )


def _compared(kind: str, corpus: Path, scope: Scope) -> Sequence[Sequence[str]]:
    took = interleaved(
        scope.rounds,
        {
            f"loop, {kind}": lambda: child(module("bare_loop", str(corpus)), settled=True),
            f"job, {kind}": lambda: run(corpus, scope),
        },
    )
    loops, jobs = took.values()
    alone = [float(usage.output.split()[0]) for usage in loops]
    count = int(loops[0].output.split()[1])
    whole_loop, whole_job = ([usage.wall for usage in found] for found in (loops, jobs))
    lines = [(kind, "whole job (`batchembed run`)", *_shown(whole_job, jobs, count), "1", "")]
    for name, seconds, usages in (
        ("bare loop, whole process", whole_loop, loops),
        ("bare loop, nothing but `encode`", alone, None),
    ):
        share = ratio(seconds, whole_job)
        told = f"**{share:.2f}**", goal(share, least=GOAL)
        lines.append((kind, name, *_shown(seconds, usages, count), *told))
    return lines


def run(corpus: Path, scope: Scope) -> Usage:
    """Run a whole job into a fresh run directory."""
    path = job(corpus, scope.folder / "run-local", LOCAL)
    return child([*program(), "run", str(path)], settled=True)


def _shown(seconds: list[float], took: list[Usage] | None, count: int) -> tuple[str, str, str]:
    wall = median(seconds)
    cpu = f"{median([usage.cpu for usage in took]):.2f}" if took else ""
    return f"{wall:.2f}", cpu, f"{count / wall:,.0f}"
