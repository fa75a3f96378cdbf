"""Whom the hot loop works with, and by which rules: what keeps, what listens, what feeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from batchembed.exchange import Keys, Limits, Reject, Request, RowNumbers, Vectors
from batchembed.extent import Extent, Piece


class Sections(Protocol):
    """What is kept of texts that are too long and have no vector yet."""

    def get(self, of: bytes, key: bytes) -> tuple[Vectors, int] | None:
        """Return the vector, (1, d), and the tokens of a section of the text `of`, if kept."""

    def room(self, of: bytes) -> int | None:
        """Return how many characters at once were first tried of that text, if known."""


class Kept(Protocol):
    """What the hot loop needs of the ledger."""

    @property
    def sections(self) -> Sections:
        """Return what is kept of texts that are too long."""

    def append(
        self,
        keys: Keys,
        vectors: Vectors,
        *,
        tokens: int,
        model_version: str,
        outputs: tuple[str, ...],
        rows: RowNumbers | None = None,
        section_of: Piece | None = None,
        extent: Extent | None = None,
    ) -> None:
        """Keep vectors of `rows`; `outputs` names those that each is joined of, if of several.

        `section_of` says of which text's section a vector is; `extent` what of a
        text that is too long its vector is of.
        """

    def reject(self, rejects: list[Reject]) -> None:
        """Keep rejects."""

    def charge(self, tokens: int, unsure: int = 0) -> None:
        """Keep what was billed for nothing, and what may have been billed."""

    def risk(self, tokens: int) -> None:
        """Note how many tokens may be in flight at once, before they are."""


class Listener(Protocol):
    """What the hot loop tells of itself."""

    def answered(self, texts: int, tokens: int, mended: int = 0) -> None:
        """Vectors were kept; `mended` of them came with another length than 1."""

    def rejected(self, rejects: list[Reject]) -> None:
        """Texts were rejected."""

    def failed(self, kind: str, reason: str, wait: float) -> None:
        """An attempt brought no vectors; nothing starts for `wait` seconds."""


class Feed(Protocol):
    """Requests in corpus order, some at a time."""

    def upcoming(self) -> Iterator[list[Request]]:
        """Yield lists, also empty; iterated in a thread. A run's end waits while one is made."""

    def fit(self, limits: Limits) -> None:
        """Make requests within `limits`; before any is made."""

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Make further requests hold no more texts, and no more bytes, than this."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the job says about the hot loop, and the provider. Seconds; None: no bound.

    `concurrency`: how many work at first; where the pacer lets more requests be open, up to
    `most_open` do (None: no more). `joined`: of how many vectors each row is joined; `outputs` are
    their names, once known.
    """

    concurrency: int
    normalize: bool
    dimensions: int | None = None
    joined: int = 1
    outputs: tuple[str, ...] = ()
    patience: float | None = None
    most_rejects: int | None = None
    most_open: int | None = None
    on_long_text: str = "reject"
    tokens_per_text: int | None = None
