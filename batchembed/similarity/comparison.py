"""One comparison from start to end: check, survey, score, write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from batchembed.errors import JobError
from batchembed.similarity import output, resuming
from batchembed.similarity.blocks import Grid, Side
from batchembed.similarity.choosing import alone, fastest
from batchembed.similarity.dense import DenseScores
from batchembed.similarity.device import DEVICE_TILE, OnDevice
from batchembed.similarity.groups import connected, groups_batches, groups_schema
from batchembed.similarity.grown import Earlier, EarlierError, Place
from batchembed.similarity.kept import Kept
from batchembed.similarity.neighbors import join
from batchembed.similarity.pairs import KnownPairs, Pairs, PairSearch
from batchembed.similarity.products import Float32, Product
from batchembed.similarity.resuming import Part
from batchembed.similarity.settings import (
    METADATA_KEY,
    Compared,
    LeftOut,
    Progress,
    SimilaritySettings,
    check_sides,
    described,
)
from batchembed.similarity.vectors import Surveyed, Vectors, survey

Made = TypeVar("Made")
Batches = tuple[pa.Schema, Iterator[pa.RecordBatch]]

DEFAULT_GRID = Grid()
_NEAR_UNIT = 2.0


def compare(
    left: Vectors,
    right: Vectors | None,
    settings: SimilaritySettings,
    *,
    write: Any,
    progress: Progress | None = None,
    grid: Grid = DEFAULT_GRID,
    keep: Path | None = None,
    known: Path | None = None,
) -> Compared:
    """Write the scores of `left` against `right`, or against itself, as an Arrow IPC file.

    `write` is a binary file, or whatever else `pa.ipc.new_file` takes. `progress` is told
    (scores done, scores in all). What is done is kept from time to time in the folder `keep`, so
    that the same comparison goes on there after it was killed; the caller removes it once the
    file is safe. `known` is the file of an earlier comparison, which may not be there: where it
    answers the same question about rows that are the first ones now, only the others are
    compared. Equal vectors and settings give equal bytes, whatever the
    grid and the number of threads. Raises JobError for what makes no sense and DamagedError
    for a vector that is NaN or infinite, before anything is written; EarlierError for a `known`
    that is damaged, also later (see `unless_damaged`).
    """
    started = time.monotonic()
    settings.check()
    check_sides(left, right, settings)
    asked = described(left, right, settings)
    earlier = None if settings.dense or settings.groups else Earlier.found(known, asked)
    mine = left, survey(left, earlier.at("left") if earlier else 0)
    theirs = (
        None if right is None else (right, survey(right, earlier.at("right") if earlier else 0))
    )
    if earlier and not earlier.holds(mine, theirs):
        earlier = None
    work = _Work(mine, theirs, settings, grid, progress, earlier=earlier)
    work.check_range()
    if settings.device != "cpu" and grid.product is None:
        device = OnDevice(settings.device)
        grid = replace(grid, product=device, tile=DEVICE_TILE, stripe=DEVICE_TILE)
        work = replace(work, grid=grid)
    product = grid.product or work.product()
    about = output.metadata(asked, mine, theirs)
    lasting = not settings.dense or (isinstance(write, Part) and write.part is not None)
    kept = work.kept(keep, about, product) if keep is not None and lasting else None
    work = replace(work, grid=replace(grid, product=product), keep=kept)
    try:
        with alone(product):
            scores = work.write(write, about)
    finally:
        if kept is not None:
            kept.close()
    return work.compared(scores, time.monotonic() - started)


def unless_damaged(make: Callable[[Path | None], Made], known: Path) -> Made:
    """Return what `make` makes with an earlier file, or with none where that one is damaged."""
    try:
        return make(known)
    except EarlierError:
        return make(None)


@dataclass(frozen=True, slots=True)
class _Work:
    left: Surveyed
    right: Surveyed | None
    settings: SimilaritySettings
    grid: Grid
    progress: Progress | None
    earlier: Earlier | None = None
    keep: Kept | None = None

    @property
    def other(self) -> Surveyed:
        return self.left if self.right is None else self.right

    @property
    def cosine(self) -> bool:
        return self.settings.metric == "cosine"

    def check_range(self) -> None:
        """Raise JobError where a dot product could be too large for what is written."""
        greatest = self.left[1].longest * self.other[1].longest
        if not self.cosine and greatest >= float(np.finfo(self.settings.dtype).max):
            raise JobError(
                f"dot products of these vectors reach {greatest:.2g}, "
                f"too large for `{self.settings.dtype}`",
                hint="use metric = cosine, or dtype = float32 if it is float16",
            )

    def product(self) -> Product:
        """Return how to multiply: where lengths differ widely, bfloat16's bound would be loose."""
        near_unit = all(
            found.shortest >= 1 / _NEAR_UNIT and found.longest <= _NEAR_UNIT
            for _, found in (self.left, self.other)
        )
        if self.settings.dense or not (self.cosine or near_unit):
            return Float32()
        scores = self.left[1].kept.size * self.other[1].kept.size
        return fastest(self.left[0].dimensions, scores)

    def kept(self, folder: Path, about: dict[bytes, bytes], product: Product) -> Kept:
        """Return what was kept of this very comparison; it is cut as it was cut then."""
        cut: dict[str, Any] = {"tile": self.grid.tile, "budget": self.grid.budget}
        if self.settings.dense:
            cut = {"dtype": self.settings.dtype, "sums": resuming.sums()}
        known = self.earlier and {"rows": dict(self.earlier.rows)}
        about_all = about[METADATA_KEY].decode()
        told = {
            "comparison": about_all,
            "cut": cut | {"product": product.name},
            "known": known,
        }
        return Kept(folder, told, seconds=self.grid.keep_seconds)

    def write(self, sink: Any, about: dict[bytes, bytes]) -> int:
        """Write the file; return how many scores it holds."""
        if self.settings.dense:
            return self._dense(sink, about)
        schema, batches = self._batches(about)
        written = _Counted(batches)
        output.write(sink, schema, written)
        return written.scores

    def _batches(self, about: dict[bytes, bytes]) -> Batches:
        """Return the schema, and the record batches as they are made."""
        if self.settings.top_k is not None:
            return self._neighbors(self.settings.top_k, about)
        assert self.settings.min_score is not None
        return self._pairs(self.settings.min_score, about)

    def compared(self, scores: int, seconds: float) -> Compared:
        (left, mine), (right, theirs) = self.left, self.other
        return Compared(
            kind=self.settings.kind,
            left_rows=left.rows,
            right_rows=right.rows,
            scores=scores,
            left_out=LeftOut(mine.null, mine.zero),
            right_left_out=LeftOut(theirs.null, theirs.zero),
            seconds=seconds,
        )

    def _neighbors(self, k: int, about: dict[bytes, bytes]) -> Batches:
        schema = output.neighbors_schema(self.left[0].ids.type, self.other[0].ids.type, about)
        joined = join(
            self.left,
            self.right,
            k,
            cosine=self.cosine,
            grid=self.grid,
            progress=self.progress,
            kept=self.keep,
            earlier=self.earlier,
        )
        return schema, output.neighbors_batches(schema, joined, self.left, self.other)

    def _pairs(self, min_score: float, about: dict[bytes, bytes]) -> Batches:
        mine = self._place(self.left)
        theirs = mine if self.right is None else self._place(self.right)
        schema = output.pairs_schema(self.left[0].ids.type, self.other[0].ids.type, about)
        search = PairSearch(
            mine.side,
            None if self.right is None else theirs.side,
            min_score,
            grid=self.grid,
            progress=self.progress,
            kept=self.keep,
            known=None if self.earlier is None else _known(self.earlier, mine, theirs),
        )
        if self.settings.groups:
            ids = self.left[0].ids
            schema = groups_schema(ids.type, about)
            return schema, _groups(schema, search.run(), ids)
        return schema, output.pairs_batches(schema, search.run(), self.left[0], self.other[0])

    def _dense(self, sink: Any, about: dict[bytes, bytes]) -> int:
        value = pa.float16() if self.settings.dtype == "float16" else pa.float32()
        schema = output.dense_schema(self.left[0].ids.type, self.other[0].rows, value, about)
        scores = DenseScores(
            self.left,
            self.right,
            cosine=self.cosine,
            grid=self.grid,
            progress=self.progress,
        )
        if self.keep is None:
            output.write(sink, schema, scores.batches(schema))
        else:
            resuming.write(sink, schema, lambda first: scores.batches(schema, first), self.keep)
        return self.left[1].kept.size * self.other[1].kept.size

    def _place(self, of: Surveyed) -> Place:
        vectors, found = of
        side = Side(vectors, found.kept, found.squares, unit=self.cosine, grid=self.grid)
        return Place(vectors, found.kept, side)


def _known(earlier: Earlier, left: Place, right: Place) -> KnownPairs:
    rows = left.count(earlier.at("left"))
    columns = rows if left is right else right.count(earlier.at("right"))
    return KnownPairs(earlier.pairs(left, right), rows, columns)


def _groups(schema: pa.Schema, pairs: Iterator[Pairs], ids: pa.Array) -> Iterator[pa.RecordBatch]:
    yield from groups_batches(schema, connected(pairs, len(ids)), ids)


class _Counted:
    """Passes batches on and counts the scores in them."""

    def __init__(self, batches: Iterable[pa.RecordBatch]) -> None:
        self.scores = 0
        self._batches = batches

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            last = batch.column(batch.num_columns - 1)
            values = last.flatten() if pa.types.is_nested(last.type) else last
            self.scores += len(values) - values.null_count
            yield batch
