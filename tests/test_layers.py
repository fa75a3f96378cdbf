"""How the modules may depend on each other, what they may import, and how they may be called."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "batchembed"

LEVELS = (
    (
        "spec exchange extent described handed prompts store monitor errors buckets clock controls "
        "cores version history interrupts metrics seal lock direct shard"
    ),
    "corpus packing pacing limiter ledger segments parts providers prices",
    "embed publish plan verify similarity search report job survey directory",
    "engines costing",
    "preparing",
    "watching guarding sharing gathering",
    "completing equipping rejecting",
    "run",
    "api",
    "cli airflow words __main__ __init__",
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names.split()}
SHARED = {0, len(LEVELS) - 1}  # the ground and the doors may use their own kind
ORGANS_THAT_MAY = {("ledger", "segments"), ("limiter", "pacing")}
DOORS = {
    "aiohttp": "providers.http",
    "click": "cli",
    "tqdm": "monitor",
    "ray": "engines.ray",
    "airflow": "airflow",
    "obstore": "store",
    "matplotlib": "report.slides",
    "umap": "report.projection",
    "opentelemetry": "metrics.otel",
    "sklearn": "similarity.clustering",
}
DIALECTS = ("providers.aleph_alpha", "providers.openai", "providers.batches")
IMPURE = {"aiohttp", "asyncio", "datetime", "logging", "os", "random", "secrets", "socket", "time"}
FORBIDDEN = {
    *("chunk", "doc", "sample", "item", "record", "task", "index"),
    *("manager", "handler", "processor", "helper", "util", "utils"),
}


def sources() -> dict[str, str]:
    """Each of our modules, by its dotted name below batchembed."""
    paths = sorted(ROOT.rglob("*.py"))
    return {".".join(_steps(path)): path.read_text("utf-8") for path in paths}


def _steps(path):
    steps = path.relative_to(ROOT).with_suffix("").parts
    return steps[:-1] if steps[-1] == "__init__" and len(steps) > 1 else steps


def imports(name: str, tree: ast.AST, modules) -> list[tuple[str, bool]]:
    """What a module imports, ours as a dotted name below batchembed; True marks ours."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # one dot is the package that the module stands in
                package = ["batchembed", *name.split(".")][: -node.level]
                base = ".".join([*package, base]).rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                ours = inner.removeprefix("batchembed.")
                found.append(inner if ours in modules and ours != inner else base)
    return [
        (full.partition(".")[2] or "__init__", True) if full.split(".")[0] == "batchembed"
        else (full, False)
        for full in found
    ]  # fmt: skip


def violations(modules: dict[str, str]) -> list[str]:
    """Every rule that is broken, with its reason."""
    broken, graph = [], {}
    for name, source in modules.items():
        tree, top = ast.parse(source), name.split(".")[0]
        if top not in LEVEL:
            broken.append(
                f"{name}: has no level; give it one in LEVELS, so that layers stay layers"
            )
            continue
        found = imports(name, tree, modules)
        graph[name] = {target for target, ours in found if ours and target != name}
        broken += _names(name, tree)
        for target, ours in found:
            broken += _down(name, top, target) if ours else _doors(name, target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as cycle:
        broken.append(f"cycle {' -> '.join(cycle.args[1])}: neither can be understood alone")
    return broken


def _down(name, top, target):
    other = target.split(".")[0]
    here, there = LEVEL[top], LEVEL.get(other, -1)
    if there > here:
        yield f"{name} imports {target}, above it: what is below must not know what uses it"
    if (
        there == here
        and other != top
        and here not in SHARED
        and (top, other) not in ORGANS_THAT_MAY
    ):
        yield f"{name} imports {target}, beside it: they meet in what is above both"


def _doors(name, library):
    library = library.split(".")[0]
    door = DOORS.get(library)
    if door and not f"{name}.".startswith(f"{door}."):
        yield f"{name} imports {library}: only {door} does, so that it can be replaced in one place"
    if name.startswith(DIALECTS) and library in IMPURE:
        yield f"{name} imports {library}: a dialect is pure, so that tables of bytes can test it"


def _names(name, tree):
    ours = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    called = [
        name.split(".")[-1],
        *(node.name for node in ast.walk(tree) if isinstance(node, ours)),
    ]
    for word in called:
        parts = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", word.replace("record_batch", ""))
        if bad := {part.lower() for part in parts} & FORBIDDEN:
            yield f"{name}: `{word}` says {bad.pop()}, a word that could mean anything here"


def test_the_layers_hold():
    """Imports only go down, each library has one door, dialects are pure, names say something."""
    assert violations(sources()) == []


PLANTED = {
    "an organ that imports a step": ("packing", "from batchembed.embed import settle", "above"),
    "an import inside a function": ("packing", "def f():\n import batchembed.run", "above"),
    "an import of a public name": ("packing", "from batchembed import run_it", "above"),
    "an organ beside an organ": ("pacing", "from batchembed.providers import http", "beside"),
    "segments that know the ledger": ("segments", "import batchembed.ledger", "beside"),
    "a step that sees a whole job": ("embed", "from batchembed.job import Job", "beside"),
    "a relative import": ("corpus.scan", "from ..plan import plan", "above"),
    "a second door to the network": ("providers.local", "import aiohttp", "only providers.http"),
    "a second door to the terminal": ("monitor", "from click import echo", "only cli"),
    "a second progress bar": ("run", "from tqdm.auto import tqdm", "only monitor"),
    "a dialect with a clock": ("providers.openai", "from time import monotonic", "pure"),
    "a drawer": ("providers.utils", "", "utils"),
    "a class that could be anything": ("embed", "class TaskManager: ...", "could mean anything"),
    "a function of chunks": ("corpus", "def next_chunk(): ...", "chunk"),
    "a module without a level": ("misc", "", "no level"),
    "a cycle": ("store", "import batchembed.clock", "cycle"),
}


@pytest.mark.parametrize(("name", "source", "reason"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_seen(name, source, reason):
    """Each rule, broken on purpose, is reported with its reason."""
    around = dict.fromkeys([*LEVEL, "providers.http"], "")
    found = violations(around | {"clock": "from batchembed import store", name: source})
    assert len(found) == 1, found
    assert reason in found[0]


def test_what_is_allowed_is_not_reported():
    """Imports downward, the ledger's segments, each library's own door and Arrow's words pass."""
    modules = {
        "segments": "import zlib",
        "ledger": "from batchembed.segments import Segment\nfrom . import segments",
        "ledger.frames": "from batchembed import segments",
        "providers.http": "import aiohttp, asyncio, time",
        "providers": "from batchembed.providers import http",
        "run": "from batchembed import ledger\nfrom batchembed.providers.http import Transport",
        "monitor": "from tqdm import tqdm\ndef record_batches(): ...",
        "cli": "import click\nfrom batchembed import run",
    }
    assert violations(modules) == []
