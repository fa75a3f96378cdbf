"""Compare the vectors of runs: every score, the nearest rows, or all pairs above a score."""

from batchembed.similarity.blocks import Grid
from batchembed.similarity.closest import closest, duplicates, nearest_to
from batchembed.similarity.clustering import Clustered, clustered, write_clusters
from batchembed.similarity.comparison import compare, unless_damaged
from batchembed.similarity.estimating import Estimate, estimate
from batchembed.similarity.groups import Group
from batchembed.similarity.neighbors import nearest
from batchembed.similarity.settings import Compared, LeftOut, SimilaritySettings
from batchembed.similarity.stored import rethreshold, stored_neighbors
from batchembed.similarity.vectors import Vectors

__all__ = [
    "Clustered",
    "Compared",
    "Estimate",
    "Grid",
    "Group",
    "LeftOut",
    "SimilaritySettings",
    "Vectors",
    "closest",
    "clustered",
    "compare",
    "duplicates",
    "estimate",
    "nearest",
    "nearest_to",
    "rethreshold",
    "stored_neighbors",
    "unless_damaged",
    "write_clusters",
]
