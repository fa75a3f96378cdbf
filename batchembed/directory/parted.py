"""What the shards of a run agree on, and how one of them takes its place in a run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import orjson

from batchembed.clock import Clock
from batchembed.directory.whole import Identity, check_spec, made, sign
from batchembed.errors import DamagedError, RunHeldError, SpecChangedError, UsageError
from batchembed.ledger import Bill, Ledger, holds_anything
from batchembed.parts import Manifest, check_format, read_manifest, read_voucher
from batchembed.seal import BrokenSealError, sealed, unsealed
from batchembed.shard import SHARDS, Shard, begun
from batchembed.store import CHECKPOINT, SCRATCH, Store

AGREED = f"{SHARDS}/shards.json"


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds for all shards of a run, since the first one began; until all is published.

    `before` is the bill of the directory at that moment.
    """

    of: int
    identity: Mapping[str, Any]
    before: Bill

    def objection(self, shard: Shard, identity: Identity) -> UsageError | None:
        """Return why a shard is none of these; None if it is."""
        if shard.of != self.of:
            return UsageError(
                f"there is no shard `{shard}`: this run was begun with `{self.of}` shards",
                hint=f"give --shard 0/{self.of} to {self.of - 1}/{self.of}; or none, to send from "
                "here what they miss and put all together: then any number may be next",
            )
        if lines := identity.differences(self.identity):
            return SpecChangedError(
                "the other shards of this run have another spec:\n  " + "\n  ".join(lines),
                hint="run all shards with the same job, or give another directory with --out",
            )
        return None


def last(store: Store, identity: Identity) -> Manifest | None:
    """Return the last manifest of a directory; raises SpecChangedError where that is another's."""
    manifest = read_manifest(store) or read_voucher(store)
    check_spec(store, identity, manifest)
    return manifest


def claim_shard(
    store: Store,
    shard: Shard,
    identity: Identity,
    clock: Clock,
    *,
    alone: Callable[[], AbstractContextManager[None]],
) -> None:
    """Take the place of a shard in the run directory `store`.

    The first shard says how many there are, for all. While no shard has kept anything, another
    one may say so anew, if it can be `alone`. Raises what `claim` raises, and UsageError for a
    shard of another number of shards.
    """
    manifest = last(store, identity)
    there = agreed(store)
    if there is not None and (why := there.objection(shard, identity)) is not None:
        if any(holds_anything(part) for _, part in begun(store)):
            raise why
        try:
            with alone():
                store.delete(AGREED)
        except RunHeldError:
            raise why from None
        there = None
    sign(store, identity, manifest, clock)  # whoever is refused has not signed
    if there is None:
        told = made(clock) | {"shards": shard.of, "before": _bill(store, manifest)}
        store.put(AGREED, sealed(told | identity.told()), new=True)
        there = agreed(store)
        if there is not None and (why := there.objection(shard, identity)) is not None:
            raise why
    own = shard.store(store)
    own.delete(SCRATCH)
    own.sweep(CHECKPOINT)
    own.make_folder(SCRATCH)


def agreed(store: Store) -> Agreement | None:
    """Return what the shards of a run agreed on; None when it has none."""
    path = store.path(AGREED)
    try:
        told = unsealed(store.read(AGREED))
        check_format(told["format"], path)
        before = Bill()
        before.add(told["before"], ())
        return Agreement(told["shards"], told, before)
    except FileNotFoundError:
        return None
    except (orjson.JSONDecodeError, BrokenSealError, KeyError, TypeError) as error:
        raise DamagedError(
            f"`{path}` is damaged: {error}",
            hint="delete it, and run the shards again with the number that they had: what they "
            "paid for is kept",
        ) from error


def _bill(store: Store, manifest: Manifest | None) -> dict[str, Any]:
    """Return what was paid in a directory before there were shards."""
    ledger, bill = Ledger(store), Bill()
    ledger.load()
    bill.join(ledger.own)
    if manifest is not None:
        bill.add(manifest.bill, ())
    names = ("requests", "texts", "tokens", "unsure", "rates")
    return {name: getattr(bill, name) for name in names}
