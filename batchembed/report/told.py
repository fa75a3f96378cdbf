"""What is known of a run besides its vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchembed.history import Execution
from batchembed.parts import Manifest


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a run besides its vectors. `rejects`: the first rows of rejects.arrow."""

    name: str
    manifest: Manifest
    history: Sequence[Execution]
    rejects: Sequence[dict[str, Any]]
    seed: int
