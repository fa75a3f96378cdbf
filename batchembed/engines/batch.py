"""The engine of the batch lane: files handed in, waited for and landed; the rest goes online."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, replace

from batchembed import providers
from batchembed.corpus import Corpus
from batchembed.embed import BatchLane, Desk, Facts, Feed, Versions, bound_of, long
from batchembed.embed.batch import CANARIES
from batchembed.embed.canaries import asking
from batchembed.engines.lasting import beating, deadline
from batchembed.engines.local import Plant, access
from batchembed.errors import ActionNeededError
from batchembed.exchange import Keys, Request
from batchembed.interrupts import drain_on_signal
from batchembed.job import Job
from batchembed.ledger import Ledger, Missing
from batchembed.packing import Packer
from batchembed.prices import amount
from batchembed.providers.batches import MOST_BYTES, TEXTS_A_LINE, Batches
from batchembed.spec import Spec
from batchembed.store import Store
from batchembed.survey import CorpusFeed, Reading, Survey


@dataclass(slots=True)
class _File:
    """A file of lines in the making."""

    lines: list[bytes]
    keys: list[Keys]
    bound: int = 0
    texts: int = 0
    size: int = 0

    def add(self, line: bytes, request: Request, bound: int) -> None:
        self.lines.append(line)
        self.keys.append(request.keys)
        self.bound += bound
        self.texts += len(request)
        self.size += len(line)


def lines(
    corpus: Corpus, survey: Survey, missing: Missing, reading: Reading, spec: Spec
) -> CorpusFeed:
    """Return a feed of requests that are lines of a file."""
    own = providers.limits(spec)
    texts = min(own.texts_per_request, TEXTS_A_LINE)
    packer = Packer(replace(own, texts_per_request=texts))
    return CorpusFeed(corpus, survey, missing, reading, packer)


def embed(job: Job, feed: Feed, plant: Plant, ledger: Ledger, store: Store) -> None:
    """Bring all of `feed`, or what was handed in before, through the batch lane.

    Raises why it ended early; run again, it goes on.
    """
    desk = Desk(store)
    desk.load()
    batches = providers.batch_dialect(plant.spec)
    if not desk.open and job.access.lane == "batch":
        _write(feed, batches, desk, plant)
    within = sum(one.texts for one in desk.open)
    plant.monitor.phase("in the batch lane", within, "texts")
    with closing(ledger):
        lane = asyncio.run(_bring(job, plant, batches, desk, _known(ledger, desk)))
    for one in lane.landed:
        desk.forget(one)
    if lane.ending is not None:
        raise lane.ending


async def _bring(
    job: Job, plant: Plant, batches: Batches, desk: Desk, known: set[bytes]
) -> BatchLane:
    counter = providers.open_counter(
        plant.spec,
        access(job, 4),
        batches,
        key=plant.key,
        clock=plant.clock,
        retires=plant.retires,
    )
    facts = Facts(
        answers=1,  # a batch is no first request: what is refused in it is refused
        dimensions=plant.spec.dimensions or plant.dimensions,
        normalize=plant.spec.normalize,
    )
    lane = BatchLane(
        counter, desk, plant.ledger, plant.monitor, facts,
        job.access.poll_every, job.limits.patience, known,
        versions=Versions(plant.versions), watching=plant.watching,
    )  # fmt: skip
    try:
        limit = job.limits.deadline
        with (
            drain_on_signal(lane),
            deadline(lane, limit),
            beating(lane, plant.monitor, plant.objection),
        ):
            await lane.run()
    finally:
        await counter.provider.close()
    return lane


def _write(feed: Feed, batches: Batches, desk: Desk, plant: Plant) -> None:
    """Keep all that the feed has as submissions; raises when their bills could be too much.

    What is told once for a file, such as a role, makes files of their own. A line is answered or
    refused as a whole: a text that is too long, most likely, has one of its own.
    """
    budget, files = plant.budget, dict[str, _File]()
    most = providers.limits(plant.spec).tokens_per_text
    for some in feed.upcoming():
        for request in long.alone(some, most) if most else some:
            body = batches.body(request)
            shared = batches.jobs.shared(body)
            file = files.setdefault(shared, _File([], []))
            full = file.texts + len(request) > batches.most_inputs or file.size > MOST_BYTES
            if full and file.lines:
                _close(file, shared, batches, desk, plant)
                file = files[shared] = _File([], [])
            line = batches.jobs.line(str(len(file.lines)), body)
            file.add(line, request, bound_of(request, budget))
    for shared, file in files.items():
        _close(file, shared, batches, desk, plant)
    if budget is None:
        return
    room, needed = budget.price.tokens(budget.most - budget.paid), sum(x.bound for x in desk.open)
    if room is not None and needed > room:
        for one in list(desk.open):
            desk.forget(one)
        whole = amount(budget.whole(budget.paid + budget.price.of(needed)), up=True)
        raise ActionNeededError(
            f"{budget.told()} could be passed: what is handed in as a batch cannot be stopped, "
            "and a bill of one token a byte would be "
            f"{amount(budget.price.of(needed))}",
            hint=f"allow it with --set limits.max_cost={whole}, or send online, where a run stops "
            'at the bound: --set access.lane="online"',
        )


def _close(file: _File, shared: str, batches: Batches, desk: Desk, plant: Plant) -> None:
    """Keep a file as a submission, with a line for the canary texts where they are of its kind."""
    bound, watched = file.bound, False
    if plant.watching is not None:
        canaries = asking(plant.watching.role)
        body = batches.body(canaries)
        if watched := batches.jobs.shared(body) == shared:
            file.lines.append(batches.jobs.line(CANARIES, body))
            bound += bound_of(canaries, plant.budget)
    desk.write(file.lines, file.keys, bound, shared=shared, canaries=watched)


def _known(ledger: Ledger, desk: Desk) -> set[bytes]:
    """Return the keys of tried submissions whose vectors were kept before a crash."""
    tried = [one for one in desk.open if one.tried]
    keys: list[Keys] = [keys for one in tried for _, keys in desk.lines(one)]
    if not keys:
        return set()
    wanted = {key.tobytes() for some in keys for key in some}
    return {key for some, _ in ledger.entries() for key in map(bytes, some)} & wanted
