"""The parts of a page that show texts beside texts: closest pairs, near-duplicate groups."""

from __future__ import annotations

from batchembed.report.figures import Figures
from batchembed.report.words import beside, corpus_text, counted, cut, escape

PAIR_LETTERS = 500
FIRST_PAIRS = 8
GROUP_LETTERS = 160
MOST_GROUPS = 20
MOST_MEMBERS = 6


def pairs(figures: Figures) -> str:
    """Return the closest pairs of different texts, side by side."""
    told = []
    for left, right, score in figures.nearness.pairs:
        texts = beside(*(cut(figures.drawn.words(row), PAIR_LETTERS) for row in (left, right)))
        sides = "".join(
            f"<div><h4>{_id(figures, row)}</h4>{text}</div>"
            for row, text in zip((left, right), texts, strict=True)
        )
        told.append(
            f'<li><span class="score">{score:.3f}</span><div class="sides">{sides}</div></li>'
        )
    if not told:
        return "<p>There are no two texts.</p>"
    first, rest = ("".join(part) for part in (told[:FIRST_PAIRS], told[FIRST_PAIRS:]))
    shown = f'<ol class="pairs">{first}</ol>'
    if not rest:
        return shown
    more = f"<summary>The next {len(told) - FIRST_PAIRS}</summary>"
    return f'{shown}<details>{more}<ol class="pairs">{rest}</ol></details>'


def groups(figures: Figures) -> str:
    """Return the near-duplicate groups, the largest first."""
    near, least = figures.nearness, f"{figures.nearness.least:g}"
    if not near.groups:
        return f"<p>No two rows score {least} or more.</p>"
    rows = sum(len(group) for group in near.groups)
    words = f"{counted(len(near.groups), 'group')} with {rows:,} rows, linked by a cosine of at "
    words += f"least {least}."
    if len(near.groups) > MOST_GROUPS:
        words += f" The {MOST_GROUPS} largest:"
    told = "".join(_group(figures, group) for group in near.groups[:MOST_GROUPS])
    return f"<p>{words}</p>{told}"


def _group(figures: Figures, group: list[int]) -> str:
    same = figures.drawn.same[group]
    equal = " of one text" if (same == same[0]).all() else ""
    members = "".join(
        f"<li><h4>{_id(figures, row)}</h4>"
        f"{corpus_text(cut(figures.drawn.words(row), GROUP_LETTERS))}</li>"
        for row in group[:MOST_MEMBERS]
    )
    if len(group) > MOST_MEMBERS:
        members += f'<li class="quiet">and {len(group) - MOST_MEMBERS:,} more</li>'
    return (
        f"<details><summary>{len(group):,} rows{equal}: "
        f"<bdi>{escape(cut(figures.drawn.words(group[0]), 60))}</bdi></summary>"
        f"<ul>{members}</ul></details>"
    )


def _id(figures: Figures, row: int) -> str:
    return f"<bdi>{escape(cut(figures.drawn.ids[row], 60))}</bdi>"
