"""Mutation testing of what must not be wrong: `make mutants ARGS="--sample 400 --seed 7"`.

One thing in one function is changed at a time (by mutmut's operators), in a copy of the repository
with an environment of its own, so that every process the tests start has the change; then the
tests of that module run, until the first one fails. All mutants would take hours, so a random
sample is drawn, whose seed is printed. What is known already is kept in the copy: the same command
goes on where it was stopped, and a larger sample begins with the smaller one.

A mutant counts as survived when its tests pass, also when none of them comes near it. It counts as
killed when a test fails, or when the tests do not end within several times what they take else;
these are told apart.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import hashlib
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / ".mutants"
RESULTS = COPY / "results.jsonl"

TESTS: dict[str, str] = {
    "packing.py": "packing settle_edges prompts survey learnt",
    "segments.py": "segments ledger docs_format",
    "ledger/bill.py": "ledger_edges ledger billing old_runs",
    "ledger/sections.py": "long_texts_kept long_texts",
    "ledger/checkpoint.py": "ledger_edges ledger segments ahead directory publish long_texts_kept",
    "ledger/": "ledger_edges ledger segments ahead directory publish",
    "parts/": "parts_edges parts directory old_runs publish",
    "embed/batch.py": "batch_rules batch_lane",
    "embed/submissions.py": "batch_rules batch_lane",
    "embed/canaries.py": "settle_edges endings canaries batch_rules",
    "embed/long.py": "long_texts settle long_texts_kept",
    "embed/": "answers endings settle settle_edges loop purse learnt refusals cancelling"
    " faults_answers canaries rejects_named",
}
"""What is mutated, below batchembed/, and the tests that run for it; the first that fits counts."""

# Changes after which the program does the same: (file, line before, line after) and why.
EQUIVALENT: dict[tuple[str, str, str], str] = {}

BASELINES = 1  # how often the tests of each module run unchanged first: they must pass
SLACK, LEAST = 6.0, 30.0  # a mutant gets so many times the longest baseline, and so many seconds
WORK = 3.0  # and a process no more than the seconds of all of it divided by this, of a core
MEMORY = 6 << 30  # bytes of data a process may hold: a mutant may never stop asking


@dataclass(frozen=True)
class Mutant:
    """A change of one file. Number 0 and below are no change at all, and must survive."""

    path: str
    number: int

    @property
    def tests(self) -> tuple[str, ...]:
        """The test files that run for it."""
        return tests_of(self.path)


@dataclass(frozen=True)
class Ending:
    """How the tests of a mutant ended: `killed`, `timeout`, `survived` or `equivalent`."""

    how: str
    seconds: float
    change: str = ""


def tests_of(path: str) -> tuple[str, ...]:
    """Return the test files that run for a file below batchembed/; none: it is not mutated."""
    names = next((tests for start, tests in TESTS.items() if path.startswith(start)), "")
    return tuple(f"tests/test_{name}.py" for name in names.split())


def mutated_files(root: Path) -> list[str]:
    """Return what is mutated, as paths below batchembed/."""
    paths = (path.relative_to(root / "batchembed") for path in (root / "batchembed").rglob("*.py"))
    return sorted(str(path) for path in paths if tests_of(str(path)))


class Sources:
    """The files of the copy and what mutmut makes of them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, tuple[Any, list[Any]]] = {}
        self.plain = {path: self.file(path).read_text("utf-8") for path in mutated_files(root)}

    def file(self, path: str) -> Path:
        """Return where a file is."""
        return self._root / "batchembed" / path

    def mutants(self) -> list[Mutant]:
        """Return all mutants, numbered from 1 in each file."""
        return [Mutant(p, n) for p in self.plain for n in range(1, len(self._of(p)[1]) + 1)]

    def source(self, mutant: Mutant) -> str:
        """Return the whole file with the change."""
        if mutant.number <= 0:
            return self.plain[mutant.path]
        module, mutations = self._of(mutant.path)
        one = mutations[mutant.number - 1]
        changed: str = module.deep_replace(one.original_node, one.mutated_node).code
        return changed

    def _of(self, path: str) -> tuple[Any, list[Any]]:
        if path not in self._made:
            from libcst import FunctionDef
            from mutmut.mutation.file_mutation import create_mutations

            module, mutations, *_ = create_mutations(path, self.plain[path])
            inside = [
                m for m in mutations if type(m.contained_by_top_level_function) is FunctionDef
            ]
            self._made[path] = module, inside
        return self._made[path]


