"""The parts of a page that are words and tables; drawings are made by the page's own script."""

from __future__ import annotations

from collections.abc import Iterable

from batchembed.parts import Manifest
from batchembed.report.figures import Bars, Figures
from batchembed.report.neighbors import groups, pairs
from batchembed.report.told import Told
from batchembed.report.words import counted, cut, escape, number, span

LONGEST_WAITS = 8
MEANINGS = {
    "null_text": "there is no text",
    "empty_text": "the text is empty",
    "blank_text": "the text is nothing but white space",
    "lone_surrogate": "the text holds half a character",
    "too_long": "too long for the model",
    "refused": "the provider refused this text",
    "bad_vector": "the vector is not finite, or zero",
    "malformed_answer": "the answer did not prove itself",
    "no_known_token": "the model knows no word of it",
}


def all_of(told: Told, figures: Figures) -> dict[str, str]:
    """Return every part by its name in the page's template."""
    return {
        "name": escape(told.name),
        "subtitle": _subtitle(told),
        "tiles": _tiles(told),
        "facts": _facts(told, figures),
        "run": _run(told),
        "outcomes": _outcomes(told),
        "texts": _texts(figures),
        "map": _map(figures),
        "heat": _heat(figures),
        "pairs": pairs(figures),
        "groups": groups(figures),
        "scope": _scope(told, figures),
        "foot": escape(f"batchembed {told.manifest.batchembed}"),
    }


def paid(manifest: Manifest) -> str:
    """Return what a run cost, as far as that is known."""
    cost = manifest.bill.get("cost")
    if cost == 0 or manifest.identity["spec"]["provider"] == "local":
        return "free"
    if cost is None:
        return "unknown"
    return f"{cost:,.{2 if cost >= 1 else 4}f} {manifest.bill.get('currency', '')}".strip()


def _subtitle(told: Told) -> str:
    spec = told.manifest.identity["spec"]
    words = (spec["name"], f"by {spec['provider']}", _role(told))
    return " · ".join(f"<bdi>{escape(word)}</bdi>" for word in words)


def _role(told: Told) -> str:
    role = told.manifest.identity["role"]
    return f"role from {role}" if role.startswith("column ") else role


def _tiles(told: Told) -> str:
    counts, bill = told.manifest.counts, told.manifest.bill
    tiles = [
        (f"{counts['rows']:,}", "rows" if counts["rows"] != 1 else "row"),
        (f"{counts['distinct']:,}", "different texts"),
        (f"{counts['rejected']:,}", "rejected"),
        (f"{bill['tokens']:,}", f"tokens in {counted(bill['requests'], 'request')}"),
        (paid(told.manifest), "cost of all executions"),
        (span(told.manifest.seconds), "last execution"),
    ]
    return "".join(
        f"<div><dd>{escape(value)}</dd><dt>{escape(name)}</dt></div>" for value, name in tiles
    )


def _facts(told: Told, figures: Figures) -> str:
    m = told.manifest
    spec = m.identity["spec"]
    files = [*m.parts, *([m.rejects] if m.rejects else []), *m.similarity]
    facts = [
        ("model", spec["name"]),
        ("version answered", ", ".join(v for v in m.model_versions if v) or "not told"),
        ("provider", spec["provider"] + (f" at {spec['base_url']}" if "base_url" in spec else "")),
        ("representation", _role(told)),
        ("vectors", f"{m.dimensions:,} dimensions, {m.dtype}"),
        ("length 1 asked for", "no" if spec.get("normalize") is False else "yes"),
        ("attention controls", counted(len(m.identity["controls"]), "pattern")),
        ("spec fingerprint", m.identity["fingerprint"]),
        ("finished", m.finished),
        ("files", f"{len(files):,}, {sum(f.bytes for f in files):,} bytes"),
        ("drawn with seed", str(told.seed) if not figures.drawn.whole else "every row is shown"),
    ]
    return _list(facts)


def _list(facts: Iterable[tuple[str, str]]) -> str:
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd><bdi>{escape(value)}</bdi></dd></div>"
        for name, value in facts
    )


def _run(told: Told) -> str:
    history = told.history
    if not history:
        return (
            '<p class="quiet">No history of this run is there: nothing was sent in this directory '
            "since it is kept, or <code>checkpoint/</code> was deleted.</p>"
        )
    seconds = sum(p.seconds for one in history for p in one.points)
    texts = sum(p.texts for one in history for p in one.points)
    attempts = sum(p.attempts for one in history for p in one.points)
    took = sum(p.took for one in history for p in one.points)
    waits = [wait for one in history for wait in one.waits]
    words = f"{counted(texts, 'text')} in {span(seconds)} of sending"
    words += f", {number(round(texts / seconds, 1))} a second" if seconds else ""
    if attempts:
        words += f"; a request took {1000 * took / attempts:,.0f} ms on average"
    words += (
        f"; {counted(len(waits), 'wait')} of {span(sum(w.seconds for w in waits))} together."
        if waits
        else "; it never had to wait."
    )
    if len(history) > 1:
        words += f" {len(history)} executions, one after the other."
    charts = '<div id="charts" class="charts"></div>' if seconds >= 3 else ""  # noqa: PLR2004
    brief = "" if charts else '<p class="quiet">Too short for a chart over time.</p>'
    return f"<p>{escape(words)}</p>{charts}{brief}{_waits(told)}"


