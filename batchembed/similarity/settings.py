"""What a comparison is asked for, what it refuses, and what it tells afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batchembed.errors import JobError
from batchembed.similarity.vectors import Vectors
from batchembed.version import VERSION

Progress = Callable[[int, int], None]

METADATA_KEY = b"batchembed"
DENSE_BYTES = 10_000_000_000
METRICS = ("cosine", "dot")
DEVICES = ("cpu", "cuda")
DTYPES = {"float32": 4, "float16": 2}


@dataclass(frozen=True, slots=True)
class SimilaritySettings:
    """What `[similarity]` of the job file or the options say: exactly one of the first three.

    `dtype` is that of dense scores. `groups` asks for groups of near duplicates in place of
    pairs. `device` is where products are made. `force` allows to compare queries with queries,
    and dense files of more than 10 GB.
    """

    top_k: int | None = None
    min_score: float | None = None
    dense: bool = False
    metric: str = "cosine"
    dtype: str = "float32"
    force: bool = False
    groups: bool = False
    device: str = "cpu"

    @property
    def kind(self) -> str:
        """Return the form of the output: `top_k`, `min_score`, `groups` or `dense`."""
        if self.groups:
            return "groups"
        return "dense" if self.dense else "top_k" if self.top_k is not None else "min_score"

    def check(self) -> None:
        """Raise JobError at the first setting that is missing or impossible."""
        if (self.top_k is not None) + (self.min_score is not None) + bool(self.dense) != 1:
            raise JobError(
                "exactly one form of scores is needed: the nearest of each row (--top-k, `top_k`), "
                "pairs over a score (--min-score, `min_score`), or every score (--dense, `dense`)",
                hint="such as --top-k 10",
            )
        if self.metric not in METRICS:
            raise JobError(f"the metric `{self.metric}` is unknown", hint="use cosine or dot")
        if self.dtype not in DTYPES:
            raise JobError(f"the dtype `{self.dtype}` is unknown", hint="use float32 or float16")
        if self.dtype != "float32" and not self.dense:
            raise JobError(
                f"the dtype `{self.dtype}` is for dense scores only",
                hint="leave dtype out: top_k and min_score write float32",
            )
        if self.device not in DEVICES:
            raise JobError(f"the device `{self.device}` is unknown", hint="use cpu or cuda")
        if self.dense and self.device != "cpu":
            raise JobError(
                f"dense scores are not made on `{self.device}`: writing them takes the time",
                hint="leave device out",
            )
        if self.groups and self.min_score is None:
            raise JobError(
                "groups of near duplicates need a score", hint="give min_score too, such as 0.95"
            )
        self._check_bounds()

    def _check_bounds(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise JobError(f"top_k = `{self.top_k}` is not at least 1", hint="ask for 1 or more")
        score = self.min_score
        if score is None:
            return
        if not abs(score) < float("inf"):
            raise JobError(f"min_score = `{score}` is not a finite number", hint="such as 0.8")
        if self.metric == "cosine" and not -1 <= score <= 1:
            raise JobError(
                f"min_score = `{score}` is no cosine", hint="cosines lie between -1 and 1"
            )


@dataclass(frozen=True, slots=True)
class LeftOut:
    """How many rows of one side have no scores: null vectors (rejects) and zero vectors."""

    null: int = 0
    zero: int = 0


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison did: rows of both sides, scores written, rows left out, seconds.

    For a run with itself `right_rows` and `right_left_out` are those of the left.
    """

    kind: str
    left_rows: int
    right_rows: int
    scores: int
    left_out: LeftOut
    right_left_out: LeftOut
    seconds: float


def check_sides(left: Vectors, right: Vectors | None, settings: SimilaritySettings) -> None:
    """Raise JobError when these two sides must not be compared so."""
    other = left if right is None else right
    if settings.groups and right is not None:
        raise JobError(
            f"groups are made within one run, not of `{left.name}` and `{other.name}`",
            hint="leave the second run out",
        )
    if left.dimensions != other.dimensions:
        raise JobError(
            f"`{left.name}` has {left.dimensions} dimensions, "
            f"`{other.name}` has {other.dimensions}",
            hint="compare runs of one spec",
        )
    if left.role == other.role == "query" and not settings.force:
        raise JobError(
            f"`{left.name}` and `{other.name}` are both vectors of queries: a query's vector is "
            "made to lie near its documents, how near two queries lie means little",
            hint="compare queries with documents, embed with representation = symmetric, or force",
        )
    size = left.rows * other.rows * DTYPES[settings.dtype]
    if settings.dense and size > DENSE_BYTES and not settings.force:
        raise JobError(
            f"dense scores of {left.rows:,} x {other.rows:,} rows take {size / 1e9:,.0f} GB",
            hint="use top_k or min_score, or force",
        )


def described(left: Vectors, right: Vectors | None, settings: SimilaritySettings) -> dict[str, Any]:
    """Return what the output's metadata says about what was asked for and of whom."""
    told: dict[str, Any] = {
        "kind": settings.kind,
        "metric": settings.metric,
        "symmetric": right is None,
        "left": left.name,
        "right": left.name if right is None else right.name,
    }
    if settings.top_k is not None:
        told["top_k"] = settings.top_k
    if settings.min_score is not None:
        told["min_score"] = settings.min_score
    return told | {"batchembed": VERSION}


class Meter:
    """Adds up how many scores were compared and tells it, with how many there are in all."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.done, self.total = 0, total
        self._progress = progress
        self._lock = threading.Lock()

    def add(self, scores: int) -> None:
        """Count `scores` more; from whatever thread, one at a time."""
        with self._lock:
            self.done += scores
            if self._progress is not None:
                self._progress(self.done, self.total)
