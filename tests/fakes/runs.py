"""Whole runs from outside: corpora, job files, what a run directory holds, and what is right."""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from batchembed.segments import REJECTS, read_frames

from .api import Server
from .vectors import vector

WORDS = (
    *("salt", "river", "orbit", "copper", "violin", "harbour", "meadow", "signal", "winter"),
    *("engine", "paper", "garden"),
)
HARMLESS = "The quick brown fox jumps over the lazy dog."


def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that another process or thread brings about; fail if it never does."""
    waiting, last = threading.Event(), time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last, "it never came about"
        waiting.wait(0.001)


# -- corpora ---------------------------------------------------------------------------------------


def texts(count: int, seed: int = 1) -> list[str]:
    """Return so many different texts of 3 to 40 words."""
    rng = random.Random(seed)
    return [
        f"{seed}/{n} " + " ".join(rng.choices(WORDS, k=rng.randint(2, 39))) for n in range(count)
    ]


def table(given: Iterable[str | None]) -> pa.Table:
    """Return a corpus of texts: an id, the text, and another column to carry along."""
    column = list(given)
    ids = [f"id-{n:06d}" for n in range(len(column))]
    numbers = pa.array(range(len(column)), pa.int64())
    return pa.table({"id": ids, "text": pa.array(column, pa.string()), "number": numbers})


def write(path: Path, corpus: pa.Table) -> Path:
    """Write a corpus as the name says: .parquet, .csv or .jsonl."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(corpus, path, row_group_size=97)
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(corpus, path)
    else:
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in corpus.to_pylist())
        path.write_text("".join(lines), "utf-8")
    return path


# -- jobs ------------------------------------------------------------------------------------------


def settings(
    corpus: Path | str, server: Server | None = None, provider: str = "openai", **more: object
) -> dict:
    """Return a job's tables: `corpus` at the stand-in, or with no server at the local model.

    `more` are overrides such as `limits__concurrency=4`.
    """
    job: dict = {
        "corpus": {"path": str(corpus), "text": "text", "id": "id"},
        "model": {"provider": provider if server else "local"},
        "output": {"path": "run"},
    }
    if server is not None:
        address = server.openai_url if provider == "openai" else server.url
        job["model"] |= {"name": "fake-model", "base_url": address}
    for name, value in more.items():
        place, steps = job, name.split("__")
        for step in steps[:-1]:
            place = place.setdefault(step, {})
        place[steps[-1]] = value
    return job


def write_job(path: Path, job: Mapping[str, Mapping[str, object]]) -> Path:
    """Write a job file; JSON's texts, numbers, lists and truth values are TOML's as well."""
    lines = []
    for name, entries in job.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {_toml(value)}" for key, value in entries.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# -- run directories -------------------------------------------------------------------------------


def files(run: Path) -> list[Path]:
    """Return every file of a run directory."""
    return sorted(path for path in run.rglob("*") if path.is_file())


def digests(run: Path) -> dict[str, str]:
    """Return the SHA-256 of every file with vectors, rejects and scores."""
    outputs = [p for folder in ("embeddings", "similarity") for p in (run / folder).glob("*")]
    if (run / "rejects.arrow").exists():
        outputs.append(run / "rejects.arrow")
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(outputs)
    }


def strays(run: Path) -> list[str]:
    """Return what a complete run directory should not hold: what was only there on the way."""
    allowed = {"manifest.json", "job.toml", "rejects.arrow", ".lock", "report.html", "CARD.md"}
    allowed |= {f"checkpoint/{name}.json" for name in ("run", "progress", "history", "published")}
    found = []
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_dir():
            fine = name in {"embeddings", "similarity", "checkpoint"}
        else:
            fine = name in allowed or (
                path.suffix == ".arrow"
                and not path.name.startswith(".")
                and path.relative_to(run).parts[0] in {"embeddings", "similarity"}
            )
        if not fine:
            found.append(name)
    return found


def output(run: Path) -> pa.Table:
    """Return all parts as one table."""
    parts = sorted((run / "embeddings").glob("part-*.arrow"))
    read = []
    for part in parts:
        with pa.ipc.open_file(part.read_bytes()) as reader:
            read.append(reader.read_all())
    return pa.concat_tables(read)


def rejects(run: Path) -> list[dict]:
    """Return the rows of rejects.arrow; [] if there is none."""
    path = run / "rejects.arrow"
    if not path.exists():
        return []
    with pa.ipc.open_file(path.read_bytes()) as reader:
        return reader.read_all().to_pylist()


def manifest(run: Path) -> dict:
    """Return what the manifest says."""
    return json.loads((run / "manifest.json").read_text())


def wrong_rows(
    run: Path, corpus: pa.Table, *, unembedded: Callable[[str], bool] | None = None, **how: object
) -> list[str]:
    """Return what is wrong with a run's output, by the stand-in's own rule for vectors.

    `unembedded` says which texts must have no vector, besides those that are null or blank.
    """
    found = output(run)
    wrong = [] if len(found) == len(corpus) else [f"{len(found)} rows, not {len(corpus)}"]
    for name in corpus.column_names:
        mine, theirs = found[name].to_pylist(), corpus[name].to_pylist()
        if pa.types.is_string(found.schema.field(name).type):  # what a CSV file can hold
            theirs = [None if value is None else str(value) for value in theirs]
        if mine != theirs:
            wrong.append(f"column {name} is not as it was")
    half = pa.types.is_float16(found.schema.field("embedding").type.value_type)
    known: dict[str, np.ndarray] = {}
    texts_there, vectors = corpus["text"].to_pylist(), found["embedding"].combine_chunks()
    size = vectors.type.list_size
    values = vectors.values.to_numpy(zero_copy_only=False).reshape(-1, size)
    for row, (text, has) in enumerate(
        zip(texts_there, vectors.is_valid().to_pylist(), strict=True)
    ):
        no_text = text is None or not text.strip()
        if no_text or (unembedded is not None and unembedded(text)):
            wrong += [f"row {row} has a vector for {text!r}"] if has else []
            continue
        if text not in known:
            known[text] = vector(text, dimensions=size, **how)
        right = known[text].astype(np.float16) if half else known[text]
        if not has or values[row].tobytes() != right.tobytes():
            wrong.append(f"row {row} has {'another' if has else 'no'} vector for {text!r}")
    return wrong


def paid_texts(run: Path, every: Iterable[str], **how: object) -> set[str]:
    """Return the texts whose vectors a run directory holds, as far as they are published or safe.

    Told by the vectors themselves: which text has which is the stand-in's rule.
    """
    by_bytes = {vector(text, **how).tobytes(): text for text in every}
    found = set()
    for segment in sorted((run / "checkpoint").glob("*.segment")):
        raw = segment.read_bytes()
        for frame in read_frames(segment):
            if frame.kind != REJECTS:
                places = range(
                    frame.offset, frame.offset + frame.width * len(frame.keys), frame.width
                )
                found |= {by_bytes[raw[at : at + frame.width]] for at in places}
    if (run / "manifest.json").exists():
        done = output(run)
        has = done["embedding"].is_valid().to_pylist()
        found |= {t for t, there in zip(done["text"].to_pylist(), has, strict=True) if there}
    return found


def holds(folder: Path, secret: str) -> list[str]:
    """Return the files below a folder in which a secret stands."""
    raw = secret.encode()
    return [str(p) for p in files(folder) if os.access(p, os.R_OK) and raw in p.read_bytes()]
