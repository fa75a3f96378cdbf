"""What a run came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Summary:
    """What a run came to. `seconds` are of this execution, the bill of all in this directory.

    `cost` is None while a price is not known; `unsure_tokens` may have been billed as well: their
    answers were lost. `to_send` and `sent` count texts of this execution; `reused` texts were
    paid for before; `columns` names those of vectors where there are several; `failures` counts
    attempts by kind, `reasons` rejected rows; `outdated`: files of an earlier report;
    `server` is what it said it runs,
    `learnt` what its refusals showed that a request may hold. `needless_tokens` of `tokens`
    bought nothing that was kept; `pace`: how well the limits were used, as `pacing.Figures`
    tells it. `long` rows were too long for the model, and are what `on_long_text` says; `mended`
    of the vectors sent for came with another length than 1, and were made so. `retires`: what the
    server said of its end.
    """

    path: str = ""
    state: str = "started"
    rows: int = 0
    distinct: int = 0
    reused: int = 0
    to_send: int = 0
    sent: int = 0
    rejected: int = 0
    requests: int = 0
    tokens: int = 0
    billed_tokens: int = 0
    unsure_tokens: int = 0
    cost: float | None = None
    currency: str = ""
    dimensions: int = 0
    columns: list[str] = field(default_factory=list)
    parts: int = 0
    output_bytes: int = 0
    similarity: list[str] = field(default_factory=list)
    outdated: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    waited: float = 0.0
    needless_tokens: int = 0
    pace: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0
    server: str = ""
    learnt: dict[str, int] = field(default_factory=dict)
    long: int = 0
    mended: int = 0
    retires: str = ""
    on_long_text: str = "reject"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)
