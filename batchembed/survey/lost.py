"""Rows without a vector by name: what a person looks at first when there are too many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Protocol

import numpy as np

from batchembed.errors import CorpusError, TooManyRejectsError
from batchembed.exchange import Reject
from batchembed.survey.rows import REASONS
from batchembed.survey.survey import Read, Survey

NAMED = 3
AT_ONCE = 8192


class Rejecting(Protocol):
    """What of a ledger is looked at."""

    rejects: dict[bytes, Reject]


@contextmanager
def naming(survey: Survey, ledger: Rejecting, corpus: Read) -> Iterator[None]:
    """Let a run that ends for too many rejects name the first rows of them."""
    try:
        yield
    except TooManyRejectsError as error:
        with suppress(CorpusError, OSError):  # a corpus that is gone has no rows to name
            told = [
                f"{corpus.where(row)}: {why}"
                for row, why in islice(lost(survey, ledger.rejects), NAMED)
            ]
            if told:
                error.message += "; the first: " + "; ".join(told)
                error.args = (error.message,)
        raise


def lost(survey: Survey, rejects: Mapping[bytes, Reject]) -> Iterator[tuple[int, str]]:
    """Yield the rows that have no vector, in corpus order, each with its reason."""
    for start in range(0, survey.total, AT_ONCE):
        keys, reasons = survey.read(start, min(start + AT_ONCE, survey.total))
        if not rejects and not reasons.any():
            continue
        for at, (key, reason) in enumerate(zip(keys, reasons.astype(np.int64), strict=True)):
            if reason:
                yield start + at, REASONS[reason]
            elif (found := rejects.get(key.tobytes())) is not None:
                yield start + at, found.reason


def over_tolerance(reasons: Mapping[str, int], most: int) -> TooManyRejectsError:
    """Return how a run ends whose rows without a vector are more than the job allows."""
    told = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
    return TooManyRejectsError(
        f"`{sum(reasons.values())}` rows were rejected ({told}), "
        f"and `limits.max_rejects` allows `{most}`",
        hint="mend the texts, or allow more with --set limits.max_rejects=…",
    )