def main() -> int:
    """Run the tests on a sample, print how many were killed; 1 where that is less than wanted."""
    asked = _arguments()
    copied = copy()
    known = dict(_known(copied))
    sources = Sources(COPY)
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(10_000)
    chosen = [m for m in sources.mutants() if m.path.startswith(asked.only)]
    total = len(chosen)
    random.Random(seed).shuffle(chosen)  # noqa: S311 - a sample, not a secret
    chosen = chosen[: asked.sample or None]
    print(f"{len(chosen)} of {total} mutants, seed {seed}", flush=True)
    limits = {m.tests: 0.0 for m in chosen}
    unchanged = [Mutant(p, -n) for p in _one_each(chosen) for n in range(BASELINES)]
    for mutant in (*unchanged, *chosen):
        if (ending := known.get(mutant)) is None:
            limit = limits[mutant.tests] * SLACK + LEAST if mutant.number > 0 else math.inf
            ending = known[mutant] = _ending(sources, mutant, limit)
            _keep(mutant, ending, copied)
            print(
                f"{mutant.path} {mutant.number}: {ending.how}, {ending.seconds:.1f} s", flush=True
            )
        if mutant.number <= 0:
            if ending.how != "survived":
                print(f"the tests fail on what is not changed: {' '.join(mutant.tests)}")
                return 2
            limits[mutant.tests] = max(limits[mutant.tests], ending.seconds)
    _show({m: known[m] for m in chosen if known[m].how != "killed"})
    print(f"\nseed {seed}; {len(unchanged)} times nothing was changed, and all tests passed\n")
    print(table({m: known[m].how for m in chosen}))
    counts = Counter(known[m].how for m in chosen)
    counted = counts.total() - counts["equivalent"]
    return int(not counted or 100 * (counts["killed"] + counts["timeout"]) / counted < asked.least)


