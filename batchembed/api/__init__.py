"""What can be asked: a first job, plan, status, verify, similarity, search, report."""

from batchembed.api.beginning import Found, begin, look_at
from batchembed.api.comparing import Glance, Hit, glance, rethreshold, search, similarity
from batchembed.api.looking import status
from batchembed.api.pairing import PairOfRows, near_duplicates, pairs
from batchembed.api.planning import plan
from batchembed.api.reporting import Reported, report
from batchembed.api.sheets import neighbors_table
from batchembed.api.verifying import verify

__all__ = [
    "Found",
    "Glance",
    "Hit",
    "PairOfRows",
    "Reported",
    "begin",
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
