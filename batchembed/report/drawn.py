"""The rows that a report shows: all of a small run, a seeded draw from a large one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.parts import EXTENT, KEY, RunVectors

MOST_ROWS = 10_000
Floats = NDArray[np.float32]
TextsOf = Callable[[pa.RecordBatch], list[str | None] | None]


@dataclass(frozen=True, slots=True)
class Drawn:
    """The n rows of a report, in corpus order; only rows with a vector that is not zero.

    `rows` are their numbers in the corpus, `unit` their vectors at length 1, shape (n, d),
    `norms` the lengths before. `same` gives rows of equal texts the same number. `kept` has the
    corpus's own columns. `texts` is None where the run does not hold them. `asked`: of the corpus.
    """

    rows: NDArray[np.int64]
    unit: Floats
    norms: NDArray[np.float64]
    same: NDArray[np.int64]
    ids: list[str]
    texts: list[str] | None
    kept: pa.Table
    asked: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def whole(self) -> bool:
        """Whether no row was left out for the sake of size."""
        return self.asked <= len(self)

    def words(self, row: int) -> str:
        """Return what tells a drawn row to people: its text, else its id."""
        return self.texts[row] if self.texts is not None else self.ids[row]


def draw(run: RunVectors, most: int, seed: int, texts_of: TextsOf) -> Drawn:
    """Draw at most `most` rows of a run; the same for the same seed."""
    chosen = np.arange(run.rows, dtype=np.int64)
    if run.rows > most:
        drawn = random.Random(seed).sample(range(run.rows), most)  # noqa: S311 - no secret
        chosen = np.sort(np.array(drawn, np.int64))
    table = run.take(chosen).combine_chunks()
    vectors, norms = _vectors(table[run.vector], run.dimensions)
    there = np.flatnonzero(norms > 0)
    table, norms = table.take(pa.array(there)), norms[there]
    own = {*run.manifest.columns, KEY, EXTENT}
    kept = table.select([name for name in table.column_names if name not in own])
    name = run.manifest.corpus["id"]
    ids = table[name].to_pylist() if name in table.column_names else chosen[there].tolist()
    _, same = np.unique(np.array(table[KEY].to_pylist(), "S16"), return_inverse=True)
    return Drawn(
        rows=chosen[there],
        unit=(vectors[there] / norms[:, None]).astype(np.float32),
        norms=norms,
        same=same.astype(np.int64),
        ids=[str(value) for value in ids],
        texts=_texts(kept, texts_of),
        kept=kept,
        asked=run.rows - (len(chosen) - len(there) if run.rows <= most else 0),
    )


def _texts(kept: pa.Table, texts_of: TextsOf) -> list[str] | None:
    found: list[str] = []
    for batch in kept.to_batches():
        texts = texts_of(batch)
        if texts is None:
            return None
        found += [text or "" for text in texts]
    return found


def _vectors(column: pa.ChunkedArray, dimensions: int) -> tuple[Floats, NDArray[np.float64]]:
    """Return vectors (n, d) and their norms (n,), 0 where there is no vector."""
    array = column.combine_chunks()
    values = array.values.to_numpy(zero_copy_only=False).reshape(-1, dimensions)
    values = values[array.offset : array.offset + len(array)].astype(np.float32)
    wide = values.astype(np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    has = array.is_valid().to_numpy(zero_copy_only=False)
    return values, np.where(has & np.isfinite(norms), norms, 0.0)
