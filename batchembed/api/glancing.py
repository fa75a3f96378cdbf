"""The first rows of a run, each with the row nearest to it: what a run shows when it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from batchembed.errors import BatchembedError
from batchembed.parts import RunVectors, read_manifest
from batchembed.store import Store

GLANCE_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Glance:
    """A row and the row nearest to it, each by a few words of its own."""

    left: str
    right: str
    score: float


def glance(path: Path | str, k: int = 3) -> list[Glance]:
    """Return the first `k` rows of a run's own top-k file, each with the row nearest to it.

    Returns [] for a run without such a file, for one of more than 100,000 rows, and where
    something cannot be read any more: what is only looked at is no reason for a run to fail.
    """
    try:
        return _glances(Path(path), k)
    except (BatchembedError, OSError, ValueError, pa.ArrowException):
        return []


def _glances(root: Path, k: int) -> list[Glance]:
    manifest = read_manifest(Store(root))
    file = root / "similarity" / "top_k.arrow"
    if manifest is None or not file.is_file() or manifest.counts["rows"] > GLANCE_ROWS:
        return []
    import pyarrow.compute as pc  # as long to import as a run of some thousand rows takes

    compared = manifest.compared or {}
    against, column = compared.get("against"), compared.get("column")
    left = RunVectors(root, column=column)
    right = RunVectors(Path(against), column=column) if against else left
    ids = right.ids
    if pa.types.is_dictionary(ids.type):
        ids = ids.dictionary_decode()  # a kernel for dictionaries is missing
    found = []
    with pa.memory_map(str(file)) as source:
        neighbors = pa.ipc.open_file(source).read_all()["neighbors"]
        for row in range(min(k, len(neighbors))):
            near = neighbors[row].as_py()
            if near:
                other = pc.index(ids, near[0]["id"]).as_py()
                found.append(Glance(label(left, row), label(right, other), near[0]["score"]))
    return found


def label(run: RunVectors, row: int) -> str:
    """Return a few words that tell a row: its first text that is not its id."""
    name = run.ids[row].as_py()
    texts = [v for v in run.row(row).values() if isinstance(v, str) and v != name]
    return texts[0] if texts else str(name)
