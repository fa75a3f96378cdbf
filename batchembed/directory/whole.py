"""A run directory: whose it is, what it holds, and whether a job has anything left to do there."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.clock import Clock
from batchembed.controls import Pattern
from batchembed.errors import DamagedError, JobError, SpecChangedError
from batchembed.history import Execution, from_json
from batchembed.ledger import Ledger, holds_anything, size_of
from batchembed.parts import (
    EMBEDDINGS,
    FORMAT,
    MANIFEST,
    SIMILARITY,
    FileNote,
    Manifest,
    check_format,
    known_rejects,
    read_manifest,
    read_voucher,
    whole_parts,
)
from batchembed.seal import BrokenSealError, is_sealed, sealed, sealed_toml, unsealed
from batchembed.shard import SHARDS, Shard, begun
from batchembed.spec import Spec
from batchembed.store import CHECKPOINT, NEXT, SCRATCH, TEMPORARY, Store
from batchembed.version import VERSION

IDENTITY = "checkpoint/run.json"
PROGRESS = "checkpoint/progress.json"
JOB = "job.toml"
EMBEDDED = ("text", "template", "image", "tokens", "prompt")
CANARIES = "checkpoint/canaries.json"
HISTORY = "checkpoint/history.json"
REPORTS = ("report.html", "CARD.md", "map.png", "heatmap.png")


@dataclass(frozen=True, slots=True)
class Identity:
    """What all vectors of a run directory have in common: another one needs another directory."""

    spec: Spec
    role: str
    patterns: tuple[Pattern, ...]
    dtype: str

    def told(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "spec": orjson.loads(orjson.dumps(self.spec.told())),
            "fingerprint": self.spec.fingerprint(),
            "role": self.role,
            "controls": [pattern.told() for pattern in self.patterns],
            "dtype": self.dtype,
        }

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """Return a line for each setting in which `other` (as `told`) differs, old value first."""
        mine = self.told()
        lines = [f"model.{line}" for line in self.spec.differences(other["spec"])]
        for name, setting in (
            ("role", "model.representation"),
            ("controls", "model.controls"),
            ("dtype", "output.dtype"),
        ):
            if other[name] != mine[name]:
                lines.append(f"{setting}: `{other[name]}` -> `{mine[name]}`")
        return lines


def holder(clock: Clock, shard: Shard | None = None) -> dict[str, object]:
    """Return what a run tells those who find the directory taken."""
    since = clock.now().isoformat(timespec="seconds")
    told = {"process": os.getpid(), "on": socket.gethostname(), "since": since}
    return told if shard is None else {"shard": str(shard)} | told


def is_run(store: Store) -> bool:
    """Return whether this is a run directory, finished or not."""
    return any(store.path(name).is_file() for name in (IDENTITY, MANIFEST))


def check_spec(
    store: Store, identity: Identity, manifest: Manifest | None
) -> Mapping[str, Any] | None:
    """Return the identity that the directory has, None if none; `manifest` is its last one.

    Raises SpecChangedError when it holds vectors of another spec than `identity`.
    """
    known = manifest.identity if manifest else _read_identity(store)
    lines = identity.differences(known) if known else []
    if manifest is None:  # the checkpoint holds float32, whatever the output will be
        lines = [line for line in lines if not line.startswith("output.dtype")]
    if lines and (manifest is not None or holds_anything(store)):
        raise SpecChangedError(
            f"`{store.root}` holds vectors of another spec:\n  " + "\n  ".join(lines),
            hint="give another directory with --out, or take the change back",
        )
    return known


def claim(store: Store, identity: Identity, clock: Clock) -> Manifest | None:
    """Make `store` this job's run directory, or find that it is; return its last manifest.

    Raises JobError for a folder of something else, SpecChangedError when its vectors are of
    another spec.
    """
    manifest = read_manifest(store) or read_voucher(store)
    sign(store, identity, manifest, clock)
    store.delete(SCRATCH)
    store.delete(NEXT)
    for folder in (".", CHECKPOINT, EMBEDDINGS, SIMILARITY):
        store.sweep(folder)
    store.make_folder(SCRATCH)
    return manifest


def sign(store: Store, identity: Identity, manifest: Manifest | None, clock: Clock) -> None:
    """Write down whose directory this is, where that is not known yet; see `claim` for errors."""
    known = check_spec(store, identity, manifest)
    if known is None:
        _refuse_foreign(store)
    if (manifest is None and known != identity.told()) or _is_broken(store):
        store.put(IDENTITY, sealed(made(clock) | identity.told()))


def made(clock: Clock) -> dict[str, Any]:
    """Return what every file tells that says whose a directory is: format, version and time."""
    at = clock.now().isoformat(timespec="seconds")
    return {"format": FORMAT, "batchembed": VERSION, "made": at}


def keep_job(store: Store, job_toml: str) -> None:
    """Keep the job that runs, once it does run."""
    told = sealed_toml(job_toml).encode()
    if not store.path(JOB).is_file() or store.read(JOB) != told:
        store.put(JOB, told)


def last_corpus(store: Store) -> dict[str, Any]:
    """Return the [corpus] table of the last job of a directory, {} where that is not known."""
    try:
        return corpus_of(store.read(JOB).decode())
    except (OSError, ValueError):
        return {}


def corpus_of(job_toml: str) -> dict[str, Any]:
    """Return where the rows of a job come from, and what of them is embedded."""
    told = tomllib.loads(job_toml).get("corpus", {})
    return {name: told.get(name) for name in ("path", *EMBEDDED)}


def open_ledger(
    store: Store, manifest: Manifest | None, shard: Shard | None = None
) -> tuple[Ledger, list[FileNote]]:
    """Return the ledger over checkpoint and published parts, and the parts that are damaged.

    That of a `shard` appends to its own part of the checkpoint, and knows of no other shard's but
    how many numbers their vectors have.
    """
    published, damaged = whole_parts(store, manifest) if manifest else ([], [])
    ledger = Ledger(
        shard.store(store) if shard else store,
        published,
        beside=[store] if shard else [part for _, part in begun(store)],
        dimensions=manifest.numbers if manifest else None,
        outputs=manifest.outputs if manifest else (),
    )
    if manifest is not None:
        ledger.bill.add(manifest.bill, manifest.model_versions)
        ledger.rejects.update((reject.key, reject) for reject in known_rejects(store, manifest))
    for part in published:
        ledger.sections.extents |= part.extents()
    ledger.load()
    if shard is not None and ledger.dimensions is None:
        sizes = (size_of(part) for _, part in begun(store))
        ledger.dimensions = next(filter(None, sizes), None)
    return ledger, damaged


def is_done(
    store: Store,
    manifest: Manifest | None,
    corpus_told: Mapping[str, Any],
    *,
    but_for_rejects: bool = False,
) -> bool:
    """Return whether a complete run stands there for this very corpus, by names and sizes alone.

    With `but_for_rejects`, a run that has any is not done.
    """
    if manifest is None or manifest.corpus != corpus_told:
        return False
    if but_for_rejects and manifest.rejects is not None:
        return False
    if not store.path(MANIFEST).is_file():
        return False
    files = [*manifest.parts, *([manifest.rejects] if manifest.rejects else [])]
    return all(_is_there(store, note) for note in files)


def is_compared(store: Store, manifest: Manifest, wanted: Mapping[str, Any] | None) -> bool:
    """Return whether the comparison that a job wants is among the files of a complete run.

    A job that wants none leaves the one that is there, which is of these very vectors.
    """
    there = all(_is_there(store, note) for note in manifest.similarity)
    return there and (wanted is None or manifest.compared == wanted)


def _is_there(store: Store, note: FileNote) -> bool:
    path = store.path(note.name)
    return path.is_file() and path.stat().st_size == note.bytes


def outdated(store: Store) -> list[str]:
    """Return the files of a report that are older than what is published."""
    found = []
    for name in REPORTS:
        with suppress(OSError):
            made, published = store.path(name).stat(), store.path(MANIFEST).stat()
            if made.st_mtime_ns < published.st_mtime_ns:
                found.append(name)
    return found


def read_history(store: Store) -> list[Execution]:
    """Return what is known of earlier executions; [] where nothing can be made of it."""
    try:
        return from_json(store.read(HISTORY))
    except OSError:
        return []


def _read_identity(store: Store) -> dict[str, Any] | None:
    path = store.path(IDENTITY)
    try:
        told = unsealed(store.read(IDENTITY))
        check_format(told["format"], path)
        return {name: told[name] for name in ("spec", "fingerprint", "role", "controls", "dtype")}
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, BrokenSealError, KeyError, TypeError) as error:
        raise DamagedError(
            f"`{path}` is damaged: {error}",
            hint="restore it from a backup, or give another directory with --out",
        ) from error


def _is_broken(store: Store) -> bool:
    """Return whether a run.json does not prove itself: damaged, or of an older version."""
    return store.path(IDENTITY).is_file() and not is_sealed(store.read(IDENTITY))


def _refuse_foreign(store: Store) -> None:
    """Raise JobError for a folder that holds more than a run leaves that died at once."""
    strangers = sorted({path.name for path in store.root.iterdir()} - {".lock"})
    if strangers == [CHECKPOINT] and all(
        path.name.startswith(TEMPORARY) or path == store.path(SHARDS)
        for path in store.path(CHECKPOINT).iterdir()
    ):
        return
    if strangers:
        raise JobError(
            f"`{store.root}` is not a run directory, and not empty: it holds `{strangers[0]}`",
            hint="give a new or empty directory as output",
        )
