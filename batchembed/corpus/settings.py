"""What the `[corpus]` table of a job file says."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

_LATER = ("image", "tokens", "prompt")


@dataclass(frozen=True, slots=True)
class CorpusSettings:
    r"""Which files make up the corpus, and what their columns mean.

    `path` holds files, folders and globs, resolved in the order given. At most one of `text`
    (a column) and `template` (`"{title}\n\n{body}"`, braces doubled to mean themselves) is set;
    one of them, `image`, `tokens` or `prompt` (columns as well) must be. `keep` None keeps every
    column. `encoding`, `delimiter` and `quote` are for CSV and TSV; an empty `quote` means that
    quotes are plain characters there.
    """

    path: tuple[str, ...]
    text: str | None = None
    template: str | None = None
    id: str | None = None
    keep: tuple[str, ...] | None = None
    controls: str | None = None
    role: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    quote: str = '"'
    image: str | None = None
    tokens: str | None = None
    prompt: str | None = None

    def told(self) -> dict[str, Any]:
        """Return plain values by which settings differ; what came later only where it is set."""
        found = asdict(self)
        return {k: v for k, v in found.items() if v is not None or k not in _LATER}
