"""The hot loop, its rules, and what answers must prove."""

from batchembed.embed.loop import Feed, Listener, Loop, Rules, disk_error, too_many_rejects

__all__ = ["Feed", "Listener", "Loop", "Rules", "disk_error", "too_many_rejects"]
