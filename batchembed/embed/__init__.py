"""The hot loop, its rules, what answers must prove, and the bound on what it may cost."""

from batchembed.embed.canaries import Baseline, Watch, Watching
from batchembed.embed.endings import disk_error, too_many_rejects
from batchembed.embed.loop import Loop
from batchembed.embed.parties import Feed, Kept, Listener, Rules
from batchembed.embed.purse import Budget, Purse
from batchembed.embed.versions import Versions

__all__ = [
    "Baseline",
    "Budget",
    "Feed",
    "Kept",
    "Listener",
    "Loop",
    "Purse",
    "Rules",
    "Versions",
    "Watch",
    "Watching",
    "disk_error",
    "too_many_rejects",
]
