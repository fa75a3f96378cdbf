"""What one request may hold, as the server taught it: it holds for the rest of the run."""

from __future__ import annotations

from typing import Protocol

from batchembed.embed.verdicts import Cut, size_of
from batchembed.exchange import Request

HALVES = 2


class Tightened(Protocol):
    """What makes further requests."""

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Make them hold no more texts, and no more bytes, than this."""


class Caps:
    """The most texts, and the most bytes, that one request may hold; None: not known."""

    def __init__(self) -> None:
        self.texts: int | None = None
        self.bytes: int | None = None

    def passed(self, cut: Cut, feed: Tightened) -> None:
        """Note that a half of what was too large has passed; with both, its size is the limit."""
        cut.passed += 1
        if cut.passed == HALVES:
            texts = None if cut.by == "size" else cut.texts
            self.tighten(feed, texts=texts, size=None if cut.by == "texts" else cut.bytes)

    def tighten(
        self, feed: Tightened, *, texts: int | None = None, size: int | None = None
    ) -> None:
        """Let no further request hold more."""
        if texts is not None:
            self.texts = min(texts, self.texts or texts)
        if size is not None:
            self.bytes = min(size, self.bytes or size)
        feed.tighten(texts, size)

    def told(self) -> dict[str, int]:
        """Return what is known, by the names that limits have elsewhere."""
        both = {"texts_per_request": self.texts, "bytes_per_request": self.bytes}
        return {name: most for name, most in both.items() if most is not None}

    def pieces(self, request: Request) -> list[Request]:
        """Return a request that was packed before a limit was learnt as smaller ones."""
        size = self.texts or len(request)
        if self.bytes is not None and (whole := size_of(request)) > self.bytes:
            size = min(size, max(1, len(request) * self.bytes // whole))
        if size >= len(request):
            return [request]
        return [request.part(at, at + size) for at in range(0, len(request), size)]
