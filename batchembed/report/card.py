"""CARD.md: one page on where the vectors of a run come from."""

from __future__ import annotations

from batchembed.parts import Manifest
from batchembed.report.sections import MEANINGS, paid
from batchembed.report.told import Told
from batchembed.report.words import clean


def card(told: Told) -> bytes:
    """Return the card of a run: the same bytes for the same manifest."""
    m = told.manifest
    rows = m.counts["rows"]
    lines = [
        f"# Vectors of {_plain(told.name)}",
        "",
        (
            f"{rows:,} rows, {rows - m.counts['rejected']:,} of them with a vector of "
            f"{m.dimensions:,} dimensions ({m.dtype}), made by batchembed "
            f"{m.batchembed} and complete since {m.finished}."
        ),
        "",
        *_table("Where they come from", _model(m)),
        *_table("What they were made of", _corpus(m)),
        *_table("What was paid", _bill(m)),
        *_rejects(m),
        *_files(m),
        "## How to read them",
        "",
        "```python",
        "import polars as pl",
        "",
        'table = pl.scan_ipc("embeddings/*.arrow")  # corpus order; rejects have no vector',
        "```",
        "",
        "Vectors are comparable only with vectors of the same spec fingerprint. "
        + _roles(str(m.identity["role"])),
        "",
    ]
    return "\n".join(lines).encode()


def _model(m: Manifest) -> list[tuple[str, str]]:
    spec = m.identity["spec"]
    told = [
        ("provider", spec["provider"]),
        ("model", spec["name"]),
        ("model version answered", ", ".join(v for v in m.model_versions if v) or "not told"),
        ("representation", m.identity["role"]),
        ("spec fingerprint", m.identity["fingerprint"]),
    ]
    known = {"provider", "name"}
    told += [(f"spec: {name}", str(value)) for name, value in spec.items() if name not in known]
    controls = m.identity["controls"]
    told += [
        (f"attention control {n}", f"{c['match'] or c['regex']} times {c['factor']:g}")
        for n, c in enumerate(controls, 1)
    ]
    return told


def _corpus(m: Manifest) -> list[tuple[str, str]]:
    return [
        ("rows", f"{m.counts['rows']:,}"),
        ("different texts", f"{m.counts['distinct']:,}"),
        ("id column", m.corpus["id"] or "none: the row number"),
        ("corpus fingerprint", m.corpus["fingerprint"]),
    ]


def _bill(m: Manifest) -> list[tuple[str, str]]:
    return [
        ("requests", f"{m.bill['requests']:,}"),
        ("tokens", f"{m.bill['tokens']:,}"),
        ("cost", paid(m)),
    ]


def _rejects(m: Manifest) -> list[str]:
    if not m.reasons:
        return []
    told = [
        (reason, f"{count:,} {MEANINGS.get(reason, '')}") for reason, count in m.reasons.items()
    ]
    return _table("Rows without a vector", sorted(told))


def _files(m: Manifest) -> list[str]:
    files = [*m.parts, *([m.rejects] if m.rejects else []), *m.similarity]
    rows = [
        f"| `{file.name}` | {file.rows:,} | {file.bytes:,} | `{file.sha256}` |" for file in files
    ]
    return ["## Files", "", "| file | rows | bytes | SHA-256 |", "|---|---|---|---|", *rows, ""]


def _table(title: str, facts: list[tuple[str, str]]) -> list[str]:
    rows = [f"| {_plain(name)} | {_code(value)} |" for name, value in facts]
    return [f"## {title}", "", "| | |", "|---|---|", *rows, ""]


def _roles(role: str) -> str:
    if role == "symmetric":
        return "They are symmetric: any two of them may be compared."
    if role in ("query", "document"):
        other = "document" if role == "query" else "query"
        return f"They are of the role {role}: compare them with vectors of the role {other}."
    return "Their roles differ by row: compare queries with documents."


def _plain(text: str) -> str:
    """Return text that no Markdown reader takes for more than text, on one line."""
    told = " ".join(clean(text).split())
    return "".join(f"\\{mark}" if mark in "\\`*_[]<>|#!" else mark for mark in told)


def _code(value: str) -> str:
    """Return a value as code, which holds no markup; a cell cannot hold `|`."""
    told = " ".join(clean(value).split()).replace("`", "'").replace("|", "/")
    return f"`{told}`" if told else ""
