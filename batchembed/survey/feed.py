"""The second pass: requests of the rows that a ledger misses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from batchembed.corpus import Corpus, Rows
from batchembed.exchange import Limits, Request
from batchembed.ledger import Missing
from batchembed.packing import Batch, Packer
from batchembed.prompts import words
from batchembed.survey.rows import Reading
from batchembed.survey.survey import Survey


class CorpusFeed:
    """The second pass: requests of the rows that a ledger misses, in corpus order."""

    def __init__(
        self, corpus: Corpus, survey: Survey, missing: Missing, reading: Reading, packer: Packer
    ) -> None:
        self._corpus = corpus
        self._survey = survey
        self._missing = missing
        self._reading = reading
        self._packer = packer

    def upcoming(self) -> Iterator[list[Request]]:
        """Yield a list of requests for every batch of the corpus, empty where nothing is missed.

        Whoever iterates can so stop after any batch, also where millions of rows are paid for.
        """
        for rows in self._survey.rows(self._corpus):
            stop = rows.first + len(rows.texts)
            wanted = np.flatnonzero(self._missing.mask(rows.first, stop))
            yield list(self._packer.add(self._batch(rows, wanted))) if len(wanted) else []
        yield list(self._packer.flush())

    def fit(self, limits: Limits) -> None:
        """Make requests within `limits`; before any is made."""
        self._packer.limits = limits

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Make further requests hold no more texts, and no more bytes, than this."""
        self._packer.tighten(texts, size)

    def _batch(self, rows: Rows, wanted: NDArray[np.int64]) -> Batch:
        sent = self._reading.sent(rows)
        keys, controls = self._survey.again(rows, self._reading, sent), sent.controls
        whole = len(wanted) == len(rows.texts)
        positions = range(len(rows.texts)) if whole else wanted.tolist()
        texts = [rows.texts[at] for at in positions]
        prompts = None
        if sent.prompts is not None:
            prompts = [p for p in map(sent.prompts.__getitem__, positions) if isinstance(p, tuple)]
            texts = [words(prompt) for prompt in prompts]
        return Batch(
            keys=keys if whole else keys[wanted],
            rows=rows.first + wanted,
            texts=[text for text in texts if text is not None],
            roles=self._reading.role
            if rows.roles is None
            else [rows.roles[at] for at in positions],
            controls=None if controls is None else [controls[at] for at in positions],
            prompts=prompts,
        )
