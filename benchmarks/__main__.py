"""Measure and print the tables of docs/benchmarks.md: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import client_cpu, local_job, memory, sharing, similarity, starting
from benchmarks.measuring import FailedError, Scope, Table
from benchmarks.pacing import comparison, knee, real

QUESTIONS: dict[str, Callable[[Scope], Table]] = {
    "local": local_job.measure,
    "memory": memory.measure,
    "client": client_cpu.measure,
    "starting": starting.measure,
    "similarity": similarity.measure,
    "pacing": comparison.measure,
    "pacing-real": real.measure,
    "pacing-knee": knee.measure,
    "sharing": sharing.measure,
}
ROUNDS, QUICK_ROUNDS = 5, 1
LIBRARIES = ("numpy", "polars", "pyarrow", "aiohttp", "openai", "aleph-alpha-client")


def main() -> int:
    """Answer the questions asked for; return the exit code."""
    told = _arguments()
    print(machine())
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=told.folder) as folder:
        scope = Scope(
            folder=Path(folder).resolve(),
            rounds=told.rounds or (QUICK_ROUNDS if told.quick else ROUNDS),
            quick=told.quick,
            texts=told.texts,
        )
        for name in told.which or QUESTIONS:
            began = time.monotonic()
            try:
                table = QUESTIONS[name](scope)
            except FailedError as error:
                print(f"`{name}` failed: {error}", file=sys.stderr)
                return 1
            print(f"\n{table.markdown()}", flush=True)
            print(f"`{name}` took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0


def machine() -> str:
    """Return the machine, the versions and how busy it is, as Markdown."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)
    cores = f"{len(os.sched_getaffinity(0))} cores ({models[0] if models else 'unknown'})"
    system = f"{memory_bytes / 2**30:.0f} GiB, {platform.system()} {platform.release()}"
    return "\n".join(
        (
            f"- {cores}, {system}",
            f"- Python {platform.python_version()}; {versions}",
            f"- {time.strftime('%Y-%m-%d')}, load before the start {os.getloadavg()[0]:.1f}",
        )
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ImportError:
        return "missing"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("which", nargs="*", help=f"of {', '.join(QUESTIONS)}; default: all")
    parser.add_argument("--rounds", type=int, help=f"interleaved rounds; default {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: < 1 minute")
    parser.add_argument("--texts", type=Path, help="a text file, one text a line, to use instead")
    parser.add_argument("--folder", type=Path, help="where to make the scratch folder")
    told = parser.parse_args()
    unknown = set(told.which) - set(QUESTIONS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(QUESTIONS)}")
    return told


if __name__ == "__main__":
    sys.exit(main())
