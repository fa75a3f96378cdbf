"""What a provider says of a file of requests that was handed in to its batch lane."""

from __future__ import annotations

from dataclasses import dataclass

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class Handed:
    """What a provider says of one batch. `files` are those of its answers, errors included."""

    id: str
    state: str
    identity: str
    files: tuple[str, ...]
    errors: str = ""

    @property
    def ended(self) -> bool:
        """Whether no more answers come."""
        return self.state in ENDED
