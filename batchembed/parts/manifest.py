"""The manifest: what a complete run directory holds, and how its files are called."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from batchembed.errors import DamagedError, UsageError
from batchembed.seal import BrokenSealError, sealed, unsealed
from batchembed.store import Store

FORMAT = 1
MANIFEST = "manifest.json"
VOUCHER = "checkpoint/published.json"
LOST = "delete it and run the job again: it is made anew, from what is paid for"
EMBEDDINGS = "embeddings"
SIMILARITY = "similarity"
REJECTS = "rejects.arrow"
VECTOR, KEY, EXTENT = "embedding", "embedding_key", "embedding_extent"


@dataclass(frozen=True, slots=True)
class FileNote:
    """What the manifest says of one file."""

    name: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a complete run directory holds. Its presence means that the run is complete."""

    format: int
    batchembed: str
    identity: dict[str, Any]
    corpus: dict[str, Any]
    parts: tuple[FileNote, ...]
    rejects: FileNote | None
    similarity: tuple[FileNote, ...]
    compared: dict[str, Any] | None
    counts: dict[str, int]
    reasons: dict[str, int]
    bill: dict[str, Any]
    dimensions: int
    dtype: str
    model_versions: tuple[str, ...]
    seconds: float
    finished: str
    versions: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    pace: dict[str, Any] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of vectors: one, or one for each of several outputs."""
        return vector_columns(self.outputs)

    @property
    def numbers(self) -> int:
        """How many numbers all vectors of a row have together."""
        return self.dimensions * len(self.columns)

    def to_json(self) -> bytes:
        """Return the bytes of manifest.json."""
        return sealed(asdict(self))


def read_voucher(store: Store) -> Manifest | None:
    """Return the copy of the last manifest, by which its parts stay paid for if that is lost."""
    try:
        return read_manifest(store, VOUCHER)
    except DamagedError:
        return None


def read_manifest(store: Store, name: str = MANIFEST) -> Manifest | None:
    """Return the manifest of a complete run, None when there is none.

    Raises UsageError for a newer format, DamagedError for a file that is not a manifest.
    """
    try:
        told = unsealed(store.read(name))
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise UsageError(
            f"`{store.root}` is a file, not the directory of a run",
            hint="embed it first, and give the run: "
            f"batchembed embed {store.root} --text COL --out runs/{store.root.stem}",
        ) from error
    except BrokenSealError as error:
        raise DamagedError(f"`{store.path(name)}` is damaged: {error}", hint=LOST) from error
    except orjson.JSONDecodeError as error:
        raise DamagedError(f"`{store.path(name)}` is not JSON: {error}", hint=LOST) from error
    if not isinstance(told, dict):
        raise DamagedError(
            f"`{store.path(name)}` is not a manifest, but JSON of another kind", hint=LOST
        )
    check_format(told.get("format"), store.path(name))
    try:
        return Manifest(
            **{
                **told,
                "parts": tuple(FileNote(**part) for part in told["parts"]),
                "rejects": FileNote(**told["rejects"]) if told["rejects"] else None,
                "similarity": tuple(FileNote(**file) for file in told["similarity"]),
                "model_versions": tuple(told["model_versions"]),
                "outputs": tuple(told.get("outputs", ())),
            }
        )
    except (TypeError, KeyError) as error:
        raise DamagedError(f"`{store.path(name)}` is not a manifest: {error}", hint=LOST) from error


def check_format(found: object, path: Path) -> None:
    """Raise UsageError when a run directory was written in a format we do not know."""
    if isinstance(found, int) and found > FORMAT:
        raise UsageError(
            f"`{path}` has format `{found}`, and this batchembed knows up to `{FORMAT}`",
            hint="use the batchembed that wrote it, or a newer one",
        )


def part_name(number: int) -> str:
    """Return the name of a part; parts are numbered from 0 in corpus order."""
    return f"{EMBEDDINGS}/part-{number:05d}.arrow"


def vector_columns(outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of vectors in parts: `embedding`, or `embedding_OUTPUT` for several."""
    if len(outputs) < 2:  # noqa: PLR2004 - one vector needs no name of its own
        return (VECTOR,)
    return tuple(f"{VECTOR}_{name}" for name in outputs)


def is_part(name: str) -> bool:
    """Return whether we give such names to parts."""
    return re.fullmatch(EMBEDDINGS + r"/part-\d{5,}\.arrow", name) is not None
