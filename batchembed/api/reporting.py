"""What a run came to, to look at: `report`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from batchembed import corpus, directory
from batchembed.errors import UsageError
from batchembed.job import Job, load
from batchembed.parts import Manifest, RunVectors
from batchembed.report import MOST_ROWS, Method, Told, card, draw, figures, page, slides
from batchembed.store import Store

REJECTS_SHOWN = 50
Form = Literal["html", "png"]


@dataclass(frozen=True, slots=True)
class Reported:
    """The files that were made, and how many of the rows with a vector they show."""

    files: list[str]
    shown: int
    rows: int
    bytes: int


def report(
    path: Path | str,
    form: Form = "html",
    *,
    rows: int = 5000,
    seed: int = 0,
    map_by: Method = "pca",
    colour: str = "cluster",
    column: str | None = None,
) -> Reported:
    """Make RUN/report.html and RUN/CARD.md of a complete run, or RUN/map.png and heatmap.png.

    At most `rows` rows are shown, drawn with `seed`; `colour` is the column that colours the map
    at first, `column` that of the vectors where a run has several. Raises UsageError for a run
    that is not complete or has no vector, and where an extra that was asked for is missing.
    """
    store, run = Store(Path(path)), RunVectors(Path(path), column=column)
    job = _job(store)
    drawn = draw(run, min(rows, MOST_ROWS), seed, lambda batch: _texts(batch, job))
    if not len(drawn):
        raise UsageError(f"no row of `{path}` has a vector to show", hint="look at rejects.arrow")
    uncoloured = [run.manifest.corpus["id"], *_text_columns(job)]
    shown = figures(drawn, method=map_by, seed=seed, colour=colour, uncoloured=uncoloured)
    if form == "png":
        files = slides(shown)
    else:
        name = store.root.resolve().name
        rejects = _rejects(store, run.manifest)
        history = directory.read_history(store)
        told = Told(name, run.manifest, history, rejects, seed)
        files = {"report.html": page(told, shown), "CARD.md": card(told)}
    for name, raw in files.items():
        store.put(name, raw)
    size = sum(map(len, files.values()))
    return Reported([str(store.path(name)) for name in files], len(drawn), run.rows, size)


def _job(store: Store) -> Job | None:
    """Return the job that ran; None where it is not there any more."""
    path = store.path("job.toml")
    return load(path) if path.is_file() else None


def _texts(batch: pa.RecordBatch, job: Job | None) -> list[str | None] | None:
    return None if job is None else corpus.rendered(batch, job.corpus)


def _text_columns(job: Job | None) -> list[str]:
    """Return the columns that make up the texts: there is nothing to colour by in them."""
    return [] if job is None or job.table.text is None else [job.table.text]


def _rejects(store: Store, manifest: Manifest) -> list[dict[str, Any]]:
    """Return the first rows of rejects.arrow; [] where it cannot be read."""
    if manifest.rejects is None or not store.path(manifest.rejects.name).is_file():
        return []
    with pa.memory_map(str(store.path(manifest.rejects.name))) as file:
        table = pa.ipc.open_file(file).read_all().slice(0, REJECTS_SHOWN)
        found: list[dict[str, Any]] = table.to_pylist()
    return found
