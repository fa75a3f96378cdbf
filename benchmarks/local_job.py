"""How near does a whole job with the embedded model come to its bare encoder?"""

from __future__ import annotations

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
    corpus = corpora.short(scope, rows)
    took = interleaved(
        scope.rounds,
        {
            "loop": lambda: child(module("bare_loop", str(corpus)), settled=True),
            "job": lambda: run(corpus, scope),
        },
    )
    loop = [float(usage.output.split()[0]) for usage in took["loop"]]
    count = int(took["loop"][0].output.split()[1])
    whole_loop = [usage.wall for usage in took["loop"]]
    whole_job = [usage.wall for usage in took["job"]]
    both, alone = ratio(whole_loop, whole_job), ratio(loop, whole_job)
    return Table(
        f"A whole job on `local`, {count:,} short texts",
        ("", "seconds", "CPU seconds", "texts/s", "job : this", "goal"),
        (
            ("whole job (`batchembed run`)", *_shown(whole_job, took["job"], count), "1", ""),
            (
                "bare loop, whole process",
                *_shown(whole_loop, took["loop"], count),
                f"**{both:.2f}**",
                goal(both, least=GOAL),
            ),
            (
                "bare loop, nothing but `encode`",
                *_shown(loop, None, count),
                f"**{alone:.2f}**",
                goal(alone, least=GOAL),
            ),
        ),
        f"Wall time, median of {scope.rounds} interleaved rounds, everything from a cold "
        "start. *Whole job*: start Python, read the corpus, make keys, embed, checkpoint, "
        "fsync, publish every column and vector. *Bare loop*: start Python, read the texts, "
        "load the same model, `encode` in batches of 1,024, throw the vectors away. "
        "`job : this` is the job's rate as a share of the loop's. "
        + (corpora.ABOUT if scope.texts is None else "Texts of one's own (`--texts`)."),
    )


def run(corpus: Path, scope: Scope) -> Usage:
    """Run a whole job into a fresh run directory."""
    path = job(corpus, scope.folder / "run-local", LOCAL)
    return child([*program(), "run", str(path)], settled=True)


def _shown(seconds: list[float], took: list[Usage] | None, count: int) -> tuple[str, str, str]:
    wall = median(seconds)
    cpu = f"{median([usage.cpu for usage in took]):.2f}" if took else ""
    return f"{wall:.2f}", cpu, f"{count / wall:,.0f}"
