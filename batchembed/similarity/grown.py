"""What an earlier comparison found, where its rows are the first rows of the corpora now.

A file is only taken up if its metadata asks the same question and the digests of its vectors
and ids are those of the first rows now; then every score that is taken from it is made again and
must be the same. So only what is missing could go unnoticed, never what is wrong. As all of it
can be made again, nothing about such a file is a reason for a comparison to fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchembed.errors import DamagedError
from batchembed.similarity import kernels
from batchembed.similarity.blocks import Side
from batchembed.similarity.pools import EMPTY, Keys
from batchembed.similarity.products import Floats, Positions
from batchembed.similarity.settings import METADATA_KEY
from batchembed.similarity.vectors import Groups, Surveyed, Vectors, ids_digest

_ASKED = ("kind", "metric", "symmetric", "top_k", "min_score", "batchembed")
_AT_ONCE = 1 << 20

Pairs = tuple[Positions, Positions, Floats]


class EarlierError(DamagedError):
    """An earlier file is not what was written there: to be compared without it."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """An earlier file: how many rows it knew of each side, and digests of vectors and ids."""

    path: Path
    rows: Mapping[str, int]
    digests: Mapping[str, str]
    ids: Mapping[str, str]

    @classmethod
    def found(cls, path: Path | None, asked: Mapping[str, Any]) -> Earlier | None:
        """Return the file if it answers the same question, about whatever rows."""
        if path is None or not path.is_file():
            return None
        try:
            with pa.memory_map(str(path)) as source:
                schema = pa.ipc.open_file(source).schema
            told = json.loads((schema.metadata or {})[METADATA_KEY])
            if any(told.get(name) != asked.get(name) for name in _ASKED):
                return None
            return cls(path, told["rows"], told["vectors"], told["ids"])
        except (OSError, pa.ArrowException, KeyError, ValueError):
            return None

    def at(self, side: str) -> int:
        """Return how many rows of a side it knew."""
        return int(self.rows.get(side, 0))

    def holds(self, left: Surveyed, right: Surveyed | None) -> bool:
        """Return whether its rows are the first ones now, and can be told by their ids."""
        sides = {"left": left} if right is None else {"left": left, "right": right}
        return set(sides) == set(self.rows) and all(
            found.start == self.digests.get(name)
            and ids_digest(vectors.ids, self.at(name)) == self.ids.get(name)
            and told_apart(vectors.ids, self.at(name))
            for name, (vectors, found) in sides.items()
        )

    def neighbors(self, left: Place, right: Place, k: int) -> Keys:
        """Return the sort keys of the best of the first positions of the left.

        Raises EarlierError for what cannot be read, or a score that is not what it was.
        """
        with _reading(self.path):
            rows, neighbors, scores = self._lists(right.vectors.ids)
            mine, theirs = left.positions(rows), right.positions(neighbors)
            first = left.is_first(rows) & ~((left.side is right.side) & (mine == theirs))
            mine, theirs, scores = mine[first], theirs[first], scores[first]
            self._check(left.side, right.side, (mine, theirs, scores))
            return _packed((mine, theirs, scores), left.count(self.at("left")), k)

    def _lists(self, right: pa.Array) -> Pairs:
        """Return (row, neighbour's row, score) of all that stands in the lists."""
        with pa.memory_map(str(self.path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        lists = table["neighbors"].combine_chunks()
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        flat = lists.flatten()
        names = right.slice(0, self.at("right") or self.at("left"))
        found = rows_of(flat.field("id"), names, self.path)
        scores = flat.field("score").to_numpy().astype(np.float32)
        return np.repeat(np.arange(counts.size), counts), found, scores

    def pairs(self, left: Place, right: Place) -> Iterator[Pairs]:
        """Yield (left positions, right positions, scores) in the order of the file.

        Raises EarlierError for what cannot be read, or a score that is not what it was.
        """
        names = left.vectors.ids.slice(0, self.at("left"))
        others = right.vectors.ids.slice(0, self.at("right") or self.at("left"))
        with _reading(self.path), pa.memory_map(str(self.path)) as source:
            file = pa.ipc.open_file(source)
            for number in range(file.num_record_batches):
                batch = file.get_batch(number)
                batch.validate(full=True)
                mine = left.positions(rows_of(batch.column(0), names, self.path))
                theirs = right.positions(rows_of(batch.column(1), others, self.path))
                scores = batch.column(2).to_numpy(zero_copy_only=False)
                self._check(left.side, right.side, (mine, theirs, scores))
                yield mine, theirs, scores

    def _check(self, left: Side, right: Side, pairs: Pairs) -> None:
        rows, columns, scores = pairs
        for start in range(0, rows.size, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            again = kernels.exact_between(left, right, rows[part], columns[part])
            if not (again == scores[part]).all():
                raise _damaged(self.path, "holds a score that is not that of its rows")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the rows of a run stand on a side: by themselves, or as groups of equal vectors."""

    vectors: Vectors
    kept: NDArray[np.int64]
    side: Side
    groups: Groups | None = None

    def positions(self, rows: NDArray[np.int64]) -> Positions:
        """Return the positions of rows that have a vector."""
        places = np.searchsorted(self.kept, rows)
        return places if self.groups is None else self.groups.of[places]

    def is_first(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which rows stand for themselves and their copies."""
        return np.asarray(self.side.rows[self.positions(rows)] == rows)

    def count(self, rows: int) -> int:
        """Return how many positions the first `rows` rows have."""
        return int(np.searchsorted(self.side.rows, rows))


def rows_of(ids: pa.Array, names: pa.Array, path: Path) -> NDArray[np.int64]:
    """Return where ids stand among `names`. Raises DamagedError where one does not."""
    ids, names = _plain(ids), _plain(names)
    found = pc.index_in(ids, value_set=names) if ids.type == names.type else None
    if found is None or found.null_count:
        raise _damaged(path, "names a row that is not in the run")
    return np.asarray(found.to_numpy(), np.int64)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever reading an earlier file comes to into EarlierError."""
    try:
        yield
    except (DamagedError, OSError, pa.ArrowException, ValueError, IndexError) as error:
        raise EarlierError(f"`{path}` cannot be used: {error}", hint="delete it") from error


def told_apart(ids: pa.Array, rows: int) -> bool:
    """Return whether each of the first `rows` rows has an id of its own."""
    names = _plain(ids.slice(0, rows))
    return names.null_count == 0 and len(pc.unique(names)) == len(names)


def _plain(ids: pa.Array) -> pa.Array:
    return ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids


def _packed(found: Pairs, rows: int, k: int) -> Keys:
    """Return the sort keys of pairs by row, best first, `k` at most, as an array filled up."""
    at, partners, scores = found
    keys = kernels.sort_keys(scores, partners)
    order = np.lexsort((keys, at))
    at, keys = at[order], keys[order]
    again = np.r_[False, (at[1:] == at[:-1]) & (keys[1:] == keys[:-1])]
    at, keys = at[~again], keys[~again]
    slots = np.arange(at.size) - np.searchsorted(at, at)
    out = np.full((rows, k), EMPTY, np.uint64)
    fits = slots < k
    out[at[fits], slots[fits]] = keys[fits]
    return out


def _damaged(path: Path, why: str) -> DamagedError:
    return DamagedError(f"`{path}` {why}", hint="delete it: then all is compared again")
