"""The price tables: the one in the package, and one that a user keeps."""

from __future__ import annotations

import datetime as dt
import ipaddress
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from batchembed.errors import JobError
from batchembed.prices.price import Lane, Price

ANY = "*"
PRIVATE = "private-network"
_NEEDED = {"provider", "model", "per_million_tokens"}
_KNOWN = _NEEDED | {"lane", "currency", "date", "source"}
_FORM = (
    "a price is { provider, model, per_million_tokens }, with lane, currency, date and source "
    "if you like, in a list called `price`"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a price table. `model` may be "*": every model of the provider."""

    provider: str
    model: str
    lane: str
    price: Price

    def holds(self, provider: str, model: str, lane: str) -> bool:
        """Return whether this is the price of a model in a lane."""
        return self.provider == provider and self.model in {model, ANY} and self.lane in {lane, ANY}


@cache
def table() -> tuple[Line, ...]:
    """Return the lines of the package's own table."""
    told = resources.files("batchembed.prices").joinpath("prices.toml").read_text("utf-8")
    return tuple(_lines(told, "the price table of the package"))


def read(path: Path) -> tuple[Line, ...]:
    """Return the lines of a user's own table. Raises JobError for a file that is none."""
    try:
        return tuple(_lines(path.read_text("utf-8"), str(path)))
    except UnicodeDecodeError:
        raise JobError(f"`price.file`: `{path}` is not UTF-8", hint=_FORM) from None
    except OSError as error:
        raise JobError(
            f"`price.file`: `{path}` cannot be read: {error.strerror}",
            hint="give the path of a price table, as docs/providers.md shows one",
        ) from None


def find(
    provider: str,
    model: str,
    *,
    lane: Lane,
    address: str | None,
    own_address: bool,
    tables: Iterable[Iterable[Line]],
) -> Price | None:
    """Return the first price that `tables` have, None where it is not known.

    `address` is where requests go, and `own_address` whether that is the provider's own: a
    table's price is for that alone, but for what is free everywhere. A server in a private
    network is somebody's own and bills no tokens.
    """
    for lines in tables:
        for line in lines:
            free = not line.price.per_million
            if line.holds(provider, model, lane) and (own_address or free):
                return line.price
    if address is not None and not own_address and is_private(address):
        return Price(Decimal(0), source=PRIVATE)
    return None


def is_private(address: str) -> bool:
    """Return whether a URL leads to this machine or into a private network, by its looks."""
    host = (urlsplit(address).hostname or "").rstrip(".").lower()
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost", ".lan"))


def _lines(text: str, where: str) -> list[Line]:
    try:
        told = tomllib.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise JobError(f"{where} is not TOML: {error}", hint=_FORM) from None
    prices = told.get("price")
    if not isinstance(prices, list):
        raise JobError(f"{where} has no list called `price`", hint=_FORM)
    return [_line(entry, f"{where}, price {n}") for n, entry in enumerate(prices, 1)]


def _line(told: Any, where: str) -> Line:
    if not isinstance(told, Mapping) or not told.keys() >= _NEEDED:
        raise JobError(f"{where} lacks something", hint=_FORM)
    if unknown := sorted(told.keys() - _KNOWN):
        raise JobError(f"{where}: `{unknown[0]}` is unknown", hint=_FORM)
    per_million = told["per_million_tokens"]
    if isinstance(per_million, bool) or not isinstance(per_million, int | Decimal):
        raise JobError(f"{where}: `per_million_tokens` is `{per_million}`, not a number")
    number = Decimal(per_million)
    if not number.is_finite() or number < 0:
        raise JobError(f"{where}: `per_million_tokens` is `{per_million}`: must be 0 or more")
    words = {name: told.get(name, default) for name, default in _DEFAULTS.items()}
    for name, word in words.items():
        if not isinstance(word, str) or not word or " " in word:
            raise JobError(f"{where}: `{name}` is `{word}`: must be a word")
    date = told.get("date", "")
    price = Price(
        number,
        words["currency"],
        words["source"],
        date.isoformat() if isinstance(date, dt.date) else str(date),
    )
    return Line(str(told["provider"]), str(told["model"]), words["lane"], price)


_DEFAULTS = {"lane": "online", "currency": "USD", "source": "file"}
