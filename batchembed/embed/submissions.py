"""What was handed to a provider's batch lane, kept in the run directory until it has landed.

A submission is three files under `checkpoint/batches/`, named by its identity, the hash of its
content: the lines, the keys of their texts, and a word of how far it is. The word is written last,
so it vouches for the others; and it says that a submission was tried before it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np
import orjson

from batchembed.exchange import Keys
from batchembed.store import BATCHES, Store


@dataclass(frozen=True, slots=True)
class Submission:
    """One file of lines. `sizes` has the texts of each line; names of lines are their numbers.

    `tried`: the provider may have it, whatever is known here; `batch` is its name there.
    `bound` is a number of tokens that it is not billed more than; `shared` is what stands beside
    its lines. `canaries`: its last line asks for the canary texts, and has no keys.
    """

    identity: str
    sizes: tuple[int, ...]
    bound: int
    tried: bool = False
    batch: str = ""
    shared: str = ""
    canaries: bool = False

    @property
    def texts(self) -> int:
        """How many texts it asks for."""
        return sum(self.sizes)


@dataclass(slots=True)
class Desk:
    """The submissions of one run directory."""

    store: Store
    open: list[Submission] = field(default_factory=list)

    def load(self) -> None:
        """Read what earlier processes handed in; sweep what they half wrote."""
        self.store.sweep(BATCHES)
        self.open = []
        for name in self.store.names(BATCHES):
            if name.endswith(".json"):
                told = orjson.loads(self.store.read(name))
                self.open.append(Submission(**told | {"sizes": tuple(told["sizes"])}))
        whole = {one.identity for one in self.open}
        for name in self.store.names(BATCHES):
            if PurePosixPath(name).stem not in whole:
                self.store.delete(name)

    def write(
        self,
        lines: Iterable[bytes],
        keys: list[Keys],
        bound: int,
        *,
        shared: str = "",
        canaries: bool = False,
    ) -> Submission:
        """Keep a new submission, before anybody else has it."""
        file = b"".join(lines)
        joined = b"".join(some.tobytes() for some in keys)
        identity = hashlib.blake2b(file + joined, digest_size=16).hexdigest()
        made = Submission(identity, tuple(map(len, keys)), bound, shared=shared, canaries=canaries)
        self.store.put(f"{BATCHES}/{identity}.jsonl", file)
        self.store.put(f"{BATCHES}/{identity}.keys", joined)
        self.note(made)
        return made

    def note(self, told: Submission) -> Submission:
        """Keep how far a submission is, durably."""
        self.store.put(f"{BATCHES}/{told.identity}.json", orjson.dumps(asdict(told)))
        self.open = [one for one in self.open if one.identity != told.identity] + [told]
        return told

    def tried(self, one: Submission) -> Submission:
        """Keep that the provider may have it from now on."""
        return self.note(replace(one, tried=True))

    def submitted(self, one: Submission, batch: str) -> Submission:
        """Keep under which name the provider has it."""
        return self.note(replace(one, tried=True, batch=batch))

    def file(self, one: Submission) -> bytes:
        """Return its lines, as one file."""
        return self.store.read(f"{BATCHES}/{one.identity}.jsonl")

    def lines(self, one: Submission) -> Iterator[tuple[bytes, Keys]]:
        """Yield each line and the keys of its texts."""
        joined = np.frombuffer(self.store.read(f"{BATCHES}/{one.identity}.keys"), np.uint8)
        keys, at = joined.reshape(-1, 16), 0
        lines = self.file(one).splitlines()
        for line, size in zip(lines[: len(one.sizes)], one.sizes, strict=True):
            yield line, keys[at : at + size]
            at += size

    def forget(self, one: Submission) -> None:
        """Delete a submission that has landed: the word first, so that nothing vouches for less."""
        for ending in ("json", "jsonl", "keys"):
            self.store.delete(str(PurePosixPath(BATCHES) / f"{one.identity}.{ending}"))
        self.open = [kept for kept in self.open if kept.identity != one.identity]
