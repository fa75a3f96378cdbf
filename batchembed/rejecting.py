"""What a run leaves to look at that ends for too many rejects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from batchembed import publish
from batchembed.corpus import Corpus
from batchembed.errors import BatchembedError, TooManyRejectsError
from batchembed.ledger import Ledger
from batchembed.parts import REJECTS, Manifest
from batchembed.preparing import Run
from batchembed.store import NEXT
from batchembed.survey import REASONS, Survey


@contextmanager
def leaving_rejects(
    run: Run, rows: Corpus, survey: Survey, ledger: Ledger, *, before: Manifest | None
) -> Iterator[None]:
    """Leave rejects.arrow to look at where a run ends for too many, unless one is published."""
    try:
        yield
    except TooManyRejectsError as error:
        if before is None and run.shard is None and run.trial is None:
            with suppress(BatchembedError, OSError):  # of a corpus that is gone, say
                _leave_rejects(run, rows, survey, ledger)
                looked = f"look at `{run.store.root}/{REJECTS}`, which has all of them by now"
                error.hint = f"{looked}; {error.hint}"
        raise


def _leave_rejects(run: Run, rows: Corpus, survey: Survey, ledger: Ledger) -> None:
    assert ledger.places is not None, "known since the ledger was asked what is missing"
    sides = publish.Sides(rows, survey, ledger.places, ledger, run.still_ours)
    publish.stage_rejects(sides, run.store, REASONS)
    run.still_ours()
    run.store.rename(f"{NEXT}/{REJECTS}", REJECTS)
    run.store.delete(NEXT)
