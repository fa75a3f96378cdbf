"""What a comparison will take, known before its start."""

from __future__ import annotations

from dataclasses import dataclass

from batchembed.cores import cores
from batchembed.similarity.choosing import alone, fastest, probe
from batchembed.similarity.products import Float32
from batchembed.similarity.settings import DTYPES, SimilaritySettings

# Measured: what finding, scoring and writing add to the products, as a part of them.
_BESIDES = 1.4
_DISK = 1e9
_ENTRY = 20


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds, bytes that will be written (None: as many as there are pairs), scores in all."""

    seconds: float
    bytes: int | None
    scores: int


def estimate(
    left: int, right: int | None, dimensions: int, settings: SimilaritySettings
) -> Estimate:
    """Return what comparing so many rows takes here, from a trial of some milliseconds.

    `right` None means the left with itself. Within a third of what it then takes, on a machine
    that is not busy; rows that are copies of others take less.
    """
    columns = left if right is None else right
    scores = left * columns
    product = Float32() if settings.dense else fastest(dimensions, scores)
    with alone(product):
        each = probe(product, max(1, dimensions))
    once = scores / 2 if right is None and not settings.dense else scores
    seconds = once * each / cores() * _BESIDES
    size: int | None = None
    if settings.dense:
        size = scores * DTYPES[settings.dtype]
        seconds = max(seconds, size / _DISK)
    elif settings.top_k is not None:
        size = left * min(settings.top_k, columns) * _ENTRY
    return Estimate(seconds, size, scores)
