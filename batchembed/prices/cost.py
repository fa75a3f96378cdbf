"""What was paid, summed over the prices that held when it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from batchembed.prices.price import MILLION, Price


@dataclass(frozen=True, slots=True)
class Cost:
    """A sum of money. `amount` is None where a price is not known, or in two currencies."""

    amount: Decimal | None
    currency: str


def cost(tokens: Mapping[str, int], price: Price | None) -> Cost:
    """Return what tokens cost that were billed at these rates, such as {"0.02 USD": 1000}.

    Tokens under "" were billed when no price was known: they count at `price`, that of today.
    """
    total, currencies = Decimal(0), set()
    for rate, count in tokens.items():
        told = rate or (price.rate if price is not None else "")
        if not told:
            if count:
                return Cost(None, "")
            continue
        per_million, currency = told.split(" ")
        total += Decimal(per_million) * count / MILLION
        currencies.add(currency)
    if len(currencies) > 1:
        return Cost(None, "")
    ours = price.currency if price is not None else ""
    return Cost(total, currencies.pop() if currencies else ours)
