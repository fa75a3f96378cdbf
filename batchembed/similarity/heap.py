"""Memory that is free, and that the process still holds."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def give_back(library: Callable[[None], object] = ctypes.CDLL) -> None:
    """Give free memory back to the system, where the C library knows how to: glibc's does.

    Tiles come and go in several threads, in sizes that leave gaps between them. Over hours these
    gaps came to more than the tiles themselves; giving them back takes some 20 ms.
    """
    trim = getattr(library(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
