"""What can end a run, and the exit code that each way of ending has.

::

    BatchembedError          1  unexpected: please report
    ├── UsageError           2  the command, job file or corpus is wrong; nothing was sent
    │   ├── JobError            a setting is unknown, missing or impossible
    │   ├── CorpusError         a file cannot be read as it was said to be
    │   ├── SpecChangedError    this run directory holds vectors of another spec
    │   └── MissingExtraError   an optional library is not installed
    ├── DamagedError         1  what is on disk is not what was written there
    ├── ActionNeededError    4  a person must act: key, quota, budget, model, rejects
    │   └── TooManyRejectsError more rows have no vector than the job allows
    ├── NotFinishedError    75  nothing is lost: run the same command again
    │   └── RunHeldError        another run holds the directory
    └── InterruptedRunError     Ctrl-C (130) or SIGTERM (143); drained and committed

Failures that a run must survive are values, not exceptions: see `exchange.Outcome`.
"""

from __future__ import annotations

import signal


class BatchembedError(Exception):
    """The root: a message, an optional hint on how to mend it, and an exit code."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class UsageError(BatchembedError):
    """The command, the job file or the corpus is wrong; nothing was sent."""

    exit_code = 2


class JobError(UsageError):
    """A setting is unknown, missing or impossible."""


class CorpusError(UsageError):
    """A corpus file cannot be read as the job says."""


class SpecChangedError(UsageError):
    """The run directory holds vectors of another spec."""


class MissingExtraError(UsageError):
    """An optional library is not installed; the hint is the install line."""


class DamagedError(BatchembedError):
    """What is on disk is not what was written there."""


class ActionNeededError(BatchembedError):
    """Only a person can mend this: key, quota, budget, model gone, too many rejects."""

    exit_code = 4


class TooManyRejectsError(ActionNeededError):
    """More rows have no vector than `limits.max_rejects` allows."""


class NotFinishedError(BatchembedError):
    """The run is not finished and nothing is lost: run the same command again."""

    exit_code = 75


class RunHeldError(NotFinishedError):
    """Another run holds the directory."""


class InterruptedRunError(BatchembedError):
    """A signal ended the run after it drained and committed."""

    def __init__(self, signum: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(signum).name}; what was paid for is kept",
            hint="run the same command again to continue",
        )
        self.exit_code = 128 + signum