def _show(endings: Mapping[Mutant, Ending]) -> None:
    for mutant, ending in sorted(endings.items(), key=lambda pair: (pair[0].path, pair[0].number)):
        print(f"\n{mutant.path} {mutant.number} {ending.how}\n{ending.change}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=400, help="how many; 0: all of them")
    parser.add_argument("--seed", type=int, help="which; else any, and it is printed")
    parser.add_argument("--only", default="", help="files below batchembed/ that begin so")
    parser.add_argument("--least", type=float, default=85.0, help="percent that must be killed")
    return parser.parse_args()


def copy() -> str:
    """Make the copy as the checkout is now, with its environment; return a hash of its files."""
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    names = sorted(name for name in told.stdout.decode().split("\0") if (ROOT / name).is_file())
    for folder in ("batchembed", "tests"):  # what was deleted is not tested
        shutil.rmtree(COPY / folder, ignore_errors=True)
    seen = hashlib.sha256()
    for name in names:
        (COPY / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, COPY / name)
        if name.endswith(".py"):
            seen.update(name.encode() + b"\0" + (ROOT / name).read_bytes() + b"\0")
    subprocess.run(["make", "-s", "setup"], cwd=COPY, check=True)
    return seen.hexdigest()


def _one_each(mutants: Iterable[Mutant]) -> list[str]:
    """Return one file for each set of tests."""
    return sorted({mutant.tests: mutant.path for mutant in mutants}.values())


def _ending(sources: Sources, mutant: Mutant, limit: float) -> Ending:
    """Put a mutant into the copy, run its tests, and take it out again."""
    file, plain, source = (
        sources.file(mutant.path),
        sources.plain[mutant.path],
        sources.source(mutant),
    )
    if (mutant.path, *_lines(plain, source)) in EQUIVALENT:
        return Ending("equivalent", 0.0, _difference(plain, source))
    begun = time.monotonic()
    _put(file, source)
    try:
        code = _tested(mutant.tests, limit)
    finally:
        _put(file, plain)
    how = {None: "timeout", 0: "survived"}.get(code, "killed")
    if code in (4, 5):  # pytest's own words for "asked wrongly" and "found no tests"
        raise RuntimeError(f"pytest ended with {code}: {' '.join(mutant.tests)}")
    return Ending(how, time.monotonic() - begun, _difference(plain, source))


def _put(file: Path, source: str) -> None:
    """Write a file, and drop what Python compiled of it: a mutant may have the same size."""
    file.write_text(source, "utf-8")
    for compiled in (file.parent / "__pycache__").glob(f"{file.stem}.*.pyc"):
        compiled.unlink()


def _tested(tests: tuple[str, ...], limit: float) -> int | None:
    """Return how pytest ended; None: not within so many seconds."""
    words = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile=mutants", *tests]
    process = subprocess.Popen(
        [COPY / ".venv/bin/python", "-m", "pytest", *words],
        cwd=COPY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    _bound(process.pid, limit)
    code = None
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(None if limit == math.inf else limit)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return None if code == -signal.SIGXCPU else code


def _bound(pid: int, limit: float) -> None:
    """Bound what a process, and those it starts from now on, may take should they outlive it."""
    resource.prlimit(pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
    if limit < math.inf:
        most = math.ceil(limit / WORK)
        resource.prlimit(pid, resource.RLIMIT_CPU, (most, most + 5))


def _known(copied: str) -> Iterator[tuple[Mutant, Ending]]:
    """Yield what was found out about these very files before."""
    if RESULTS.exists():
        for told in map(json.loads, RESULTS.read_text("utf-8").splitlines()):
            if told["copied"] == copied:
                yield Mutant(*told["mutant"]), Ending(*told["ending"])


def _keep(mutant: Mutant, ending: Ending, copied: str) -> None:
    told = {
        "copied": copied,
        "mutant": [mutant.path, mutant.number],
        "ending": [ending.how, ending.seconds, ending.change],
    }
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(told) + "\n")


def _difference(before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return "\n".join(list(lines)[2:])


def _lines(before: str, after: str) -> tuple[str, str]:
    """Return the lines that a change takes away and those it brings, each as one."""
    lines = _difference(before, after).splitlines()
    gone, come = ([x[1:].strip() for x in lines if x.startswith(sign)] for sign in "-+")
    return " ".join(gone), " ".join(come)


def table(endings: Mapping[Mutant, str]) -> str:
    """Return how many mutants of each file were killed, and of all of them, with an interval."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant, how in sorted(endings.items(), key=lambda pair: pair[0].path):
        counts[mutant.path][how] += 1
    counts["in all"] = sum(counts.values(), Counter())
    lines = [
        f"{'':22} {'killed':>7} {'timeout':>8} {'survived':>9} {'equivalent':>11}  share killed"
    ]
    for name, count in counts.items():
        hits, of = count["killed"] + count["timeout"], count.total() - count["equivalent"]
        low, high = interval(hits, of)
        lines.append(
            f"{name:22} {count['killed']:7} {count['timeout']:8} {count['survived']:9}"
            f" {count['equivalent']:11}  {100 * hits / max(of, 1):.1f} %"
            f" (95 % interval {100 * low:.1f} to {100 * high:.1f})"
        )
    return "\n".join(lines)


def interval(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share, between 0 and 1; of nothing, all of it."""
    if not of:
        return 0.0, 1.0
    share, spread = hits / of, z * z / of
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / of + spread / of / 4) / (1 + spread)
    return middle - half, middle + half


if __name__ == "__main__":
    sys.exit(main())
