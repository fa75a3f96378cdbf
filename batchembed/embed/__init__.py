"""The hot loop, its rules, and what answers must prove."""

from batchembed.embed.endings import disk_error, too_many_rejects
from batchembed.embed.loop import Loop
from batchembed.embed.parties import Feed, Kept, Listener, Rules

__all__ = ["Feed", "Kept", "Listener", "Loop", "Rules", "disk_error", "too_many_rejects"]
