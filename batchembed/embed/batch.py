"""The batch lane: hand files in, wait, take the answers; nothing is handed in twice.

Theory of operation. A submission is written down before anybody has it, and noted as tried before
it is sent. Whoever finds one that was tried and has no name asks the provider for its recent
batches first: the identity, a hash of the content, stands in the metadata. So a crash at any step
costs a look, never a second bill. Answers come in any order and are joined by the names of their
lines; what has no good answer is simply not kept, and so still missing when the batch has landed.
In long runs a line of each file asks for the canary texts; its answer is looked at before others
are kept. What another model answered is not kept, and stays there until somebody says what then.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from batchembed.embed.canaries import Baseline, Watching, asking, compared
from batchembed.embed.endings import disk_error
from batchembed.embed.parties import Kept, Listener
from batchembed.embed.settle import judge
from batchembed.embed.submissions import Desk, Submission
from batchembed.embed.verdicts import Facts, Part
from batchembed.embed.versions import Versions
from batchembed.errors import ActionNeededError, BatchembedError, NotFinishedError
from batchembed.exchange import (
    Fatal,
    Malformed,
    Outcome,
    Refused,
    Request,
    Response,
    Throttled,
    TooLarge,
    Unavailable,
)
from batchembed.handed import Handed

CANARIES = "canaries"  # the name of their line
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
FULL = "token_limit_exceeded"  # the account's queue is full: later, when others have landed


class Counter(Protocol):
    """The provider's side. Each call is one attempt, which never raises."""

    async def hand_in(self, file: bytes, identity: str, shared: str) -> Handed | Outcome:
        """Store a file and submit it, with what its lines share."""

    async def find(self, identity: str) -> Handed | Outcome | None:
        """Return the batch with an identity that did not fail, None where there is none."""

    async def look(self, batch: str) -> Handed | Outcome:
        """Return how far a batch is."""

    async def answers(self, file: str) -> bytes | Outcome:
        """Return a file of answers."""

    def split(self, file: bytes) -> list[tuple[str, int, bytes]]:
        """Return (name, status, body) of the answers in a file."""

    def request(self, line: bytes, keys: NDArray[np.uint8]) -> Request:
        """Return the request that a line asked for."""

    def outcome(self, request: Request, code: int, body: bytes) -> Outcome:
        """Return what one answer means."""


