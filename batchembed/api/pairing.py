"""Pairs of a run's rows to look at, and its near duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchembed.api.glancing import label
from batchembed.errors import UsageError
from batchembed.parts import RunVectors
from batchembed.similarity import Group, closest, duplicates, nearest_to


@dataclass(frozen=True, slots=True)
class PairOfRows:
    """Two rows, the earlier one left: their numbers, ids, a few words of each, their cosine."""

    left_row: int
    right_row: int
    left_id: Any
    right_id: Any
    left: str
    right: str
    score: float


def pairs(
    path: Path | str,
    count: int = 10,
    *,
    least: bool = False,
    near: float | None = None,
    column: str | None = None,
) -> list[PairOfRows]:
    """Return `count` pairs of a run: the most similar, the `least`, or those `near` a score."""
    if least and near is not None:
        raise UsageError(
            f"the least similar pairs are not those near `{near}`", hint="ask for one of the two"
        )
    run = RunVectors(Path(path), column=column)
    found = closest(run, count, least=least) if near is None else nearest_to(run, near, count)
    ids = run.ids
    return [
        PairOfRows(
            left_row=left,
            right_row=right,
            left_id=ids[left].as_py(),
            right_id=ids[right].as_py(),
            left=label(run, left),
            right=label(run, right),
            score=score,
        )
        for left, right, score in found
    ]


def near_duplicates(
    path: Path | str, min_score: float = 0.95, *, column: str | None = None
) -> list[Group]:
    """Return the groups of a run's rows that are near duplicates, by the first row of each.

    Rows are joined by cosines of at least `min_score`, and with all that those are joined with.
    """
    return duplicates(RunVectors(Path(path), column=column), min_score)
