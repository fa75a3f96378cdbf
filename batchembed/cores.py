"""How many cores this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = QUOTA) -> int:
    """Return how many cores are worth using: those allowed, and no more than a container's share.

    `quota` holds microseconds allowed and microseconds of a period, as Linux writes them
    ("max" for no limit); a share of 1.5 cores counts as 2.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    try:
        most, period = quota.read_text().split()
        share = math.ceil(int(most) / int(period))
    except (OSError, ValueError, ZeroDivisionError):  # no such limit here, or "max"
        return allowed
    return max(1, min(allowed, share))
