"""What a run would send and what that would take: counted, estimated, calibrated, never guessed."""

from batchembed.plan.languages import Languages
from batchembed.plan.oddities import Odd, Oddities
from batchembed.plan.plan import Plan, Probe, Requests, Tally, calibrate, count, space, time_under
from batchembed.plan.similarity import Comparison, comparison

__all__ = [
    "Comparison",
    "Languages",
    "Odd",
    "Oddities",
    "Plan",
    "Probe",
    "Requests",
    "Tally",
    "calibrate",
    "comparison",
    "count",
    "space",
    "time_under",
]
