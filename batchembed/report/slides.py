"""Map and heat map as PNG files for slides, through matplotlib where that is installed."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from batchembed.errors import UsageError
from batchembed.report.figures import Figures
from batchembed.report.words import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#7a5c3e")
REST = "#a8a8a8"
INCHES = (12.8, 7.2)
DPI = 150
LETTERS = 14


def slides(figures: Figures) -> dict[str, bytes]:
    """Return PNG files by name, 1920 x 1080; raises UsageError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError(
            "PNG files need the package matplotlib, which is not installed",
            hint="pip install 'batchembed[png]'",
        ) from error
    from matplotlib import rc_context

    made = {"map.png": Figure(INCHES, DPI), "heatmap.png": Figure(INCHES, DPI)}
    with rc_context({"font.size": LETTERS}):
        _map(made["map.png"], figures)
        _heat(made["heatmap.png"], figures)
        return {name: _png(figure) for name, figure in made.items()}


def _png(figure: Figure) -> bytes:
    raw = io.BytesIO()
    figure.savefig(raw, format="png", metadata={"Software": None})
    return raw.getvalue()


def _map(figure: Figure, figures: Figures) -> None:
    by = figures.colourings[figures.first]
    axes = _bare(figure)
    x, y = figures.plane.places.T
    n = len(x)
    look: dict[str, Any] = {"s": 60 if n < 500 else 24 if n < 2000 else 10, "linewidths": 0}  # noqa: PLR2004
    if by.values is None:
        there = by.codes <= 253  # noqa: PLR2004 - SCALE
        points = axes.scatter(x[there], y[there], c=by.codes[there], cmap="viridis", **look)
        bar = figure.colorbar(points, ax=axes, ticks=[0, 253], shrink=0.6)
        bar.ax.set_yticklabels([by.low, by.high])
        bar.set_label(_plain(by.name))
    else:
        for code, value in enumerate(by.values[: len(COLOURS)]):
            mine = by.codes == code
            axes.scatter(x[mine], y[mine], color=COLOURS[code], label=_plain(value), **look)
        rest = by.codes >= min(len(COLOURS), len(by.values))
        if rest.any():
            axes.scatter(x[rest], y[rest], color=REST, label="others", zorder=0, **look)
        axes.legend(
            title=_plain(by.name), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False
        )
    axes.set_aspect("equal", adjustable="datalim")
    if figures.plane.shares is not None:
        first, second = (f"{100 * share:.1f} % of the variance" for share in figures.plane.shares)
        axes.set_xlabel(f"first principal component, {first}")
        axes.set_ylabel(f"second, {second}")
    else:
        axes.set_xlabel("UMAP")


def _heat(figure: Figure, figures: Figures) -> None:
    axes = _bare(figure)
    scores = figures.heat.scores.copy()
    shown = axes.imshow(scores, cmap="magma", interpolation="nearest", vmax=_high(scores))
    bar = figure.colorbar(shown, ax=axes, shrink=0.8)
    bar.set_label("cosine")
    of = figures.clusters.of[figures.heat.rows]
    starts = [row for row in range(len(of)) if row == 0 or of[row] != of[row - 1]]
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="white", linewidth=0.6)
        axes.axvline(start - 0.5, color="white", linewidth=0.6)
    ends = [*starts[1:], len(of)]
    axes.set_yticks([(a + b - 1) / 2 for a, b in zip(starts, ends, strict=True)])
    axes.set_yticklabels([_plain(figures.clusters.names[of[start]]) for start in starts])


def _high(scores: Any) -> float | None:
    """Return the greatest score off the diagonal, so that each row with itself drowns no other."""
    n = len(scores)
    return float(scores[~_diagonal(n)].max()) if n > 1 else None


def _diagonal(n: int) -> Any:
    import numpy as np

    return np.eye(n, dtype=bool)


def _bare(figure: Figure) -> Any:
    axes = figure.subplots()
    figure.set_layout_engine("constrained")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _plain(text: str) -> str:
    """Return text in which matplotlib sees no formula."""
    return cut(text, 40).replace("$", r"\$")
