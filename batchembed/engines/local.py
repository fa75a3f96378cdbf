"""The engine on this machine: one process, one event loop, the hot loop until its end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batchembed import limiter, providers
from batchembed.clock import Clock
from batchembed.embed import Budget, Feed, Kept, Loop, Purse, Rules, Versions, Watch, Watching
from batchembed.engines.lasting import beating, deadline
from batchembed.errors import ActionNeededError, BatchembedError
from batchembed.exchange import About, Limits, Provider, Request
from batchembed.interrupts import drain_on_signal
from batchembed.job import Job
from batchembed.monitor import Monitor
from batchembed.pacing import Pacer, Rates
from batchembed.spec import Spec

if TYPE_CHECKING:
    from batchembed.providers.local import Early

UNPACED = 4  # times a provider's own number may be open where no rate is known, if it brings more


@dataclass(frozen=True, slots=True)
class Plant:
    """What the engine is given to work with. `most_rejects`: of texts that are sent.

    `ask_about`: ask the server about itself first. `renew` reads the key anew, if it can change.
    `budget`: what the run may cost. `begun`: what `begin` gave.
    `versions` of the model answered before (None: any will do); `watching` is for canary texts.
    `parts`: how many processes like this one share the limits a minute, each with an equal part.
    `objection`, given how many numbers a row takes if that is known, says why no more may be sent.
    `limiter`: where the one is that grants the starts, if any.
    """

    spec: Spec
    key: str | None
    ledger: Kept
    monitor: Monitor
    clock: Clock
    most_rejects: int
    dimensions: int | None = None
    outputs: tuple[str, ...] = ()
    ask_about: bool = True
    renew: Callable[[], str | None] | None = None
    budget: Budget | None = None
    versions: frozenset[str] | None = None
    watching: Watching | None = None
    objection: Callable[[int | None], BatchembedError | None] = lambda _: None
    begun: Early | None = None
    parts: int = 1
    limiter: limiter.Place | None = None

    def retires(self, words: str) -> None:
        """Say what a server says of its end, once in a run."""
        if not self.monitor.summary.retires:
            self.monitor.summary.retires = words
            self.monitor.say(f"warning: {words}")


def limits(job: Job, spec: Spec) -> Limits:
    """Return the provider's limits, made smaller where the job says so."""
    return _within(job, providers.limits(spec))


def _within(job: Job, own: Limits) -> Limits:
    asked = job.limits
    texts = asked.texts_per_request or own.texts_per_request
    if not own.careful:
        texts = min(own.texts_per_request, texts)
    tokens = min(filter(None, (own.tokens_per_request, asked.tokens_per_request)), default=None)
    concurrency, most_open = own.concurrency, own.most_open
    if asked.concurrency != "auto":
        concurrency = most_open = asked.concurrency
    elif own.unlimited:
        most_open = concurrency
    return replace(
        own,
        texts_per_request=texts,
        tokens_per_request=tokens,
        concurrency=concurrency,
        most_open=most_open,
        requests_per_minute=asked.requests_per_minute or own.requests_per_minute,
        tokens_per_minute=asked.tokens_per_minute or own.tokens_per_minute,
        texts_per_minute=asked.texts_per_minute or own.texts_per_minute,
    )


@contextmanager
def begin(job: Job, spec: Spec, rows: int) -> Iterator[Early | None]:
    """Begin what takes time to start, before it is known which of so many rows are to be sent."""
    begun = providers.early(spec, rows, limits(job, spec).concurrency)
    try:
        yield begun
    finally:
        if begun is not None:
            begun.close()


def embed(job: Job, feed: Feed, plant: Plant) -> None:
    """Send all that `feed` has; raise why it ended early. What was answered is durable then."""
    asyncio.run(_embed(job, feed, plant))


async def _embed(job: Job, feed: Feed, plant: Plant) -> None:
    bounds, spec = limits(job, plant.spec), plant.spec
    provider = providers.open_provider(
        spec,
        access(job, bounds.most_open),
        key=plant.key,
        clock=plant.clock,
        renew=plant.renew,
        begun=plant.begun,
        retires=plant.retires,
    )
    try:
        if plant.ask_about:
            bounds = await _ask_about(job, provider, feed, plant.monitor)
        pacer, link = _pacer(job, bounds, plant)
        rules = Rules(
            concurrency=bounds.concurrency,
            most_open=bounds.most_open,
            normalize=spec.normalize,
            dimensions=spec.dimensions or plant.dimensions,
            joined=spec.outputs,
            outputs=plant.outputs,
            patience=job.limits.patience,
            most_rejects=plant.most_rejects,
            on_long_text=spec.on_long_text,
            tokens_per_text=bounds.tokens_per_text,
        )
        summary = plant.monitor.summary
        purse = Purse(plant.budget, plant.ledger, lambda: summary.to_send - summary.sent)
        plant.monitor.standings = (purse.standing, pacer.standing)
        loop = Loop(
            provider,
            pacer,
            plant.ledger,
            plant.monitor,
            rules,
            purse,
            versions=Versions(plant.versions),
            objection=plant.objection,
        )
        if why := plant.objection(rules.dimensions):
            raise why
        with (
            drain_on_signal(loop),
            deadline(
                loop, job.limits.deadline, lambda: pacer.standing().words or pacer.state.reason
            ),
            beating(loop, plant.monitor, plant.objection),
        ):
            async with (
                limiter.taking_part(link, pacer) if link else nullcontext(),
                _watched(loop, plant.watching, bounds.texts_per_request),
            ):
                await loop.run(feed)
            summary.learnt = loop.caps.told()
    finally:
        await provider.close()
    if loop.ending is not None:
        raise loop.ending


