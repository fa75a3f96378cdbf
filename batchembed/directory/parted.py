"""What the shards of a run agree on, and how one of them takes its place in a run directory.

Theory of operation. The first shard says how many there are, of which spec and corpus, and what was
paid by then, in `shards.json`; each keeps a copy in its part of the checkpoint, so that none is the
only one. Who agreed holds a lock on that file to the end. As long as anybody does, or a part holds
anything that was paid for or may be billed, it binds all; then only can another one take its place.
All of this one shard does after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.clock import Clock
from batchembed.directory.whole import Identity, check_spec, made, sign
from batchembed.errors import DamagedError, SpecChangedError, UsageError
from batchembed.ledger import Bill, Ledger, has_submissions, holds_anything
from batchembed.lock import Hold, holder, is_agreed, turn
from batchembed.parts import Manifest, check_format, read_manifest, read_voucher
from batchembed.seal import BrokenSealError, sealed, unsealed
from batchembed.shard import SHARDS, Shard, begun
from batchembed.store import CHECKPOINT, SCRATCH, Store

NAME = "shards.json"
AGREED = f"{SHARDS}/{NAME}"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds for all shards of a run, since the first one began; until all is published.

    `before` is the bill of the directory at that moment; `corpus` where the rows come from, None
    in those of versions that did not say so. `raw` are the bytes of its file.
    """

    of: int
    identity: Mapping[str, Any]
    before: Bill
    corpus: Mapping[str, Any] | None
    raw: bytes

    def objection(
        self, shard: Shard, identity: Identity, corpus: Mapping[str, Any]
    ) -> UsageError | None:
        """Return why a shard is none of these; None if it is."""
        if shard.of != self.of:
            return self.another_number(shard)
        if lines := identity.differences(self.identity):
            return SpecChangedError(
                "the other shards of this run have another spec:\n  " + "\n  ".join(lines),
                hint="run all shards with the same job, or give another directory with --out",
            )
        return self.another_corpus(corpus)

    def another_number(self, shard: Shard) -> UsageError:
        """Return why a shard of another number is none of these."""
        return UsageError(
            f"there is no shard `{shard}`: this run was begun with `{self.of}` shards",
            hint=f"give --shard 0/{self.of} to {self.of - 1}/{self.of}; or none, to send from "
            "here what they miss and put all together: then any number may be next",
        )

    def another_corpus(self, corpus: Mapping[str, Any]) -> UsageError | None:
        """Return what is wrong with another corpus than that of the shards; None if it is theirs.

        What its files hold may change: that is seen by the texts that are missing.
        """
        if self.corpus is None or corpus == self.corpus:
            return None
        lines = [
            f"corpus.{name}: `{_told(self.corpus.get(name))}` -> `{_told(value)}`"
            for name, value in corpus.items()
            if self.corpus.get(name) != value
        ]
        return UsageError(
            "the other shards of this run have another corpus:\n  " + "\n  ".join(lines),
            hint="run all shards, and the merge, with the same job; or, where this corpus is the "
            "one from now on, once the job without --shard",
        )


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def last(store: Store, identity: Identity) -> Manifest | None:
    """Return the last manifest of a directory; raises SpecChangedError where that is another's."""
    manifest = read_manifest(store) or read_voucher(store)
    check_spec(store, identity, manifest)
    return manifest


def claim_shard(
    store: Store,
    shard: Shard,
    identity: Identity,
    corpus: Mapping[str, Any],
    clock: Clock,
    *,
    hold: Hold,
) -> Agreement:
    """Take the place of a shard in the run directory `store`; return what all agree on.

    The first shard says that for all. While none of them runs, and none has kept, paid or handed
    in anything, another one may say so anew. Raises what `claim` raises, and UsageError for a shard
    that is none of these, or while a batch of a run without shards is out.
    """
    manifest, own = last(store, identity), shard.store(store)
    if has_submissions(store):
        raise UsageError(
            f"a run without --shard has handed in texts of `{store.root}` that have not landed "
            "yet: shards would pay for them again",
            hint="run the job without --shard: it takes what comes of them, and sends the rest",
        )
    with turn(store.root):
        there = agreed(store)
        if there is not None and (why := there.objection(shard, identity, corpus)) is not None:
            if is_agreed(store.path(AGREED)) or unmerged(store):
                raise why
            for _, part in begun(store):
                part.delete(NAME)
            there = None
        store.sweep(SHARDS)
        sign(store, identity, manifest, clock)  # whoever is refused has not signed
        if there is None:
            told = {"shards": shard.of, "before": _bill(store, manifest), "corpus": corpus}
            store.put(AGREED, sealed(made(clock) | told | identity.told()))
            there = agreed(store)
            assert there is not None, "nobody else writes it now"
        elif not store.path(AGREED).is_file():
            store.put(AGREED, there.raw)
        hold.agree(store.path(AGREED))
        if not own.path(NAME).is_file() or own.read(NAME) != there.raw:
            own.put(NAME, there.raw)
    own.delete(SCRATCH)
    own.sweep(CHECKPOINT)
    own.sweep(".")
    own.make_folder(SCRATCH)
    return there


def check_number(store: Store, shard: Shard) -> None:
    """Raise UsageError when the part of a shard is held by one of another number, as all agreed.

    While nothing is agreed on, the one that holds it may be the one that is refused.
    """
    there = agreed(store)
    if there is not None and there.of != shard.of:
        theirs = holder(shard.store(store).root).get("shard")
        if theirs == str(Shard(shard.number, there.of)):
            raise there.another_number(shard)


def agreed(store: Store) -> Agreement | None:
    """Return what the shards of a run agreed on; None when it has none."""
    if store.path(AGREED).is_file():
        return _read(store, AGREED)
    copies = (_read(part, NAME) for _, part in begun(store) if part.path(NAME).is_file())
    return next(copies, None)


def _read(store: Store, name: str) -> Agreement:
    path = store.path(name)
    try:
        raw = store.read(name)
        told = unsealed(raw)
        check_format(told["format"], path)
        before = Bill()
        before.add(told["before"], ())
        return Agreement(told["shards"], told, before, told.get("corpus"), raw)
    except (orjson.JSONDecodeError, BrokenSealError, KeyError, TypeError) as error:
        raise DamagedError(
            f"`{path}` is damaged: {error}",
            hint="delete it, and run the shards again with the number that they had: what they "
            "paid for is kept",
        ) from error


def unmerged(store: Store) -> bool:
    """Return whether a shard has anything that is not published: answers, bills, or batches."""
    return any(
        holds_anything(part) or has_submissions(part) or _is_billed(part)
        for _, part in begun(store)
    )


def _is_billed(part: Store) -> bool:
    """Return whether anything was paid from a part, or may be billed yet."""
    ledger = Ledger(part)
    ledger.load()
    return bool(ledger.own.tokens or ledger.own.unsure)


def _bill(store: Store, manifest: Manifest | None) -> dict[str, Any]:
    """Return what was paid in a directory before there were shards."""
    ledger, bill = Ledger(store), Bill()
    ledger.load()
    bill.join(ledger.own)
    if manifest is not None:
        bill.add(manifest.bill, ())
    names = ("requests", "texts", "tokens", "unsure", "rates")
    return {name: getattr(bill, name) for name in names}
