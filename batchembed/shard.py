"""A shard: which texts of a corpus are its own, and where its part of the checkpoint is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchembed.errors import UsageError
from batchembed.exchange import Keys
from batchembed.store import CHECKPOINT, Store

SHARDS = f"{CHECKPOINT}/shards"
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Shard:
    """Shard `number`, counted from 0, of `of`."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def store(self, whole: Store) -> Store:
        """Return its part of the checkpoint of a run directory."""
        return Store(whole.path(f"{SHARDS}/{self.number:05d}"))

    def owns(self, keys: Keys) -> NDArray[np.bool_]:
        """Return which of `keys`, (n, 16), are its own, shape (n,)."""
        own: NDArray[np.bool_] = owners(keys, self.of) == self.number
        return own

    def own(self, keys: Keys) -> Keys:
        """Return `keys`, (n, 16), with zeros in place of those that are other shards'."""
        return np.where(self.owns(keys)[:, None], keys, np.uint8(0))


def parse(told: str) -> Shard:
    """Return the shard of a word such as `3/20`; raises UsageError."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", told.strip(), re.ASCII)
    if found is None:
        raise UsageError(
            f"`{told}` is no shard",
            hint="give its number, from 0, and how many there are: --shard 0/20 to --shard 19/20",
        )
    number, of = map(int, found.groups())
    if not 1 <= of <= MOST:
        raise UsageError(f"`{told}`: there can be 1 to {MOST:,} shards", hint="give another number")
    if number >= of:
        raise UsageError(
            f"there is no shard `{told}`: they are counted from 0",
            hint=f"the first of {of} is 0/{of}, the last one {of - 1}/{of}",
        )
    return Shard(number, of)


def owners(keys: Keys, of: int) -> NDArray[np.int64]:
    """Return the number of the shard that each key, (n, 16), belongs to.

    Keys are hashes, so shards are of a size; equal texts have one key, so one shard sends them.
    """
    last = np.ascontiguousarray(keys).view("<u8")[:, 1]
    return (last % np.uint64(of)).astype(np.int64)


def begun(whole: Store) -> Iterator[tuple[int, Store]]:
    """Yield the number and the part of the checkpoint of every shard that was ever begun."""
    folder = whole.path(SHARDS)
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if re.fullmatch(r"\d{5}", name):
            yield int(name), Store(folder / name)
