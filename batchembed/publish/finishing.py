"""The ledger joined with the corpus becomes parts in corpus order; the manifest comes last.

Theory of operation. Everything is first made under `checkpoint/next`, with the manifest that
will hold. From the moment that this staged manifest is there, publishing is a redo log: the
old manifest goes (the run counts as incomplete), the staged files take their names, the new
manifest is written, and what they replace is deleted. A crash at any point is finished by the
next run; no vector is ever only in a file that is about to be replaced.
"""

from __future__ import annotations

from pathlib import PurePosixPath

import orjson

from batchembed.ledger import forget
from batchembed.parts import (
    EMBEDDINGS,
    MANIFEST,
    REJECTS,
    SIMILARITY,
    VOUCHER,
    Manifest,
    is_part,
)
from batchembed.seal import BrokenSealError, unsealed
from batchembed.store import CHECKPOINT, NEXT, Store, sync_folder

COMPARISONS = tuple(f"{SIMILARITY}/{kind}.arrow" for kind in ("top_k", "min_score", "dense"))
KEEP = "keep-segments"


def finish(store: Store, manifest: Manifest, *, keep_segments: bool = False) -> None:
    """Publish what is staged: from here on a crash is finished by `roll_forward`.

    `keep_segments`: no parts are staged, so the checkpoint may hold what is not published yet.
    """
    if keep_segments:
        store.put(f"{NEXT}/{KEEP}", b"")
    store.put(f"{NEXT}/{MANIFEST}", manifest.to_json())
    roll_forward(store)


def is_begun(store: Store) -> bool:
    """Return whether a publication was begun and is not finished."""
    return store.path(f"{NEXT}/{MANIFEST}").is_file()


def roll_forward(store: Store) -> bool:
    """Finish a publication that was begun; return whether there was one."""
    try:
        staged = store.read(f"{NEXT}/{MANIFEST}")
    except FileNotFoundError:
        return False
    try:
        told = unsealed(staged)
    except (orjson.JSONDecodeError, BrokenSealError):  # damaged: what was staged is made again
        store.delete(NEXT)
        return False
    wanted = {note["name"] for note in (*told["parts"], *told["similarity"])}
    if told["rejects"]:
        wanted.add(REJECTS)
    store.delete(MANIFEST)
    sync_folder(store.root)
    for folder in (EMBEDDINGS, SIMILARITY, CHECKPOINT, "."):
        for name in store.names(f"{NEXT}/{folder}"):
            final = str(PurePosixPath(name).relative_to(NEXT))
            if final not in (MANIFEST, KEEP):
                store.rename(name, final)
    for name in (*filter(is_part, store.names(EMBEDDINGS)), *COMPARISONS, REJECTS):
        if name not in wanted:
            store.delete(name)
    store.put(MANIFEST, staged)
    if not store.path(f"{NEXT}/{KEEP}").is_file():
        forget(store)
    store.put(VOUCHER, staged)
    store.delete(f"{NEXT}/{MANIFEST}")  # first: what is left of the folder then means nothing
    store.delete(NEXT)
    return True