def _pacer(job: Job, bounds: Limits, plant: Plant) -> tuple[Pacer, limiter.Link | None]:
    """Return the run's pacer, and the way to a limiter if it takes part in one."""
    whole = Rates(
        bounds.requests_per_minute,
        bounds.tokens_per_minute,
        bounds.texts_per_minute,
        concurrency=bounds.most_open,
        unpaced=min(bounds.most_open, UNPACED * bounds.concurrency),
        fixed=job.limits.concurrency != "auto",
        find=not bounds.unlimited,
    )
    rng, spec, link = random.Random(), plant.spec, None  # noqa: S311 - jitter, no secret
    if plant.limiter is not None and not bounds.unlimited:
        command = job.access.key_command  # the key that it gives may be another each time
        who = "\0".join(command) if command else plant.key
        name = limiter.name_of(who, spec.provider, spec.base_url, spec.name)
        link = limiter.link_to(
            plant.limiter, name, whole, clock=plant.clock, rng=rng, say=plant.monitor.say
        )
    history = plant.monitor.history
    own = whole.part(plant.parts)
    pacer = Pacer(own, plant.clock, rng=rng, heard=history.attempted, link=link)
    history.limits, plant.monitor.pacing = pacer.limits, pacer
    return pacer, link


async def _ask_about(job: Job, provider: Provider, feed: Feed, monitor: Monitor) -> Limits:
    """Ask the server about itself; return the limits that hold, which `feed` keeps to from now.

    Raises ActionNeededError when it says that the job cannot be had.
    """
    about = await provider.about()
    for note in about.notes:
        monitor.say(f"note: {note}")
    check_about(job, about)
    monitor.summary.server = " ".join(filter(None, (about.model, about.version)))
    bounds = _within(job, about.limits)
    feed.fit(bounds)
    return bounds


def check_about(job: Job, about: About) -> None:
    """Raise ActionNeededError when a server says that it cannot do what the job asks for."""
    if about.end is not None:
        raise ActionNeededError(about.end.reason, hint=about.end.hint)
    if about.images is False and job.table.image is not None:
        raise ActionNeededError(
            f"the server says that `{job.model.name}` takes no images",
            hint="leave `corpus.image` out, or name a model that is multimodal",
        )


def ask(job: Job, spec: Spec, *, key: str | None, clock: Clock) -> About:
    """Return what the server says of itself, its model's tokenizer included."""
    how = replace(access(job, limits(job, spec).concurrency), tokenizer=True)

    async def asked() -> About:
        provider = providers.open_provider(spec, how, key=key, clock=clock)
        try:
            return await provider.about()
        finally:
            await provider.close()

    return asyncio.run(asked())


@dataclass(frozen=True, slots=True)
class Few:
    """A feed of requests that are there already."""

    requests: list[Request]

    def upcoming(self) -> Iterator[list[Request]]:
        """Yield them at once."""
        yield self.requests

    def fit(self, limits: Limits) -> None:
        """Do nothing: every request is of one text."""

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Do nothing: every request is of one text."""


def access(job: Job, concurrency: int) -> providers.Access:
    """Return how the job reaches its provider, with so many connections."""
    how, model = job.access, job.model
    return providers.Access(
        nice=how.nice if model.nice is None else model.nice,
        hosting=model.hosting or how.hosting,
        tags=how.tags,
        timeout=how.timeout,
        allow_insecure_http=how.allow_insecure_http,
        concurrency=concurrency,
    )


@asynccontextmanager
async def _watched(
    loop: Loop, watching: Watching | None, texts_per_request: int
) -> AsyncIterator[None]:
    """Ask for the canary texts at the start, each hour, and at the end."""
    if watching is None:
        yield
        return
    watch = Watch(loop, watching, texts_per_request=texts_per_request)
    await loop.beside(watch.begin())
    task = asyncio.create_task(watch.go_on())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await loop.beside(watch.end())
    loop.landed()
