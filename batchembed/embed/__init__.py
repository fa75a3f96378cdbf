"""The hot loop, its rules, and what answers must prove."""

from batchembed.embed.loop import Feed, Kept, Listener, Loop, Rules, disk_error, too_many_rejects

__all__ = ["Feed", "Kept", "Listener", "Loop", "Rules", "disk_error", "too_many_rejects"]
