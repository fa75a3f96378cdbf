"""What a run says while it runs and when it has ended: a bar, lines, JSON, progress, a summary."""

from batchembed.monitor.bar import Bar
from batchembed.monitor.monitor import PROGRESS_SECONDS, Listener, Monitor, let_go
from batchembed.monitor.progress import Progress, Standing
from batchembed.monitor.summary import Summary
from batchembed.monitor.voice import LINE_SECONDS, Mode

__all__ = [
    "LINE_SECONDS",
    "PROGRESS_SECONDS",
    "Bar",
    "Listener",
    "Mode",
    "Monitor",
    "Progress",
    "Standing",
    "Summary",
    "let_go",
]
