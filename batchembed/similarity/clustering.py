"""Rows sorted into clusters: k-means of scikit-learn on vectors of length 1, so by cosine."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import JobError
from batchembed.similarity import output
from batchembed.similarity.products import Floats
from batchembed.similarity.settings import METADATA_KEY
from batchembed.similarity.vectors import Survey, Vectors, blocks, survey
from batchembed.version import VERSION

FITTED_ROWS = 50_000
_STARTS = 4  # of which the best is taken: from one alone, k-means often ends in a poor place
_ROUNDS = 100
_ROWS_IN_BATCH = 1 << 16


@dataclass(frozen=True, slots=True)
class Clustered:
    """What became of a run's rows. Clusters count from 0, the largest first.

    `of` (rows,) is each row's cluster, -1 without a vector; `scores` (rows,) its cosine to that
    cluster's centre; `nearest` (clusters,) the row nearest to each centre. The centres were found
    with `fitted` rows.
    """

    of: NDArray[np.int32]
    scores: Floats
    nearest: NDArray[np.int64]
    fitted: int

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return how many rows each cluster has."""
        return np.bincount(self.of[self.of >= 0], minlength=self.nearest.size)


def clustered(vectors: Vectors, count: int, *, seed: int = 0) -> Clustered:
    """Sort the rows into `count` clusters by the direction of their vectors.

    The centres are found with at most `FITTED_ROWS` rows, drawn by `seed`, on one thread, so that
    the same question has the same answer; then every row goes to the nearest centre. There are
    fewer clusters where the rows have fewer directions. Raises JobError for more clusters than
    rows with a vector, and where scikit-learn is not installed.
    """
    found = survey(vectors)
    if count > found.kept.size:
        raise JobError(
            f"`{count}` clusters of {found.kept.size:,} rows that have a vector",
            hint="ask for fewer clusters",
        )
    centres, fitted = _centres(vectors, found, count, seed)
    of = np.full(vectors.rows, -1, np.int32)
    scores = np.full(vectors.rows, np.nan, np.float32)
    for start, unit, rows in _units(vectors, found):
        products = unit @ centres.T
        of[start + rows] = products.argmax(axis=1)
        scores[start + rows] = products.max(axis=1)
    return _largest_first(of, scores, count, fitted)


def write_clusters(write: Any, found: Clustered, ids: pa.Array, told: dict[str, Any]) -> None:
    """Write `id`, `cluster`, `score`, `nearest`, one row for each row of the run, as Arrow IPC.

    `told` is what the metadata says besides: the run, what was asked.
    """
    about = {"kind": "clusters", "sizes": found.sizes.tolist(), "fitted": found.fitted, **told}
    schema = pa.schema(
        [
            ("id", ids.type),
            ("cluster", pa.int32()),
            ("score", pa.float32()),
            ("nearest", pa.bool_()),
        ],
        metadata={METADATA_KEY: json.dumps({**about, "version": VERSION}, sort_keys=True).encode()},
    )
    output.write(write, schema, _batches(schema, found, ids))


def _batches(schema: pa.Schema, found: Clustered, ids: pa.Array) -> Iterator[pa.RecordBatch]:
    """Yield the rows in corpus order; `cluster` and `score` are null without a vector."""
    nearest = np.zeros(found.of.size, np.bool_)
    nearest[found.nearest] = True
    for start in range(0, found.of.size, _ROWS_IN_BATCH):
        part = slice(start, start + _ROWS_IN_BATCH)
        without = found.of[part] < 0
        columns = [
            ids[part],
            pa.array(found.of[part], mask=without),
            pa.array(found.scores[part], mask=without),
            pa.array(nearest[part]),
        ]
        yield pa.record_batch(columns, schema=schema)


def _centres(vectors: Vectors, found: Survey, count: int, seed: int) -> tuple[Floats, int]:
    """Return the centres (count, d), of length 1, and how many rows they were found with."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
    except ImportError as error:
        raise JobError(
            "clusters are found with scikit-learn, which is not installed",
            hint="pip install 'batchembed[cluster]'",
        ) from error
    from threadpoolctl import threadpool_limits

    units = _drawn(vectors, found, seed)
    model = KMeans(count, n_init=_STARTS, max_iter=_ROUNDS, random_state=seed)
    with threadpool_limits(1), warnings.catch_warnings():  # threads add up in no fixed order
        warnings.simplefilter("ignore", ConvergenceWarning)  # told by the clusters that there are
        model.fit(units)
    centres: Floats = model.cluster_centers_.astype(np.float32)
    lengths = np.linalg.norm(centres, axis=1, keepdims=True)
    centres /= np.where(lengths > 0, lengths, np.float32(1))
    return centres, len(units)


def _drawn(vectors: Vectors, found: Survey, seed: int) -> Floats:
    """Return the vectors, of length 1, that the centres are found with, in corpus order."""
    kept = found.kept
    if kept.size > FITTED_ROWS:
        kept = np.sort(np.random.default_rng(seed).choice(kept, FITTED_ROWS, replace=False))
    units = np.empty((kept.size, vectors.dimensions), np.float32)
    for start, unit, rows in _units(vectors, found):
        low, high = np.searchsorted(kept, (start, start + (rows[-1] + 1 if rows.size else 0)))
        units[low:high] = unit[np.searchsorted(rows, kept[low:high] - start)]
    return units


def _units(vectors: Vectors, found: Survey) -> Iterator[tuple[int, Floats, NDArray[np.int64]]]:
    """Yield (first row, vectors of length 1, which rows from the first on they are of)."""
    at = 0
    for start, block, _ in blocks(vectors):
        stop = int(np.searchsorted(found.kept, start + len(block)))
        rows = found.kept[at:stop] - start
        lengths = np.sqrt(found.squares[at:stop])
        yield start, (block[rows] / lengths[:, None]).astype(np.float32), rows
        at = stop


def _largest_first(of: NDArray[np.int32], scores: Floats, count: int, fitted: int) -> Clustered:
    """Return the clusters numbered by their sizes, those of one size by their first rows."""
    there = np.flatnonzero(of >= 0)
    sizes = np.bincount(of[there], minlength=count)
    first = np.full(count, of.size)
    np.minimum.at(first, of[there], there)
    order = np.lexsort((first, -sizes))[: np.count_nonzero(sizes)]
    number = np.full(count + 1, -1, np.int32)  # the last: of rows without a vector, whose is -1
    number[order] = np.arange(order.size)
    of = number[of]
    by_score = there[np.lexsort((-scores[there], of[there]))]
    starts = np.flatnonzero(np.diff(of[by_score], prepend=-1))
    return Clustered(of, scores, by_score[starts], fitted)
