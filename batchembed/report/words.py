"""Text and numbers as a page shows them: escaped, cut, with their units."""

from __future__ import annotations

import difflib
import html
import re

# What no page can show, and what would turn the text around it: overrides of the direction.
UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
MOST_WORDS = 400
MARKED_FROM = 0.5


def clean(text: str) -> str:
    """Return text without what no page can show; lone surrogates become U+FFFD."""
    return UNSEEN.sub("", text).encode("utf-8", "replace").decode("utf-8")


def cut(text: str, letters: int) -> str:
    """Return clean text of at most so many characters."""
    return shortened(clean(text), letters)


def shortened(text: str, letters: int) -> str:
    """Return text, the end left out that is beyond so many characters."""
    return text if len(text) <= letters else text[: letters - 1] + "…"


def escape(text: str) -> str:
    """Return text that stays text wherever in a page it stands."""
    return html.escape(clean(text), quote=True)


def corpus_text(text: str, *, tag: str = "p") -> str:
    """Return text of a corpus as an element of its own, with a direction of its own."""
    return f'<{tag} class="text" dir="auto">{escape(text)}</{tag}>'


def beside(left: str, right: str) -> tuple[str, str]:
    """Return two texts as elements, with marks on what only one of them has.

    Without marks where they share less than half: there would be nothing else.
    """
    mine, theirs = _WORDS.findall(clean(left)), _WORDS.findall(clean(right))
    alike = difflib.SequenceMatcher(None, mine, theirs, autojunk=False)
    if max(len(mine), len(theirs)) > MOST_WORDS or alike.ratio() < MARKED_FROM:
        return corpus_text(left), corpus_text(right)
    one, other = "", ""
    for kind, a, b, c, d in alike.get_opcodes():
        one += _marked("".join(mine[a:b]), marked=kind != "equal")
        other += _marked("".join(theirs[c:d]), marked=kind != "equal")
    return f'<p class="text" dir="auto">{one}</p>', f'<p class="text" dir="auto">{other}</p>'


def _marked(text: str, *, marked: bool) -> str:
    told = html.escape(text, quote=True)
    return f"<mark>{told}</mark>" if marked and text.strip() else told


def number(value: float) -> str:
    """Return a number for people: 12,345 or 0.0123."""
    if value == int(value) and abs(value) < 1e15:  # noqa: PLR2004 - whole, and exact as a float
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"  # noqa: PLR2004


def counted(count: int, name: str) -> str:
    """Return a number and what it counts."""
    return f"{count:,} {name}" + ("" if count == 1 else "s")


def span(seconds: float) -> str:
    """Return a length of time for people."""
    if seconds < 10:  # noqa: PLR2004 - ten seconds
        return f"{seconds:.1f} s"
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
