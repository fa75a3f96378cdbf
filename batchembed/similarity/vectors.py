"""One side of a comparison: what it must offer, and what one pass over it finds out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.errors import DamagedError

READ_ROWS = 1024
_IDS_AT_ONCE = 1 << 16


class Vectors(Protocol):
    """The vectors of one run, in corpus order."""

    @property
    def rows(self) -> int:
        """Return the number of rows, rejects included."""
        ...

    @property
    def dimensions(self) -> int:
        """Return the length of each vector."""
        ...

    @property
    def ids(self) -> pa.Array:
        """Return one id a row, in the corpus's own type."""
        ...

    @property
    def role(self) -> str:
        """Return symmetric, document, query or mixed."""
        ...

    @property
    def name(self) -> str:
        """Return what to call this side in metadata and errors."""
        ...

    def read(self, start: int, stop: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the vectors of [start, stop), shape (n, dimensions), and which are not null."""
        ...


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass found: `kept` rows have a vector that is not zero, in ascending order.

    `squares` are their squared lengths in float64, added up in one fixed order. `digest` stands
    for all vectors in their order, `start` for those of the first rows, where that was asked.
    """

    kept: NDArray[np.int64]
    squares: NDArray[np.float64]
    null: int
    zero: int
    digest: str = ""
    start: str = ""

    @property
    def longest(self) -> float:
        """Return the greatest length of a vector, 0.0 without any."""
        return float(np.sqrt(self.squares.max(initial=0.0)))

    @property
    def shortest(self) -> float:
        """Return the least length of a vector that is not zero, infinity without any."""
        return float(np.sqrt(self.squares.min(initial=np.inf)))


Surveyed = tuple[Vectors, Survey]


def survey(vectors: Vectors, at: int = 0) -> Survey:
    """Read all vectors once; `at` rows from the first have a digest of their own.

    Raises DamagedError at the first that is NaN or infinite.
    """
    kept, squares, null = [np.empty(0, np.int64)], [np.empty(0)], 0
    digests = _Digests(at)
    for start, block, valid in blocks(vectors):
        found = squares_of(vectors, start, block, valid)
        digests.add(start, block if valid.all() else np.where(valid[:, None], block, 0), valid)
        null += int((~valid).sum())
        there = np.flatnonzero(found)
        kept.append(there + start)
        squares.append(found[there])
    rows = np.concatenate(kept)
    zero = vectors.rows - null - rows.size
    told = digests.told(), digests.at_start
    return Survey(rows, np.concatenate(squares), null, zero, *told)


def ids_digest(ids: pa.Array, rows: int) -> str:
    """Return a SHA-256 of the type and the values of the first `rows` ids."""
    digest = hashlib.sha256()
    for start in range(0, max(1, rows), _IDS_AT_ONCE):
        part = ids.slice(start, min(_IDS_AT_ONCE, rows - start))
        if pa.types.is_dictionary(part.type):
            part = part.dictionary_decode()
        digest.update(str(part.type).encode())
        digest.update(pa.record_batch([part], ["id"]).serialize())
    return digest.hexdigest()


class _Digests:
    """SHA-256 of vectors, and of which are there, as they come; once more after `at` rows."""

    def __init__(self, at: int) -> None:
        self._vectors, self._there = hashlib.sha256(), hashlib.sha256()
        self._at, self.at_start = at, ""

    def add(self, start: int, block: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        """Take in the rows from `start` on."""
        cut = min(max(self._at - start, 0), len(block))
        self._update(block[:cut], valid[:cut])
        if 0 < cut == self._at - start:
            self.at_start = self.told()
        self._update(block[cut:], valid[cut:])

    def told(self) -> str:
        """Return the digest of all rows so far."""
        both = self._vectors.digest() + self._there.digest()
        return hashlib.sha256(both).hexdigest()

    def _update(self, block: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
        if len(block):
            self._vectors.update(np.ascontiguousarray(block, np.float32).data)
            self._there.update(np.ascontiguousarray(valid).data)


def squares_of(
    vectors: Vectors, start: int, block: NDArray[np.float32], valid: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the squared lengths of a block that was read at `start`, 0 for null vectors.

    Raises DamagedError, which names the id, at the first that is NaN or infinite.
    """
    squares = np.where(valid, square(block), 0.0)
    finite = np.isfinite(squares)
    if not finite.all():
        row = start + int(np.argmin(finite))
        raise DamagedError(
            f"the vector of `{vectors.ids[row].as_py()}` (row {row} of `{vectors.name}`) "
            "is not finite",
            hint="`batchembed verify` names what else is damaged",
        )
    return squares


def blocks(
    vectors: Vectors,
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.bool_]]]:
    """Yield (first row, vectors, which are not null) in corpus order."""
    for start in range(0, vectors.rows, READ_ROWS):
        block, valid = vectors.read(start, min(start + READ_ROWS, vectors.rows))
        yield start, block, valid


def square(block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squared length of each row; equal rows get equal bits, wherever they stand."""
    wide = block.astype(np.float64)
    with np.errstate(invalid="ignore"):
        squares: NDArray[np.float64] = np.einsum("ij,ij->i", wide, wide)
    return squares


@dataclass(frozen=True, slots=True)
class Groups:
    """Which kept rows carry the very same vector, so that each is compared only once.

    Positions count kept rows. `first` is each group's first position, ascending; `of` the
    group of each position; `members` all positions group by group, each group ascending,
    group g at members[starts[g]:starts[g + 1]].
    """

    first: NDArray[np.int64]
    of: NDArray[np.int64]
    members: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return how many rows each group has."""
        return np.diff(self.starts)


def group(vectors: Vectors, found: Survey) -> Groups:
    """Group the kept rows by the bytes of their vectors.

    Equal vectors have equal squared lengths, so only rows that share theirs are hashed.
    """
    count = found.kept.size
    first_of = np.arange(count)
    _, inverse, counts = np.unique(found.squares, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[inverse] > 1)
    seen: dict[bytes, int] = {}
    for position, digest in _digests(vectors, found.kept, suspects):
        first_of[position] = seen.setdefault(digest, position)
    first, of = np.unique(first_of, return_inverse=True)
    starts = np.zeros(first.size + 1, np.int64)
    np.cumsum(np.bincount(of, minlength=first.size), out=starts[1:])
    return Groups(first, of, np.argsort(of, kind="stable"), starts)


def _digests(
    vectors: Vectors, kept: NDArray[np.int64], positions: NDArray[np.int64]
) -> Iterator[tuple[int, bytes]]:
    rows = kept[positions]
    for start in np.unique(rows // READ_ROWS) * READ_ROWS:
        block, _ = vectors.read(int(start), min(int(start) + READ_ROWS, vectors.rows))
        low, high = np.searchsorted(rows, (start, start + READ_ROWS))
        for position, row in zip(positions[low:high], rows[low:high] - start, strict=True):
            yield int(position), hashlib.blake2b(block[row].tobytes(), digest_size=16).digest()
