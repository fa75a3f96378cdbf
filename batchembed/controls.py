"""Attention control by pattern: where a pattern occurs in a text, and which controls make sense."""

from __future__ import annotations

import math
import re
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from batchembed.exchange import Control


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to look for in a text, literally (`match`) or as a regular expression, and its factor.

    Exactly one of `match` and `regex` is set. A factor of 0 to 1 suppresses, above 1 amplifies.
    """

    match: str | None = None
    regex: str | None = None
    factor: float = 1.0

    def mistake(self) -> str | None:
        """Return why this pattern cannot be used, or None when it can."""
        if (self.match is None) == (self.regex is None):
            return "must have either `match` or `regex`"
        if self.match == "" or self.regex == "":
            return "must not be empty: it would match everywhere"
        if not (math.isfinite(self.factor) and self.factor >= 0):
            return f"has the factor `{self.factor}`, which must be 0 or more"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what Python will read otherwise one day
                _compiled(self)
        except (re.error, OverflowError, RecursionError, Warning) as error:
            return f"has a regular expression that cannot be read: {error}"
        return None


def find(patterns: Sequence[Pattern], text: str) -> tuple[Control, ...]:
    """Return the controls that `patterns` give `text`, in characters, ordered by start.

    No two overlap: where patterns compete for a stretch of text, the one listed first has it.
    A regular expression that matches nothing at a place (`a*`) gives no control there.
    """
    found: list[Control] = []
    for pattern in patterns:
        taken = sorted(found, key=_start)
        for hit in _compiled(pattern).finditer(text):
            start, stop = hit.span()
            if start < stop and not _overlaps(taken, start, stop):
                found.append(Control(start, stop - start, pattern.factor))
    return tuple(sorted(found, key=_start))


def check(controls: Sequence[Control], text: str) -> str | None:
    """Return what is impossible about the first control that cannot hold for `text`, or None."""
    for control in controls:
        span = f"control at {control.start}, length {control.length}"
        if control.start < 0:
            return f"{span}: starts before the text"
        if control.length <= 0:
            return f"{span}: covers nothing"
        if control.start + control.length > len(text):
            return f"{span}: reaches beyond the text of {len(text)} characters"
        if not math.isfinite(control.factor) or control.factor < 0:
            return f"{span}: factor `{control.factor}` is not 0 or more"
    return None


def _start(control: Control) -> int:
    return control.start


def _overlaps(taken: Sequence[Control], start: int, stop: int) -> bool:
    """Return whether [start, stop) touches one of `taken`: ordered, none overlapping another."""
    before = bisect_left(taken, stop, key=_start)
    return before > 0 and taken[before - 1].start + taken[before - 1].length > start


@lru_cache(maxsize=256)
def _compiled(pattern: Pattern) -> re.Pattern[str]:
    if pattern.regex is not None:
        return re.compile(pattern.regex)
    return re.compile(re.escape(pattern.match or ""))
