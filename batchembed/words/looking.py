"""What the commands say that look at complete runs and at the providers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from batchembed.words.plain import counted, cut, row, size

if TYPE_CHECKING:
    from batchembed.api import Cluster, Hit, PairOfRows, Reported
    from batchembed.exchange import Limits
    from batchembed.providers import Listed
    from batchembed.providers.listing import ListedModel
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
    if not found:
        return "no pairs: fewer than two rows have a vector"
    return "\n".join(
        f"{pair.score:.4f}  {cut(pair.left, half)}  ~  {cut(pair.right, half)}" for pair in found
    )


def cluster_words(found: Sequence[Cluster], out: Path) -> str:
    """Return clusters, one a line: number, rows, mean cosine to the centre, its nearest row."""
    lines = [
        f"{one.cluster:>4}  {counted(one.rows, 'row'):>12}  {one.score:.2f}  "
        f"{cut(one.label, SNIPPET)}"
        for one in found
    ]
    return "\n".join([*lines, row("written", str(out))])


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


def provider_words(found: Sequence[Listed]) -> str:
    """Return the providers as a table; a single one with all that is known of it."""
    if len(found) == 1:
        return _provider(found[0])
    rows = [
        ("provider", "model", "dimensions", "roles", "images", "a request", "batch lane", "key")
    ]
    rows += [
        (
            one.name,
            one.model or "(name it)",
            _dimensions(one.models, one.model),
            one.roles.replace("symmetric, document, query", "all three"),
            "yes" if one.images else "-",
            _limits(one.limits),
            one.lane or "-",
            _key(one),
        )
        for one in found
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([*lines, "", "batchembed providers NAME tells more of one."])


def _provider(one: Listed) -> str:
    lines = [f"{one.name}: {one.title}"]
    for model in one.models:
        words = [f"{model.dimensions or 'unknown'} dimensions"]
        if model.sizes:
            shorter = (
                model.sizes if isinstance(model.sizes, str) else ", ".join(map(str, model.sizes))
            )
            words.append(f"or {shorter}")
        if model.tokens_per_text:
            words.append(f"{model.tokens_per_text:,} tokens a text")
        label = model.name or ("any other" if len(one.models) > 1 else "any")
        usual = "  (the usual one)" if model.name and model.name == one.model else ""
        lines.append(row("model", f"{label}: {', '.join(words)}{usual}"))
    lines += [
        row("base_url", one.base_url or "none"),
        row("key", _key(one)),
        row("roles", one.roles),
        row("controls", "yes" if one.controls else "no"),
        row("images", "yes" if one.images else "no"),
        row("a request", _limits(one.limits)),
        row("batch lane", one.lane or "none"),
    ]
    return "\n".join(lines + ([row("note", one.note)] if one.note else []))


def _dimensions(models: Sequence[ListedModel], name: str) -> str:
    return next((str(m.dimensions) for m in models if m.name == name and m.dimensions), "-")


def _limits(limits: Limits) -> str:
    words = counted(limits.texts_per_request, "text")
    if limits.tokens_per_request:
        words += f", {limits.tokens_per_request:,} tokens"
    return words


def _key(one: Listed) -> str:
    if one.key_variable is None:
        return "none needed"
    wanted = "not set" if one.key_needed else "not set, not needed"
    return f"{one.key_variable} ({'set' if one.key_set else wanted})"
