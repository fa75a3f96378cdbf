"""Attention control by pattern: where a pattern occurs in a text, and which controls make sense."""

from __future__ import annotations

import math
import re
import warnings
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeAlias

from batchembed.prompts import (
    Control,
    Image,
    ImageControl,
    Overlap,
    Piece,
    Prompt,
    Text,
    TokenControl,
    Tokens,
)

Spans: TypeAlias = Sequence[tuple[int, int]]
"""Stretches of a text: (start, length) in characters."""

NOWHERE: Mapping[str, Spans] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to look for in a text, literally (`match`) or as a regular expression, and its factor.

    Exactly one of `match`, `regex` and `column` is set; a column stands for all that it gives to a
    prompt. A factor of 0 to 1 suppresses, above 1 amplifies.
    """

    match: str | None = None
    regex: str | None = None
    factor: float = 1.0
    column: str | None = None
    overlap: Overlap | None = None

    def told(self) -> dict[str, Any]:
        """Return plain JSON values; what came later only where it is set."""
        told: dict[str, Any] = {"match": self.match, "regex": self.regex, "factor": self.factor}
        later = {"column": self.column, "token_overlap": self.overlap}
        return told | {name: value for name, value in later.items() if value is not None}

    def mistake(self) -> str | None:
        """Return why this pattern cannot be used, or None when it can."""
        given = [each for each in (self.match, self.regex, self.column) if each is not None]
        if len(given) != 1:
            return "must have one of `match`, `regex` and `column`"
        if given[0] == "":
            return "must not be empty: it would match everywhere"
        if not (math.isfinite(self.factor) and self.factor >= 0):
            return f"has the factor `{self.factor}`, which must be 0 or more"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # what Python will read otherwise one day
                _ = self.column is None and _compiled(self)
        except (re.error, OverflowError, RecursionError, Warning) as error:
            return f"has a regular expression that cannot be read: {error}"
        return None


def find(
    patterns: Sequence[Pattern], text: str, columns: Mapping[str, Spans] = NOWHERE
) -> tuple[Control, ...]:
    """Return the controls that `patterns` give `text`, in characters, ordered by start.

    `columns` says where in the text columns stand. No two controls overlap: where patterns compete
    for a stretch of text, the one listed first has it, and a column what is left. A regular
    expression that matches nothing at a place (`a*`) gives no control there.
    """
    found: list[Control] = []
    for pattern in patterns:
        taken = sorted(found, key=_start)
        if pattern.column is not None:
            spans = [rest for s in columns.get(pattern.column, ()) for rest in _left(taken, *s)]
        else:
            spans = [
                (start, stop - start)
                for start, stop in (hit.span() for hit in _compiled(pattern).finditer(text))
                if start < stop and not _overlaps(taken, start, stop)
            ]
        found += [Control(start, size, pattern.factor, pattern.overlap) for start, size in spans]
    return tuple(sorted(found, key=_start))


@dataclass(frozen=True, slots=True)
class Places:
    """Where in a row its columns are: as spans of its text, or as its images or its token ids."""

    spans: Mapping[str, Spans]
    image: str | None = None
    tokens: str | None = None


def controlled(prompt: Prompt, patterns: Sequence[Pattern], places: Places) -> Prompt:
    """Return the prompt with the controls that `patterns` give to each of its pieces."""
    return tuple(_controlled(piece, patterns, places) for piece in prompt)


def _controlled(piece: Piece, patterns: Sequence[Pattern], places: Places) -> Piece:
    match piece:
        case Text():
            return replace(
                piece, controls=(*piece.controls, *find(patterns, piece.text, places.spans))
            )
        case Image():
            whole = (p for p in patterns if p.column is not None and p.column == places.image)
            more = (ImageControl(0.0, 0.0, 1.0, 1.0, p.factor, p.overlap) for p in whole)
            return replace(piece, controls=(*piece.controls, *more))
        case Tokens():
            each = [p for p in patterns if p.column is not None and p.column == places.tokens]
            ids = range(len(piece.ids))
            return replace(
                piece,
                controls=(*piece.controls, *(TokenControl(n, p.factor) for p in each for n in ids)),
            )


def _left(taken: Sequence[Control], start: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield (start, length) of what the ordered `taken` leave of a span."""
    stop = start + length
    for control in taken:
        end = control.start + control.length
        if end <= start or control.start >= stop:
            continue
        if control.start > start:
            yield start, control.start - start
        start = max(start, end)
    if start < stop:
        yield start, stop - start


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
