"""Whom the hot loop works with: what keeps, what listens, what feeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from batchembed.exchange import Keys, Limits, Reject, Request, Vectors


class Kept(Protocol):
    """What the hot loop needs of the ledger."""

    def append(self, keys: Keys, vectors: Vectors, *, tokens: int, model_version: str) -> None:
        """Keep vectors."""

    def reject(self, rejects: list[Reject]) -> None:
        """Keep rejects."""


class Listener(Protocol):
    """What the hot loop tells of itself."""

    def answered(self, texts: int, tokens: int) -> None:
        """Vectors were kept."""

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
