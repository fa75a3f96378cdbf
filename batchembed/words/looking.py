"""What the commands say that look at complete runs and at the providers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batchembed.words.plain import cut, row, size

if TYPE_CHECKING:
    from batchembed.api import Hit, PairOfRows, Reported
    from batchembed.providers import ProviderInfo
    from batchembed.similarity import Compared
    from batchembed.verify import Verified

SNIPPET = 88


def verify_words(found: Verified) -> str:
    """Return what a verification found."""
    lines = [
        f"{found.files} files, {size(found.bytes)}: "
        + (f"{len(found.problems)} problems" if found.problems else "all as promised"),
        row("vectors", f"{found.vectors:,} in {found.rows:,} rows"),
        row("aligned", f"{found.aligned:,} rows have the key of their text in the corpus"),
    ]
    if found.cosine_least is not None:
        told = f"{found.asked} rows again: cosine at least {found.cosine_least:.6f}"
        lines.append(row("embedded", f"{told}, mean {found.cosine_mean:.6f}"))
    lines += [row("not looked at", what) for what in found.ignored]
    lines += [row("problem", what) for what in found.problems]
    if found.problems:
        lines.append(row("mend", "delete the files named and run the job again"))
    return "\n".join(lines)


def compared_words(found: Compared, out: Path) -> str:
    """Return what a comparison did."""
    left_out = found.left_out.null + found.left_out.zero
    words = f"{found.left_rows:,} x {found.right_rows:,} rows, {found.scores:,} scores"
    return (
        f"{words} in {found.seconds:.1f} s, {left_out:,} rows left out\n{row('written', str(out))}"
    )


def pair_words(found: Sequence[PairOfRows]) -> str:
    """Return pairs of rows, one a line, with a few words of each."""
    half = SNIPPET // 2
    return "\n".join(
        f"{pair.score:.4f}  {cut(pair.left, half)}  ~  {cut(pair.right, half)}" for pair in found
    )


def hit_words(hits: Sequence[Hit]) -> str:
    """Return the rows found, the nearest first."""
    lines = []
    for hit in hits:
        texts = [str(v) for k, v in hit.columns.items() if isinstance(v, str) and v != hit.id]
        lines.append(
            f"{hit.score:.4f}  {cut(str(hit.id), SNIPPET)}  {cut(' · '.join(texts), SNIPPET)}"
        )
    return "\n".join(lines)


def report_words(found: Reported) -> str:
    """Return what was made of a run, to look at."""
    shown = f"{found.shown:,} of {found.rows:,} rows shown, {size(found.bytes)}"
    return "\n".join([shown, *(row("written", name) for name in found.files)])


def provider_words(found: Sequence[ProviderInfo]) -> str:
    """Return the providers, one after the other."""
    blocks = []
    for info in found:
        lines = [f"{info.name}: {info.title}", row("model", info.model)]
        lines.append(row("key", info.key_variable or "none needed"))
        if info.base_url:
            lines.append(row("base_url", info.base_url))
        lines += [
            row("roles", info.roles),
            row("controls", "yes" if info.controls else "no"),
            row("limits", info.limits),
            row("note", info.note),
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
