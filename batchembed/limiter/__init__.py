"""One limit for several runs: a small service that says whose request starts next, and when."""

from batchembed.limiter.daemon import serve
from batchembed.limiter.link import Link
from batchembed.limiter.places import Place, name_of, of_job, parse, usual
from batchembed.limiter.serving import Limiter
from batchembed.limiter.taking_part import link_to, look, taking_part

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