def _waits(told: Told) -> str:
    waits = [(one.began, wait) for one in told.history for wait in one.waits]
    longest = sorted(waits, key=lambda pair: -pair[1].seconds)[:LONGEST_WAITS]
    if not longest:
        return ""
    rows = "".join(
        f'<tr><td class="number">{escape(span(w.at))}</td><td class="number">'
        f"{escape(span(w.seconds))}</td><td>{escape(w.kind)}</td>"
        f"<td><bdi>{escape(w.reason)}</bdi></td></tr>"
        for _, w in longest
    )
    head = '<th class="number">after</th><th class="number">for</th><th>why</th><th>told</th>'
    return (
        f"<details><summary>The {len(longest)} longest waits</summary>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        "</div></details>"
    )


def _outcomes(told: Told) -> str:
    counts = told.manifest.counts
    duplicates = counts["rows"] - counts["distinct"] - counts["rejected"]
    parts = [
        ("embedded", counts["embedded"], "texts embedded by the last execution"),
        ("reused", counts["reused"], "texts that were paid for before"),
        ("equal", max(0, duplicates), "rows whose text stands in the corpus more than once"),
        ("rejected", counts["rejected"], "rows without a vector"),
    ]
    whole, at, bars = sum(count for _, count, _ in parts) or 1, 0.0, ""
    for name, count, _ in parts:
        width = 100 * count / whole
        bars += f'<rect class="{name}" x="{at:.3f}" width="{width:.3f}" height="3"/>'
        at += width
    key = "".join(
        f'<li><span class="swatch {name}"></span><b>{count:,}</b> {escape(words)}</li>'
        for name, count, words in parts
        if count or name in ("embedded", "rejected")
    )
    box = 'viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true"'
    return f'<svg class="bar" {box}>{bars}</svg><ul class="key">{key}</ul>{_rejects(told)}'


def _rejects(told: Told) -> str:
    if not told.manifest.reasons:
        return ""
    reasons = "".join(
        f'<tr><td><code>{escape(reason)}</code></td><td class="number">{count:,}</td>'
        f"<td>{escape(MEANINGS.get(reason, ''))}</td></tr>"
        for reason, count in sorted(told.manifest.reasons.items(), key=lambda r: (-r[1], r[0]))
    )
    rows = "".join(
        f'<tr><td class="number">{row["row"]:,}</td><td><bdi>{escape(cut(str(row["id"]), 60))}'
        f"</bdi></td><td><code>{escape(row['reason'])}</code></td>"
        f"<td><bdi>{escape(cut(row['message'] or '', 200))}</bdi></td></tr>"
        for row in told.rejects
    )
    first = len(told.rejects)
    more = f"the first {first} of " if first < told.manifest.counts["rejected"] else ""
    return (
        '<div class="wide"><table><thead><tr><th>reason</th><th class="number">rows</th>'
        f"<th>meaning</th></tr></thead><tbody>{reasons}</tbody></table></div>"
        f"<details><summary>Rejected rows ({more}{told.manifest.counts['rejected']:,})</summary>"
        '<div class="wide"><table><thead><tr><th class="number">row</th><th>id</th><th>reason</th>'
        f"<th>told</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
    )


def _texts(figures: Figures) -> str:
    n = figures.norms
    equal = n.greatest - n.least < 2e-3 * (n.greatest or 1.0)
    norms = (
        f"<p>Every vector has the length {number(round(n.median, 3))}.</p>"
        if equal
        else f'{_quantiles(n, "")}<div class="chart" id="norms"></div>'
    )
    lengths = (
        '<p class="quiet">The run does not hold the texts: its rows are images, or '
        "<code>corpus.keep</code> left the texts out.</p>"
        if figures.lengths is None
        else f'{_quantiles(figures.lengths, " characters")}<div class="chart" id="lengths"></div>'
    )
    return (
        f"<div><h3>Length of the texts</h3>{lengths}</div><div><h3>Norm of the vectors</h3>{norms}"
        "</div>"
    )


def _quantiles(bars: Bars, unit: str) -> str:
    return (
        f"<p>From {number(round(bars.least, 3))} to {number(round(bars.greatest, 3))}{unit}; "
        f"half up to {number(round(bars.median, 3))}, 95\u00a0% up to "
        f"{number(round(bars.most_of, 3))}.</p>"
    )


def _map(figures: Figures) -> str:
    plane = figures.plane
    if plane.method == "umap":
        return (
            "A map by UMAP: neighbours are kept together as far as a plane can; distances between "
            "groups, and their sizes, mean little."
        )
    shares = plane.shares or (0.0, 0.0)
    share = f"{100 * sum(shares):.0f}\u00a0%"
    return (
        "Principal components: the two directions in which the vectors differ most. They hold "
        f"{share} of the variance: rows that lie apart do differ, rows that lie together may still "
        "differ in what is not shown."
    )


def _heat(figures: Figures) -> str:
    shown, drawn = len(figures.heat.rows), len(figures.drawn)
    rows = f"{shown:,} rows" if shown == drawn else f"{shown:,} of the {drawn:,} rows drawn"
    return (
        f"The cosine of every pair of {rows}, in an order in which like stands by like (Ward's "
        f"method), cut into {counted(len(figures.clusters.names), 'cluster')}."
    )


def _scope(told: Told, figures: Figures) -> str:
    n = len(figures.drawn)
    if figures.drawn.whole:
        return f"All {counted(n, 'row')} with a vector are shown."
    return (
        f"What follows shows {n:,} of {told.manifest.counts['rows']:,} rows, drawn at random with "
        f"the seed {told.seed}: nearest rows, closest pairs and near-duplicates are among these."
    )
