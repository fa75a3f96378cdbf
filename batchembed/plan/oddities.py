"""Rows of a corpus that a person should look at before paying for them.

What is odd can be told from letters alone: no text, more tokens than the model reads, characters
that no text should hold, and writing in other letters than the rest of the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

EXAMPLES = 3
SNIPPET = 60
FEW = 0.05  # a script of so small a share of the rows is odd
MIXED = 0.2  # two scripts that each have so much of the letters are a mix
LOOKED_AT = 2000  # characters of a text that tell its script
BYTES_A_TOKEN = 4
HALF_TEXT = 20  # fewer letters than this tell no script

# What a text should not hold: controls but for tab and line ends, marks that turn the writing
# round, and the sign that stands where decoding failed.
CONTROLS = r"[\x00-\x08\x0B\x0C\x0E-\x1F\x7F-\x9F\u{202A}-\u{202E}\u{2066}-\u{2069}]"
REPLACED = r"\u{FFFD}"
SCRIPTS = {
    "Latin": r"\p{Latin}",
    "Cyrillic": r"\p{Cyrillic}",
    "Greek": r"\p{Greek}",
    "Arabic": r"\p{Arabic}",
    "Hebrew": r"\p{Hebrew}",
    "Devanagari": r"\p{Devanagari}",
    "Thai": r"\p{Thai}",
    "Hangul": r"\p{Hangul}",
    "Han and Kana": r"[\p{Han}\p{Hiragana}\p{Katakana}]",
}


@dataclass(frozen=True, slots=True)
class Example:
    """One odd row: where it is, in words, and how its text begins."""

    where: str
    text: str


@dataclass(slots=True)
class Odd:
    """Rows with one oddity: how many, and the first of them."""

    count: int = 0
    examples: list[Example] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    count: int = 0
    rows: list[tuple[int, str]] = field(default_factory=list)

    def add(self, first: int, texts: list[str | None], which: NDArray[np.bool_]) -> None:
        places = np.flatnonzero(which)
        self.count += len(places)
        for at in places[: EXAMPLES - len(self.rows)].tolist():
            self.rows.append((first + at, (texts[at] or "")[:SNIPPET]))


class Oddities:
    """Looks at all rows of a corpus, some at a time; `context`: the tokens that the model reads."""

    def __init__(self, context: int | None) -> None:
        self._context = context
        self._odd: dict[str, _Found] = {}
        self._scripts: dict[str, _Found] = {}
        self._rows = 0

    def look(self, first: int, texts: list[str | None]) -> None:
        """Look at rows of which `first` is the number of the first."""
        import polars as pl  # a run counts requests with this package, and has no use for it

        self._rows += len(texts)
        frame = pl.DataFrame({"text": _column(texts)})
        text = pl.col("text")
        found = frame.select(
            blank=text.is_null() | (text.str.strip_chars() == ""),
            size=text.str.len_bytes().fill_null(0),
            ascii=(text.str.len_bytes() == text.str.len_chars()).fill_null(value=True),
            controls=text.str.contains(CONTROLS).fill_null(value=False),
            replaced=text.str.contains(REPLACED).fill_null(value=False),
        )
        self._add("no_text", first, texts, found["blank"])
        self._add("control_characters", first, texts, found["controls"])
        self._add("replacement_characters", first, texts, found["replaced"])
        if self._context is not None:
            long = found["size"] > self._context * BYTES_A_TOKEN
            self._add("too_long", first, texts, long)
        self._look_at_letters(first, texts, frame, found["ascii"].to_numpy())

    def odd(self, where: Callable[[int], str]) -> dict[str, Odd]:
        """Return what was found by its name; `where` tells in words where a row is."""
        named = dict(self._odd)
        for script, found in self._scripts.items():
            if 0 < found.count < FEW * self._rows:
                named[f"in {script} letters"] = found
        return {
            name: Odd(found.count, [Example(where(row), text) for row, text in found.rows])
            for name, found in named.items()
            if found.count
        }

    def scripts(self) -> dict[str, int]:
        """Return how many rows have most of their letters in each script, the most first."""
        counts = {name: found.count for name, found in self._scripts.items() if found.count}
        return dict(sorted(counts.items(), key=lambda pair: -pair[1]))

    def _look_at_letters(
        self,
        first: int,
        texts: list[str | None],
        frame: pl.DataFrame,
        is_ascii: NDArray[np.bool_],
    ) -> None:
        """Tell the script of each text: of plain ASCII it is Latin, the others are counted."""
        import polars as pl

        begin = pl.col("text").str.slice(0, LOOKED_AT)
        has_letters = frame.select(begin.str.contains("[A-Za-z]").fill_null(value=False))
        self._script("Latin").add(first, texts, is_ascii & has_letters["text"].to_numpy())
        others = np.flatnonzero(~is_ascii)
        if not len(others):
            return
        counts = (
            frame[others.tolist()]
            .select(**{name: begin.str.count_matches(form) for name, form in SCRIPTS.items()})
            .to_numpy()
            .astype(np.int64)
        )
        letters = counts.sum(axis=1)
        most = counts.argmax(axis=1)
        for number, name in enumerate(SCRIPTS):
            which = np.zeros(len(texts), np.bool_)
            which[others[(most == number) & (letters > 0)]] = True
            self._script(name).add(first, texts, which)
        mixed = np.zeros(len(texts), np.bool_)
        second = np.sort(counts, axis=1)[:, -2]
        mixed[others[(letters >= HALF_TEXT) & (second >= MIXED * letters)]] = True
        self._add("mixed_scripts", first, texts, mixed)

    def _script(self, name: str) -> _Found:
        return self._scripts.setdefault(name, _Found())

    def _add(
        self, name: str, first: int, texts: list[str | None], which: Iterable[bool] | pl.Series
    ) -> None:
        mask = np.asarray(which, dtype=np.bool_)
        self._odd.setdefault(name, _Found()).add(first, texts, mask)


def _column(texts: list[str | None]) -> pl.Series:
    """Return texts as a column; what UTF-8 does not have becomes a question mark."""
    import polars as pl

    try:
        return pl.Series(texts, dtype=pl.String)
    except UnicodeEncodeError:
        plain = [None if t is None else t.encode(errors="replace").decode() for t in texts]
        return pl.Series(plain, dtype=pl.String)
