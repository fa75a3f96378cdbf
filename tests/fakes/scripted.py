"""A provider, a ledger, a listener and a feed in memory, for the hot loop in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from batchembed.embed import Budget, Loop, Purse, Rules
from batchembed.exchange import Limits, Outcome, Reject, Request, Response, Role
from batchembed.extent import Extent
from batchembed.ledger.sections import Sections
from batchembed.pacing import Pacer, Rates
from batchembed.packing import Batch, Packer
from batchembed.spec import Keyer, Spec

from .time import Clock, now
from .vectors import vectors

KEYER = Keyer(Spec("fake", "fake-model"))
Script = Callable[[int, Request], Outcome | BaseException | None]


def request(*texts: str, **more) -> Request:
    """Return a request of texts under their own keys."""
    return Request(KEYER.keys(texts, "symmetric"), tuple(texts), tokens=len(texts), **more)


def right(asked: Request, tokens: int | None = None) -> Response:
    """Return the right answer."""
    return Response(vectors(asked.texts), len(asked) if tokens is None else tokens, "fake-1")


class Scripted:
    """Answers as a script says: `script(number of the call, request)`; None is the right answer.

    `paid` counts the texts of every answer that left with vectors, whether right or not.
    """

    def __init__(self, script: Script | None = None, *, delay: float = 0.1) -> None:
        self.limits = Limits()
        self.calls: list[tuple[float, Request]] = []
        self.paid: Counter[str] = Counter()
        self.flying = 0
        self._script = script or (lambda _number, _asked: None)
        self._delay = delay

    async def attempt(self, asked: Request) -> Outcome:
        number = len(self.calls)
        self.calls.append((now(), asked))
        self.flying += 1
        try:
            await asyncio.sleep(self._delay)
        finally:
            self.flying -= 1
        outcome = self._script(number, asked)
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is None:
            outcome = right(asked)
        if isinstance(outcome, Response):
            self.paid.update(asked.texts)
        return outcome

    async def close(self) -> None:
        """Do nothing."""


class MemoryLedger:
    """Keeps in dictionaries; `full` is raised by every append from the number `full_at` on."""

    def __init__(self, *, full: OSError | None = None, full_at: int = 0) -> None:
        self.kept: dict[bytes, np.ndarray] = {}
        self.rejects: dict[bytes, Reject] = {}
        self.extents: dict[bytes, Extent] = {}
        self.sections = Sections()
        self.appends = 0
        self.twice = self.tokens = self.charged = self.unsure = 0
        self.risks: list[int] = []
        self._full, self._full_at = full, full_at

    def append(
        self,
        keys,
        vectors,
        *,
        tokens,
        model_version,
        outputs=(),
        rows=None,
        section_of=None,
        extent=None,
    ) -> None:
        self.appends += 1
        if self._full is not None and self.appends > self._full_at:
            raise self._full
        self.tokens += tokens
        if extent is not None:
            self.extents[keys[0].tobytes()] = extent
        if section_of:
            self.sections.add(section_of, keys[0].tobytes(), np.array(vectors), tokens)
            return
        for key, vector in zip(keys, vectors, strict=True):
            self.twice += key.tobytes() in self.kept
            self.kept[key.tobytes()] = np.array(vector)

    def reject(self, rejects: list[Reject]) -> None:
        self.rejects.update((reject.key, reject) for reject in rejects)

    def charge(self, tokens, unsure=0) -> None:
        self.charged += tokens
        self.unsure += unsure

    def risk(self, tokens) -> None:
        self.risks.append(tokens)


class Heard:
    """Remembers what the hot loop told."""

    def __init__(self) -> None:
        self.texts = 0
        self.rejects: list[Reject] = []
        self.failures: list[tuple[str, str, float]] = []
        self.mended = 0

    def answered(self, texts: int, tokens: int, mended: int = 0) -> None:
        self.texts += texts
        self.mended += mended

    def rejected(self, rejects: list[Reject]) -> None:
        self.rejects += rejects

    def failed(self, kind: str, reason: str, wait: float) -> None:
        self.failures.append((kind, reason, wait))


class Texts:
    """A feed of texts, packed as a real one is; `error` is raised when they have run out."""

    def __init__(
        self,
        texts: Sequence[str],
        per_request: int = 1,
        *,
        error: Exception | None = None,
        role: Role = "symmetric",
    ) -> None:
        self._role = role
        self.packer = Packer(Limits(texts_per_request=per_request))
        self._texts, self._error = list(texts), error

    def upcoming(self) -> Iterator[list[Request]]:
        for start in range(0, len(self._texts), 100):
            some = self._texts[start : start + 100]
            batch = Batch(KEYER.keys(some, self._role), np.arange(len(some)), some, self._role)
            yield list(self.packer.add(batch))
        yield list(self.packer.flush())
        if self._error is not None:
            raise self._error

    def fit(self, limits: Limits) -> None:
        self.packer.limits = limits

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        self.packer.tighten(texts, size)


def loop_of(
    provider: Scripted,
    ledger: MemoryLedger | None = None,
    *,
    rates: Rates | None = None,
    budget: Budget | None = None,
    **rules,
) -> Loop:
    """Return a hot loop over a scripted provider; call it while the virtual loop runs."""
    ledger = ledger or MemoryLedger()
    pacer = Pacer(rates or Rates(), Clock(), rng=random.Random(1))
    told = {"concurrency": 4, "normalize": False, **rules}
    purse = Purse(budget, ledger, lambda: 100)
    return Loop(provider, pacer, ledger, Heard(), Rules(**told), purse)


def wrong(ledger: MemoryLedger, texts: Iterable[str]) -> list[str]:
    """Return the texts whose key holds another vector than theirs."""
    keys = {text: KEYER.key(text, "symmetric") for text in texts}
    kept = {text: ledger.kept[key] for text, key in keys.items() if key in ledger.kept}
    return [t for t, found in kept.items() if not np.array_equal(found, vectors([t])[0])]


def open_texts(ledger: MemoryLedger, texts: Iterable[str]) -> list[str]:
    """Return the texts that are neither kept nor rejected."""
    keys = {text: KEYER.key(text, "symmetric") for text in texts}
    return [t for t, key in keys.items() if key not in ledger.kept and key not in ledger.rejects]
