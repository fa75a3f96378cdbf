"""The bill of a run directory: what was paid over all its runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Bill:
    """What was paid, over all runs of this directory.

    `rates` are the tokens by what a million of them cost then, such as {"0.02 USD": 500}; under
    "" those whose price was not known. `unsure` tokens may have been billed beside `tokens`:
    their answers were lost. `sizes` are those of the vectors that it brought, in numbers.
    """

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    rates: dict[str, int] = field(default_factory=dict)
    unsure: int = 0
    model_versions: set[str] = field(default_factory=set)
    sizes: set[int] = field(default_factory=set)

    def add(self, told: Mapping[str, Any], model_versions: Iterable[str]) -> None:
        """Add the bill of a manifest, also of one from before there were prices."""
        self.requests += told.get("requests", 0)
        self.texts += told.get("texts", 0)
        self.tokens += told.get("tokens", 0)
        self.unsure += told.get("unsure", 0)
        for rate, tokens in told.get("rates", {"": told.get("tokens", 0)}).items():
            self.rates[rate] = self.rates.get(rate, 0) + tokens
        self.model_versions.update(model_versions)

    def join(self, other: Bill) -> None:
        """Add another bill."""
        told = {n: getattr(other, n) for n in ("requests", "texts", "tokens", "unsure", "rates")}
        self.add(told, other.model_versions)

    def count(self, texts: int, note: Mapping[str, Any]) -> None:
        """Add what the note of a frame says was billed for so many texts.

        A section of a text is a request and no text; a mean of sections is a text and no request.
        """
        tokens = note.get("tokens", 0)
        extent = note.get("extent")
        mean = extent is not None and extent["kept"] == extent["characters"]
        self.requests += bool(texts or tokens) and not mean
        self.texts += 0 if "section_of" in note else texts
        self.tokens += tokens
        self.unsure += note.get("unsure", 0)
        rate = note.get("rate", "")
        if tokens:
            self.rates[rate] = self.rates.get(rate, 0) + tokens
        if version := note.get("model_version"):
            self.model_versions.add(version)
