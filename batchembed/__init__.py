"""Embed large corpora: paced, checkpointed, resumable; the same table back, with vectors."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from batchembed.version import VERSION

if TYPE_CHECKING:
    from batchembed.api import plan, report, search, similarity, status, verify
    from batchembed.errors import BatchembedError
    from batchembed.job import Job, from_dict, load
    from batchembed.monitor import Monitor, Summary
    from batchembed.run import merge, run, run_async

__version__ = VERSION

# Where each public name lives; imported when it is first used, so that `--help` stays quick.
_HOMES = {
    "BatchembedError": "errors",
    "Job": "job",
    "Monitor": "monitor",
    "Summary": "monitor",
    "from_dict": "job",
    "load": "job",
    "merge": "run",
    "plan": "api",
    "report": "api",
    "run": "run",
    "run_async": "run",
    "search": "api",
    "similarity": "api",
    "status": "api",
    "verify": "api",
}

__all__ = [
    "BatchembedError",
    "Job",
    "Monitor",
    "Summary",
    "__version__",
    "from_dict",
    "load",
    "merge",
    "plan",
    "report",
    "run",
    "run_async",
    "search",
    "similarity",
    "status",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import a public name where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module `batchembed` has no attribute `{name}`")
    return getattr(import_module(f"batchembed.{_HOMES[name]}"), name)


class _Package(ModuleType):
    """A package whose public functions may have the names of the modules they live in.

    Importing `batchembed.run` would otherwise put that module in place of the function.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
