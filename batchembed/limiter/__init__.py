"""One limit for several runs: a small service that says whose request starts next, and when."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from batchembed.limiter.places import Place, name_of, of_job, parse, usual

if TYPE_CHECKING:
    from batchembed.limiter.daemon import serve
    from batchembed.limiter.joining import link_to, look, taking_part
    from batchembed.limiter.link import Link
    from batchembed.limiter.serving import Limiter

# Imported when first used: most runs share no limit, and the messages take 20 ms to prepare.
_HOMES = {
    "Limiter": "serving",
    "Link": "link",
    "link_to": "joining",
    "look": "joining",
    "serve": "daemon",
    "taking_part": "joining",
}

__all__ = [
    "Limiter",
    "Link",
    "Place",
    "link_to",
    "look",
    "name_of",
    "of_job",
    "parse",
    "serve",
    "taking_part",
    "usual",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
