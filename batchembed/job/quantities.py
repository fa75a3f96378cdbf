"""Durations and shares as a job file writes them, and as the program uses them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

_UNITS = {
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("0.001"),
}
_DURATION = re.compile(
    r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,10}(?:\.\d{1,3})?)s)?(?:(\d{1,9})ms)?",
    re.ASCII,
)
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,9})?) ?%", re.ASCII)
_DAYS = 36_500


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many rejects a run may have: a count, or a percentage of its rows."""

    count: int | None = None
    percent: Decimal | None = None

    def rows(self, total: int) -> int:
        """Return the most rejects that are still tolerated in `total` rows."""
        if self.count is not None:
            return self.count
        return int(total * (self.percent or Decimal(0)) / 100)

    def __str__(self) -> str:
        return f"{self.percent}%" if self.count is None else str(self.count)


def seconds(value: object) -> float:
    """Return the seconds of a duration such as "90s", "15m" or "1h30m". Raises ValueError."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not found or not found[0]:
        raise ValueError('must be a duration with its unit, such as "90s", "15m", "4h" or "1h30m"')
    parts = zip(_UNITS.values(), found.groups(), strict=True)
    total = sum(unit * Decimal(number) for unit, number in parts if number)
    if not 0 < total <= _DAYS * _UNITS["d"]:
        raise ValueError(f"must be longer than nothing and at most {_DAYS} days")
    return float(total)


def duration(value: float) -> str:
    """Return the shortest text that `seconds` reads as `value`."""
    whole, text = int(value), ""
    if whole != value:
        return f"{value:.3f}s"
    for unit in ("d", "h", "m", "s"):
        number, whole = divmod(whole, int(_UNITS[unit]))
        text += f"{number}{unit}" if number else ""
    return text


def tolerance(value: object) -> Tolerance:
    """Return what "1%" or a count means. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 2**53:
        return Tolerance(count=value)
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found and Decimal(found[1]) <= 100:  # noqa: PLR2004 (of a hundred)
        return Tolerance(percent=Decimal(found[1]))
    raise ValueError('must be a count such as `500`, or a percentage from "0%" to "100%"')
