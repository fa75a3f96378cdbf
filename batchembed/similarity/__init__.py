"""Compare the vectors of runs: every score, the nearest rows, or all pairs above a score."""

from batchembed.similarity.blocks import Grid
from batchembed.similarity.comparison import compare
from batchembed.similarity.estimating import Estimate, estimate
from batchembed.similarity.neighbors import nearest
from batchembed.similarity.settings import Compared, LeftOut, SimilaritySettings
from batchembed.similarity.stored import rethreshold
from batchembed.similarity.vectors import Vectors

__all__ = [
    "Compared",
    "Estimate",
    "Grid",
    "LeftOut",
    "SimilaritySettings",
    "Vectors",
    "compare",
    "estimate",
    "nearest",
    "rethreshold",
]