@dataclass(slots=True)
class BatchLane:
    """Brings submissions to their end. `ending`: why it stops before, once that is known.

    `watching` is for canary texts, where there are any.
    """

    counter: Counter
    desk: Desk
    ledger: Kept
    listener: Listener
    facts: Facts
    poll: float
    patience: float
    known: set[bytes] = field(default_factory=set)
    versions: Versions = field(default_factory=Versions)
    watching: Watching | None = None
    ending: BatchembedError | None = None
    landed: list[Submission] = field(default_factory=list)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def dimensions(self) -> int | None:
        """How many numbers a vector has, once that is known."""
        return self.facts.dimensions

    def stopped(self) -> bool:
        """Whether there is an ending."""
        return self.ending is not None

    def drain(self, why: BatchembedError) -> None:
        """Stop waiting; what was handed in stays with the provider, and is taken up again."""
        if self.ending is None:
            self.ending = why
        self._stopped.set()

    def abandon(self) -> None:
        """Do nothing more than `drain` did."""

    def mind_patience(self) -> None:
        """Do nothing: each call that fails minds it, and no limit is shared here."""

    async def run(self) -> None:
        """Hand in what is not yet, then wait until all has landed or there is an ending."""
        while self.desk.open and self.ending is None:
            for one in [one for one in self.desk.open if not one.batch]:
                if self.ending is not None or not await self._hand_in(one):
                    break  # what has no room or no answer now has none for the others either
            for one in [one for one in self.desk.open if one.batch]:
                if self.ending is None:
                    await self._look(one)
            waiting = [one for one in self.desk.open if one not in self.landed]
            if not waiting:
                return
            if self.ending is None:
                await self._pause(self.poll)

    async def _hand_in(self, one: Submission) -> bool:
        """Submit, unless the provider has it already; return whether more can be handed in."""
        found: Handed | None = None
        if one.tried:
            answer = await self._asked(lambda: self.counter.find(one.identity))
            if self.stopped():
                return False
            found = answer
        if found is None:
            one = self.desk.tried(one)
            outcome = await self.counter.hand_in(self.desk.file(one), one.identity, one.shared)
            if isinstance(outcome, Unavailable | Throttled):
                self.listener.failed("unavailable", outcome.reason, 0.0)
                return False  # it may have arrived: the next turn looks before it tries again
            found = self._good(outcome)
        if found is not None:
            self.desk.submitted(one, found.id)
        return found is not None

    async def _look(self, one: Submission) -> None:
        told = await self._asked(lambda: self.counter.look(one.batch))
        if told is None or not told.ended or self.stopped():
            return
        if told.state == "failed" and not told.files:
            self._failed(one, told)
            return
        files = []
        for name in told.files:
            files.append(await self._asked(lambda name=name: self.counter.answers(name)))
            if self.stopped():
                return
        try:
            self._land(one, files)
        except OSError as error:
            self.drain(disk_error(error))

    def _failed(self, one: Submission, told: Handed) -> None:
        """A batch that was not taken was not billed: later, where only the queue was full."""
        others = [x for x in self.desk.open if x.batch and x.identity != one.identity]
        if FULL in told.errors and others:
            self.desk.note(replace(one, tried=False, batch=""))
            return
        self.desk.forget(one)
        self.drain(
            ActionNeededError(
                f"the provider did not take a batch of {one.texts:,} texts: {told.errors}",
                hint='mend it and run again, or send them online: --set access.lane="online"',
            )
        )

    def _land(self, one: Submission, files: list[bytes]) -> None:
        """Keep every good answer; what is known already was kept before a crash."""
        if one.canaries and not self._unmoved(one, files):
            return
        lines = list(self.desk.lines(one))
        for file in files:
            for name, code, body in self.counter.split(file):
                if not (name.isdecimal() and int(name) < len(lines)):
                    continue  # none of ours
                line, keys = lines[int(name)]
                if keys[0].tobytes() in self.known:
                    continue
                if not self._keep(self.counter.request(line, keys), code, body):
                    return
        self.landed.append(one)
        self.desk.open = [kept for kept in self.desk.open if kept.identity != one.identity]

    def _unmoved(self, one: Submission, files: list[bytes]) -> bool:
        """Return whether the canary texts have the vectors they had; none says nothing.

        They are on the bill before what they vouch for: a crash in between counts them twice.
        """
        request = asking(self.watching.role if self.watching else "symmetric")
        named = (answer for file in files for answer in self.counter.split(file))
        code, body = next(
            ((code, body) for name, code, body in named if name == CANARIES), (0, b"")
        )
        outcome = self.counter.outcome(request, code, body)
        if not isinstance(outcome, Response):
            return True
        why = self.versions.objection(outcome)
        if why is None and self.watching is not None:
            found = compared(self.watching, self.watching.baseline, outcome.vectors)
            if isinstance(found, Baseline):
                self.watching = replace(self.watching, baseline=found)
            else:
                why = found
        if why is not None:
            self.drain(why)
        elif not any(keys[0].tobytes() in self.known for _, keys in self.desk.lines(one)):
            self.ledger.charge(outcome.tokens or 0)
            self.listener.answered(0, outcome.tokens or 0)
        return why is None

    def _keep(self, request: Request, code: int, body: bytes) -> bool:
        """Keep an answer, if it proves itself; return False for one of another model."""
        outcome = self.counter.outcome(request, code, body)
        if not isinstance(outcome, Response):
            reason = getattr(outcome, "reason", "")
            self.listener.failed("unanswered in the batch", reason, 0.0)
            return True
        if (other := self.versions.objection(outcome)) is not None:
            self.drain(other)
            return False
        verdict = judge(Part(request), outcome, self.facts)
        if verdict.end is not None:
            self.drain(verdict.end)
        elif (kept := verdict.keep) is not None:
            self.ledger.append(
                kept.keys,
                kept.vectors,
                tokens=kept.tokens,
                model_version=kept.model_version,
                outputs=kept.outputs,
            )
            self.facts = replace(self.facts, dimensions=kept.vectors.shape[1])
            self.known.update(key.tobytes() for key in kept.keys)
            self.listener.answered(len(kept.keys), kept.tokens, verdict.mended)
        elif outcome.tokens:
            self.ledger.charge(outcome.tokens)
        return True

    async def _asked(self, call: Any) -> Any:
        """Ask until there is an answer, as long as the job has patience."""
        wait, waited = FIRST_WAIT, 0.0
        while True:
            answer = await call()
            if not isinstance(answer, Unavailable | Throttled):
                return self._good(answer)
            if waited >= self.patience:
                why = f"nothing was answered for `{waited:.0f}` s: {answer.reason}"
                hint = "what was handed in stays there; run the same command again later"
                self.drain(NotFinishedError(why, hint=hint))
            if self.ending is not None:
                return None
            pause = answer.wait if answer.wait is not None else wait
            self.listener.failed("unavailable", answer.reason, pause)
            await self._pause(pause)
            wait, waited = min(2 * wait, LONGEST_WAIT), waited + max(pause, FIRST_WAIT)

    def _good(self, answer: Any) -> Any:
        """Return an answer, None for what only a person can mend."""
        if isinstance(answer, Fatal | Refused | Malformed | TooLarge):
            self.drain(ActionNeededError(answer.reason, hint=getattr(answer, "hint", None)))
            return None
        return answer

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass
