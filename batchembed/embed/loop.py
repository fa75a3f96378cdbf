"""The hot loop: requests to outcomes to the ledger; nothing is tried again anywhere else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from batchembed.embed import long
from batchembed.embed.caps import Caps
from batchembed.embed.crew import Crew
from batchembed.embed.endings import disk_error, nothing_passes, out_of_patience, too_many_rejects
from batchembed.embed.parties import Feed, Kept, Listener, Rules
from batchembed.embed.purse import Purse
from batchembed.embed.settle import harmless, judge, unasked
from batchembed.embed.upcoming import Upcoming
from batchembed.embed.verdicts import Facts, Part, Verdict, Vouched
from batchembed.embed.versions import Versions
from batchembed.errors import ActionNeededError, BatchembedError
from batchembed.exchange import (
    Malformed,
    Outcome,
    Provider,
    Refused,
    Reject,
    Request,
    Response,
    Role,
    TooLarge,
    Unavailable,
)
from batchembed.pacing import Pacer

DRAIN_SECONDS = 8.0
FOLDS_PROVEN = 6  # answers to texts alone: three pairs
DOUBTED = ("refused", "malformed")
SILENT = Unavailable("nothing is heard")
NOT_TAKEN = (Refused, Malformed, TooLarge)


@dataclass(slots=True)
class Loop:
    """One run of the hot loop. `ending`: why it stops before its time, once that is known.

    `folds`: how many texts proved that the server folds texts; -1: it mixed some up. `refusals`:
    how many came in a row; `caps`: what a request may hold, as learnt. `unheard`: how many answers
    there were when a harmless text got none; `held`: rejects since the last answer.
    """

    provider: Provider
    pacer: Pacer
    ledger: Kept
    listener: Listener
    rules: Rules
    purse: Purse
    versions: Versions = field(default_factory=Versions)
    objection: Callable[[int | None], BatchembedError | None] = lambda _: None
    ending: BatchembedError | None = None
    answers: int = 0
    rejects: int = 0
    dimensions: int | None = None
    refusals: int = 0
    outputs: tuple[str, ...] = ()
    caps: Caps = field(default_factory=Caps)
    folds: int = 0
    unheard: int = -1
    harmless: asyncio.Lock = field(default_factory=asyncio.Lock)
    held: list[Reject] = field(default_factory=list)
    crew: Crew = field(default_factory=Crew)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    upcoming: Upcoming = field(default_factory=Upcoming)

    def stop(self, why: BatchembedError) -> None:
        """Start nothing more; what is in flight may land. The first reason is the one kept."""
        if self.ending is None:
            self.ending = why
        self.opened.set()
        self.pacer.stop()
        self.upcoming.end()

    async def run(self, feed: Feed) -> None:
        """Settle every request of `feed`; returns early once there is an `ending`."""
        feeder = asyncio.create_task(self.upcoming.read(feed, self.rules.concurrency))
        works = (self._work(feed, pilot=number == 0) for number in range(self.rules.concurrency))
        try:
            await self.crew.work(works)
        except asyncio.CancelledError:
            if self.ending is None:
                raise
        finally:
            feeder.cancel()
            await asyncio.gather(feeder, return_exceptions=True)
            self.landed()
        if feeder.done() and not feeder.cancelled() and (error := feeder.exception()):
            raise error
        if self.ending is None:  # no more comes that could pass
            self._passed()

    def landed(self) -> None:
        """Note that what was in flight has landed or is given up."""
        if (broken := self.purse.close()) is not None:
            self.stop(broken)

    def drain(self, why: BatchembedError) -> None:
        """Stop; what is in flight has a few seconds to land, then it is let go."""
        self.stop(why)
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.abandon)

    def abandon(self) -> None:
        """Let go of what is in flight: its answers, if any come, are paid for and lost."""
        self.crew.let_go()

    async def beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Await work beside that of a feed; `abandon` lets go of it too."""
        try:
            await self.crew.beside(work)
        except asyncio.CancelledError:
            if self.ending is None:
                raise

    async def settle(self, request: Request, feed: Feed) -> None:
        """Bring every text of a request to a vector or a reject, or leave it for the next run."""
        pieces = long.apart(self.caps.pieces(request), self._facts())
        waiting = [Part(piece) for piece in reversed(pieces)]
        while waiting:
            part, facts = waiting.pop(), self._facts()
            held = unasked(part, facts) or long.known(part, facts, self.ledger.sections)
            if held is not None or (held := await self.purse.admit(part)) is not None:
                self._apply(held, feed)
                waiting += held.again
                continue
            if (outcome := await self.attempt(part.request)) is None:
                return
            facts = self._facts()
            verdict = long.followed(part, judge(part, outcome, facts), facts)
            if isinstance(outcome, Response) and (why := self.versions.objection(outcome)):
                verdict = Verdict(end=why)
            self._apply(verdict, feed)
            if verdict.keep is None:
                self._charge(self.purse.bill(part.request, outcome).tokens, 0)
            if part.cut is not None and isinstance(outcome, Response):
                self.caps.passed(part.cut, feed)
            if verdict.try_harmless:
                await self._try_harmless(part.request.role, outcome)
            waiting += verdict.again
            if verdict.again:
                await self.pacer.rest(outcome, max(part.tries for part in verdict.again))

    async def attempt(self, request: Request) -> Outcome | None:
        """Send once, when the pacer permits; None: the run stops."""
        outcome, permit, sent = None, None, False
        try:
            permit = await self.pacer.permit(request.tokens, len(request))
            if permit is not None and (why := self.objection(self.dimensions)):
                self.drain(why)
            elif permit is not None:
                sent = True  # first: an abandoned request was sent as well
                outcome = await self.provider.attempt(request)
        finally:
            if permit is not None:
                self.pacer.settle(permit, outcome)
            self._charge(0, self.purse.settle(request, outcome, sent=sent))
        return outcome

    async def ask(self, request: Request) -> Outcome | None:
        """Send a text that is none of the corpus: it is billed, and not kept; None: the run stops.

        Where its bill could pass the bound on cost, the run ends.
        """
        if (dear := await self.purse.admit(Part(request))) is not None:
            if dear.end is not None:
                self.stop(dear.end)
            return None
        if (outcome := await self.attempt(request)) is not None:
            self._charge(self.purse.bill(request, outcome).tokens, 0)
        return outcome

    def _charge(self, tokens: int, unsure: int) -> None:
        """Keep what was billed and brought nothing to keep, and what may have been billed."""
        try:
            if tokens or unsure:
                self.ledger.charge(tokens, unsure)
        except OSError as error:
            self.stop(disk_error(error))
        if tokens:
            self.listener.answered(0, tokens)

    def _apply(self, verdict: Verdict, feed: Feed) -> None:
        """Keep what there is to keep first: it is paid for."""
        try:
            for one in filter(None, (verdict.keep, verdict.joined)):
                self._keep(one, verdict.mended if one is verdict.keep else 0)
            if (kept := verdict.keep) is not None:
                self.dimensions, self.outputs = kept.vectors.shape[1], kept.outputs
                self.answers += 1
                self.opened.set()
                self._passed()
            if verdict.failure is not None and verdict.failure[0] in DOUBTED:
                self.held += verdict.rejects
            elif verdict.rejects:
                self._reject(list(verdict.rejects))
        except OSError as error:
            self.stop(disk_error(error))
        if verdict.failure is not None:
            self.refusals += verdict.failure[0] in DOUBTED
            self.listener.failed(*verdict.failure, self.pacer.held_for())
            self.mind_patience()
        if verdict.folds is not None:
            self.folds = self.folds + 1 if verdict.folds and self.folds >= 0 else -1
        if verdict.cap or verdict.most_bytes:
            self.caps.tighten(feed, texts=verdict.cap, size=verdict.most_bytes)
        if verdict.end is not None:
            self.stop(verdict.end)

    def _keep(self, kept: Vouched, mended: int) -> None:
        self.ledger.append(**kept.told())
        self.listener.answered(0 if kept.section_of else len(kept.keys), kept.tokens, mended)

    def _passed(self) -> None:
        """Something was answered: so texts refused since the last answer are at fault."""
        self.refusals = 0
        try:
            while self.held and not isinstance(self.ending, ActionNeededError):
                self._reject([self.held.pop(0)])
        except OSError as error:
            self.stop(disk_error(error))

    def _reject(self, rejects: list[Reject]) -> None:
        self.ledger.reject(rejects)
        self.listener.rejected(rejects)
        self.rejects += len(rejects)
        most = self.rules.most_rejects
        if most is not None and self.rejects > most:
            self.stop(too_many_rejects(self.rejects, most, rejects[-1]))

    def mind_patience(self) -> None:
        """Stop when nothing was answered for too long, or is to be asked for too long."""
        patience, reason = self.rules.patience, self.pacer.state.reason
        failing, held = self.pacer.failing_for(), self.pacer.held_for()
        if patience is not None and max(failing, held) > patience:
            self.stop(out_of_patience(failing, held if held > patience else 0.0, reason))

    async def _try_harmless(self, role: Role, failed: Outcome) -> None:
        """Find out whether the provider answers at all: a text is at fault then, else it is not.

        When even a harmless text is refused, the job is wrong and the run ends.
        """
        answers = self.answers
        async with self.harmless:
            if self.ending is not None or self.answers > answers:
                return  # it ended, or something passed, while another worker asked
            if self.unheard == answers and not self.pacer.state.shut:
                await self.pacer.rest(SILENT, 1)
                self.unheard = -1  # nothing did, as another worker heard: not again at once
                return
            outcome = await self.ask(harmless(role))
            if isinstance(outcome, Response):
                self.answers += 1
                self.opened.set()
                self._passed()
            elif isinstance(failed, NOT_TAKEN) and isinstance(outcome, NOT_TAKEN):
                self.stop(nothing_passes(outcome))
            else:
                self.unheard = answers
                self.mind_patience()

    def _facts(self) -> Facts:
        rules = self.rules
        return Facts(
            answers=self.answers,
            dimensions=rules.dimensions or self.dimensions,
            normalize=rules.normalize,
            folds=self.folds >= FOLDS_PROVEN,
            joined=rules.joined,
            outputs=rules.outputs or self.outputs,
            refusals=self.refusals,
            on_long_text=rules.on_long_text,
            tokens_per_text=rules.tokens_per_text,
            room=self.ledger.sections.room,
        )

    async def _work(self, feed: Feed, *, pilot: bool) -> None:
        """Settle requests. The pilot goes alone until something was answered.

        A wrong key or model then costs one call, not one for every worker.
        """
        if not pilot:
            await self.opened.wait()
        while self.ending is None and (request := await self.upcoming.take()) is not None:
            await self.settle(request, feed)
            while len(self.crew) < min(self.rules.most_open or 0, self.pacer.state.most_open):
                self.crew.add(self._work(feed, pilot=False))
                self.upcoming.workers = len(self.crew)
        self.opened.set()
