"""Everything that a report shows, as numbers: what page and slides are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchembed.errors import UsageError
from batchembed.history import Execution
from batchembed.report.clusters import Clusters, cluster
from batchembed.report.colours import Colouring, colourings, scale
from batchembed.report.drawn import Drawn
from batchembed.report.nearness import Nearness, look
from batchembed.report.projection import Method, Plane, project

NEAR = 8
PAIRS = 20
NEAR_DUPLICATE = 0.95
HEAT_ROWS = 300
BINS = 40
SERIES_POINTS = 400


@dataclass(frozen=True, slots=True)
class Bars:
    """A histogram: `counts` (n,) between `edges` (n + 1,), with the quantiles worth a word."""

    edges: list[float]
    counts: list[int]
    least: float
    median: float
    most_of: float
    greatest: float


@dataclass(frozen=True, slots=True)
class Heat:
    """Cosines (n, n) of some rows, as they stand in the order of the clusters."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is shown of the drawn rows.

    `lengths` are of the texts, in characters. `first` is the colouring that a map begins with.
    """

    drawn: Drawn
    plane: Plane
    clusters: Clusters
    nearness: Nearness
    colourings: list[Colouring]
    heat: Heat
    lengths: Bars | None
    norms: Bars
    first: int = 0


def figures(
    drawn: Drawn, *, method: Method, seed: int, colour: str, uncoloured: Sequence[str]
) -> Figures:
    """Make all figures of the drawn rows; the columns `uncoloured` are nothing to colour by.

    Raises UsageError when there is nothing called `colour` to colour by.
    """
    clusters = cluster(drawn.unit, drawn.texts)
    lengths = None if drawn.texts is None else [len(text) for text in drawn.texts]
    norms = drawn.norms.tolist()
    found = [
        Colouring("cluster", clusters.of.astype(np.uint8), clusters.names),
        *colourings(drawn.kept, uncoloured),
        scale("length of the text", lengths) if lengths else None,
        None if _are_equal(norms) else scale("norm of the vector", norms),
    ]
    made = [one for one in found if one is not None]
    names = [one.name for one in made]
    if colour not in names:
        known = ", ".join(f"`{name}`" for name in names)
        raise UsageError(f"there is no `{colour}` to colour by", hint=f"there are: {known}")
    return Figures(
        drawn,
        project(drawn.unit, method, seed),
        clusters,
        look(drawn.unit, drawn.same, k=NEAR, pairs=PAIRS, least=NEAR_DUPLICATE),
        made,
        heat(drawn, clusters),
        bars(lengths) if lengths else None,
        bars(norms),
        names.index(colour),
    )


def heat(drawn: Drawn, clusters: Clusters, most: int = HEAT_ROWS) -> Heat:
    """Return the cosines of at most `most` rows, evenly out of the order of the clusters."""
    n = len(clusters.order)
    places = np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
    rows = clusters.order[places] if n else clusters.order
    scores = (drawn.unit[rows] @ drawn.unit[rows].T).clip(-1.0, 1.0)
    return Heat(rows, scores)


def bars(values: Sequence[float]) -> Bars:
    """Return a histogram of numbers, over their whole range."""
    if not len(values):
        return Bars([0.0, 1.0], [0], 0.0, 0.0, 0.0, 0.0)
    array = np.asarray(values, np.float64)
    low, high = float(array.min()), float(array.max())
    counts, edges = np.histogram(array, BINS, (low, high if high > low else low + 1))
    median, most_of = np.quantile(array, (0.5, 0.95))
    return Bars(edges.tolist(), counts.tolist(), low, float(median), float(most_of), high)


def _are_equal(norms: Sequence[float]) -> bool:
    """Return whether norms are equal but for rounding, float16's included."""
    return not len(norms) or max(norms) - min(norms) < 2e-3 * max(norms)


def thinned(executions: Sequence[Execution]) -> list[Execution]:
    """Return copies of the executions with few points enough for the width of a screen."""
    copies = [Execution(e.began, e.to_send, list(e.points), list(e.waits)) for e in executions]
    while sum(len(one.points) for one in copies) > SERIES_POINTS:
        longest = max(copies, key=lambda one: len(one.points))
        if len(longest.points) <= 1:
            break
        longest.thin()
    return copies
