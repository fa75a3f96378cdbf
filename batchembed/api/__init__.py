"""What can be asked: a first job, plan, status, verify, similarity, clusters, search, report."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchembed.api.beginning import Found, begin, look_at
    from batchembed.api.clustering import Cluster, clusters
    from batchembed.api.comparing import Hit, rethreshold, search, similarity
    from batchembed.api.glancing import Glance, glance
    from batchembed.api.looking import status
    from batchembed.api.pairing import PairOfRows, near_duplicates, pairs
    from batchembed.api.planning import plan
    from batchembed.api.reporting import Reported, report
    from batchembed.api.sheets import neighbors_table
    from batchembed.api.verifying import verify

# Where each name lives; imported when it is first used: a question needs few of the libraries.
_HOMES = {
    "Cluster": "clustering",
    "Found": "beginning",
    "Glance": "glancing",
    "Hit": "comparing",
    "PairOfRows": "pairing",
    "Reported": "reporting",
    "begin": "beginning",
    "clusters": "clustering",
    "glance": "glancing",
    "look_at": "beginning",
    "near_duplicates": "pairing",
    "neighbors_table": "sheets",
    "pairs": "pairing",
    "plan": "planning",
    "report": "reporting",
    "rethreshold": "comparing",
    "search": "comparing",
    "similarity": "comparing",
    "status": "looking",
    "verify": "verifying",
}

__all__ = [
    "Cluster",
    "Found",
    "Glance",
    "Hit",
    "PairOfRows",
    "Reported",
    "begin",
    "clusters",
    "glance",
    "look_at",
    "near_duplicates",
    "neighbors_table",
    "pairs",
    "plan",
    "report",
    "rethreshold",
    "search",
    "similarity",
    "status",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import a name where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module `batchembed.api` has no attribute `{name}`")
    return getattr(import_module(f"batchembed.api.{_HOMES[name]}"), name)
