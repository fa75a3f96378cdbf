"""The hot loop, its rules, what answers must prove, and the bound on what it may cost."""

from batchembed.embed.batch import BatchLane
from batchembed.embed.canaries import Baseline, Watch, Watching
from batchembed.embed.endings import disk_error, too_many_rejects
from batchembed.embed.loop import Loop
from batchembed.embed.parties import Feed, Kept, Listener, Rules
from batchembed.embed.purse import Budget, Purse, bound_of
from batchembed.embed.submissions import Desk
from batchembed.embed.verdicts import Facts
from batchembed.embed.versions import Versions

__all__ = [
    "Baseline",
    "BatchLane",
    "Budget",
    "Desk",
    "Facts",
    "Feed",
    "Kept",
    "Listener",
    "Loop",
    "Purse",
    "Rules",
    "Versions",
    "Watch",
    "Watching",
    "bound_of",
    "disk_error",
    "too_many_rejects",
]
