"""The bound on cost: nothing is sent whose bill, however dear, could pass it.

Theory of operation. What a request will be billed is known only afterwards, so before it leaves a
*bound* is set aside: one token for every byte of its texts, and a few for each text, which no
tokenizer passes. The answer's bill takes the bound's place. A request that was sent and whose
answer did not come may have been billed: its bound stays spent, as *unsure* tokens. What does not
fit waits for the requests in flight, whose bills are lower than feared; when none is in flight, it
is halved, and when one text alone does not fit, the run ends. The most that was ever in flight at
once stands in the ledger before it flies, so that what `kill -9` hides counts as spent too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Protocol

from batchembed.embed.endings import disk_error
from batchembed.embed.verdicts import Part, Verdict, size_of
from batchembed.errors import ActionNeededError, BatchembedError
from batchembed.exchange import Fatal, Malformed, Outcome, Request, Response, Unavailable
from batchembed.monitor import Standing
from batchembed.prices import Price, amount
from batchembed.prompts import sure_tokens

MARGIN = Decimal("1.1")  # of what is needed, as it is estimated
A_TEXT = 64  # special tokens, and the instructions that some providers put before each text


class Noted(Protocol):
    """What the purse needs of the ledger."""

    def risk(self, tokens: int) -> None:
        """Note how many tokens may be in flight at once, before they are."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may cost. `most` is for the whole directory, `paid` what of it is spent before.

    `unsure` tokens may have been billed and are part of `paid`; `overhead` is the most bytes that
    are put before a text. Where one of `shards` has an equal share of what was not spent, `before`
    was spent before there were any, and `most` is that and its share.
    """

    price: Price
    most: Decimal
    paid: Decimal = Decimal(0)
    unsure: int = 0
    overhead: int = 0
    before: Decimal = Decimal(0)
    shards: int = 1

    def whole(self, most: Decimal) -> Decimal:
        """Return the `limits.max_cost` of which this run has `most`."""
        return self.before + (most - self.before) * self.shards

    def told(self) -> str:
        """Return the bound in words."""
        if self.shards == 1:
            return f"`limits.max_cost` of `{self.most:f}` {self.price.currency}"
        whole = f"{amount(self.whole(self.most))} {self.price.currency}"
        return f"this shard's share of `limits.max_cost`, 1/{self.shards} of {whole},"


@dataclass(frozen=True, slots=True)
class Bill:
    """What one attempt is billed: tokens, and tokens that may be billed on top of them."""

    tokens: int
    unsure: int


class Purse:
    """What may still be spent. Without a budget everything is admitted. Use on one event loop."""

    def __init__(self, budget: Budget | None, ledger: Noted, left: Callable[[], int]) -> None:
        """`left` tells how many texts of the run have no answer yet."""
        self._budget = budget
        self._ledger = ledger
        self._left = left
        self._room = None if budget is None else budget.price.tokens(budget.most - budget.paid)
        self._reserved = self._mark = self._texts = self._tokens = 0
        self._unsure = budget.unsure if budget else 0
        self._spent = self._waiting = 0
        self._changed = asyncio.Event()

    def bound(self, request: Request) -> int:
        """Return a number of tokens that no bill for the request passes."""
        return bound_of(request, self._budget)

    async def admit(self, part: Part) -> Verdict | None:
        """Set the bound of a part aside, waiting where others may bring change; None: it is.

        Otherwise a verdict: halves, or the end.
        """
        if self._room is None:
            return None
        bound = self.bound(part.request)
        while self._reserved + bound > self._room:
            if not self._reserved:
                return self._short(part, bound)
            self._changed.clear()
            self._waiting += 1
            try:
                await self._changed.wait()
            finally:
                self._waiting -= 1
        self._reserved += bound
        if self._reserved > self._mark:
            self._mark = self._reserved
            if (broken := self._note(self._mark)) is not None:
                return Verdict(end=broken)
        return None

    def settle(self, request: Request, outcome: Outcome | None, *, sent: bool) -> int:
        """Put the bill of an attempt in the place of its bound; return its unsure tokens.

        No outcome of a request that was sent means that nobody waits for its answer any more.
        """
        bill = self.bill(request, outcome) if sent else Bill(0, 0)
        self._spent += bill.tokens
        self._unsure += bill.unsure
        if isinstance(outcome, Response):
            self._texts += len(request)
            self._tokens += bill.tokens
        if self._room is not None:
            self._reserved -= self.bound(request)
            self._room -= bill.tokens + bill.unsure
            self._changed.set()
        return bill.unsure

    def bill(self, request: Request, outcome: Outcome | None) -> Bill:
        """Return what an attempt that ended with `outcome` is billed; None: it was abandoned."""
        match outcome:
            case Response(tokens=int(tokens)):
                return Bill(tokens, 0)
            case Response() | Malformed():  # it was answered, so billed, and does not say how much
                return Bill(request.tokens, max(0, self.bound(request) - request.tokens))
            case None | Unavailable(billed=True) | Fatal(billed=True):
                return Bill(0, self.bound(request))
            case _:
                return Bill(0, 0)

    def standing(self) -> Standing:
        """Return whether requests wait because their bills could pass the bound."""
        if not self._waiting:
            return Standing()
        return Standing("budget", "near `limits.max_cost`: waiting for the bills of what is out")

    def close(self) -> BatchembedError | None:
        """Note that no text of the run is in flight any more; return why that could not be noted.

        What is asked for beside the run, or after it, is noted anew.
        """
        if self._mark == self._reserved:
            return None
        self._mark = self._reserved
        return self._note(self._mark)

    def _note(self, tokens: int) -> BatchembedError | None:
        try:
            self._ledger.risk(tokens)
        except OSError as error:
            return disk_error(error)
        return None

    def _short(self, part: Part, bound: int) -> Verdict:
        """Return halves of what does not fit, and the end when it is one text."""
        request, size = part.request, len(part.request)
        if size > 1:
            middle = size // 2
            halves = (request.part(middle, size), request.part(0, middle))
            return Verdict(again=tuple(replace(part, request=half, cut=None) for half in halves))
        return Verdict(end=self._ended(request, bound))

    def _ended(self, request: Request, bound: int) -> ActionNeededError:
        budget = self._budget
        assert budget is not None
        price, left = budget.price, self._left()
        paid = budget.paid + price.of(self._spent + self._unsure - budget.unsure)
        each = self._tokens / self._texts if self._texts else request.tokens
        need = price.of(max(1, round(each * left)))
        unsure = ""
        if self._unsure:
            lost = amount(price.of(self._unsure))
            unsure = f" ({lost} of it for answers that were lost, and may not have been billed)"
        whole = amount(budget.whole(paid + need * MARGIN + price.of(2 * bound)), up=True)
        return ActionNeededError(
            f"{budget.told()} is used up: {amount(paid - budget.before)} {price.currency} are paid"
            f"{unsure}, and the next text may cost {amount(price.of(bound))}",
            hint=f"about {amount(need)} {price.currency} more are needed for {left:,} texts: "
            f"--set limits.max_cost={whole}",
        )


def bound_of(request: Request, budget: Budget | None) -> int:
    """Return a number of tokens that no bill for a request passes."""
    overhead = A_TEXT + (budget.overhead if budget else 0)
    images = sum(map(sure_tokens, request.prompts or ()))  # twice: it depends on the model
    return size_of(request) + overhead * len(request) + 2 * images
