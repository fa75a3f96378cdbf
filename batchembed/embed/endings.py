"""How a run ends before its time, by reasons that the hot loop meets."""

from __future__ import annotations

from collections.abc import Sequence

from batchembed.errors import ActionNeededError, NotFinishedError, TooManyRejectsError
from batchembed.exchange import Malformed, Refused, Reject, TooLarge


def nothing_passes(outcome: Refused | Malformed | TooLarge) -> ActionNeededError:
    """Return how a run ends when even a harmless text is not taken."""
    if isinstance(outcome, Malformed):
        told = f"no answer of the provider proves itself: {outcome.reason}"
    else:
        told = f"the provider refuses every request: {outcome.reason}"
    return ActionNeededError(
        told, hint="check [model] in the job file; a plain sentence was not taken either"
    )


def disk_error(error: OSError) -> NotFinishedError:
    """Return how a run ends when the disk does not take what was paid for."""
    return NotFinishedError(
        f"the run directory cannot be written: {error.strerror or error}",
        hint="make room or mend the disk, then run the same command again",
    )


def out_of_patience(failing: float, asked: float, reason: str) -> NotFinishedError:
    """Return how a run ends when nothing comes for longer than the job waits; in seconds.

    `failing`: nothing was answered for so long; `asked`: nothing may be sent for so long, or 0.
    """
    told = f"nothing was answered for `{failing:.0f}` s"
    if asked:
        told = f"nothing may be sent for another `{asked:.0f}` s"
    hint = "what was paid for is kept; run the same command again later"
    return NotFinishedError(f"{told}: {reason}", hint=hint)


def other_model(known: Sequence[str], version: str) -> ActionNeededError:
    """Return how a run ends when another version of the model answers."""
    return ActionNeededError(
        f"the server answers with the model `{version}` now, and did with `{', '.join(known)}`",
        hint="embed into a new directory; or go on, with vectors of both, by "
        "--set limits.on_model_change=go_on",
    )


def too_many_rejects(rejects: int, most: int, last: Reject) -> TooManyRejectsError:
    """Return how a run ends when more texts were rejected than the job allows."""
    return TooManyRejectsError(
        f"`{rejects}` texts were rejected, and `limits.max_rejects` allows `{most}`; "
        f"the last one: {last.reason} {last.message}".rstrip(),
        hint="mend the texts, or allow more with --set limits.max_rejects=…",
    )
