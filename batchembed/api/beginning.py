"""A first job file for a corpus of which nothing is known yet: `init`."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from batchembed import corpus
from batchembed.errors import UsageError
from batchembed.job import FirstJob, first_job, from_dict

TEXTS = ("text", "body", "content", "document", "abstract", "description", "question", "message")
IDS = ("id", "_id", "key", "uuid", "row_id", "doc_id", "document_id")


@dataclass(frozen=True, slots=True)
class Found:
    """The columns of a corpus, and which of them are most likely the text and the id.

    `text` is None when no column holds text, `id` when none names every row.
    """

    columns: tuple[str, ...]
    text: str | None
    id: str | None


def look_at(paths: Sequence[str]) -> Found:
    """Return what a corpus seems to be, by its first rows; raises CorpusError."""
    rows = corpus.look(paths)
    if not rows.num_columns:
        raise UsageError(f"`{paths[0]}` has no columns", hint="is it the right file?")
    return Found(tuple(rows.schema.names), _text(rows), _id(rows))


def begin(told: FirstJob, path: Path, *, force: bool = False) -> None:
    """Write a commented job file at `path`, which runs as it stands.

    Raises UsageError for a file that is there already, unless `force`, JobError and CorpusError
    for what a run would refuse; nothing is written then.
    """
    if path.suffix != ".toml" or not str(path).isprintable():
        raise UsageError(f"`{path}` is no job file", hint="its name ends with .toml")
    words = first_job(told, path)
    corpus.scan(from_dict(tomllib.loads(words), where=str(path)).corpus)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(words)
    except FileExistsError:
        raise UsageError(
            f"`{path}` is there already", hint="give another name as --job, or add --force"
        ) from None


def _text(rows: pa.RecordBatch) -> str | None:
    """Return the column with a usual name, else that with the longest texts."""
    longest: dict[str, float] = {}
    for field in rows.schema:
        if _is_text(field.type):
            column = rows.column(field.name)
            longest[field.name] = pc.mean(pc.utf8_length(column)).as_py() or 0.0
    usual = [name for name in longest if name.lower() in TEXTS and longest[name]]
    if usual:
        return min(usual, key=lambda name: TEXTS.index(name.lower()))
    return max(longest, key=longest.__getitem__) if longest else None


def _id(rows: pa.RecordBatch) -> str | None:
    """Return the column with a usual name, if no two of the first rows share a value of it."""
    for name in rows.schema.names:
        usual = name.lower() in IDS or name.lower().endswith("_id")
        column = rows.column(name)
        simple = _is_text(column.type) or pa.types.is_integer(column.type)
        if usual and simple and not column.null_count and len(column.unique()) == len(column):
            return str(name)
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
