"""One price: so much of a currency for a million tokens, and where that is known from."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from typing import Literal, TypeAlias

MILLION = Decimal(1_000_000)

Lane: TypeAlias = Literal["online", "batch"]


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost.

    `source` is a word, such as job, vendor, third-party or self-hosted; `date` is when it was
    looked up, as YYYY-MM-DD, "" where nobody said.
    """

    per_million: Decimal
    currency: str = "USD"
    source: str = "job"
    date: str = ""

    def of(self, tokens: int) -> Decimal:
        """Return what so many tokens cost, exactly."""
        return self.per_million * tokens / MILLION

    def tokens(self, money: Decimal) -> int | None:
        """Return how many tokens so much money pays for, none for nothing; None: any number."""
        if not self.per_million:
            return None
        return max(0, int(money * MILLION / self.per_million))

    @property
    def rate(self) -> str:
        """The price as it is kept with every answer, such as `0.02 USD`."""
        return f"{self.per_million.normalize():f} {self.currency}"

    def told(self) -> str:
        """Return the price and where it is from, in words."""
        if not self.per_million:
            return "free"
        since = f", {self.date}" if self.date else ""
        return f"{self.rate} a million tokens ({self.source}{since})"


def amount(money: Decimal | float, *, up: bool = False) -> str:
    """Return money with as many digits as tell something; `up`: never less than it is."""
    exact = money if isinstance(money, Decimal) else Decimal(str(money))
    if not exact:
        return "0"
    digits = max(2, 1 - exact.adjusted())
    step = Decimal(1).scaleb(-digits)
    return f"{exact.quantize(step, ROUND_CEILING if up else ROUND_HALF_EVEN):f}"
