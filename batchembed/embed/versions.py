"""The versions of the model that answered so far: another one is another model."""

from __future__ import annotations

from collections.abc import Iterable

from batchembed.embed.endings import other_model
from batchembed.errors import ActionNeededError
from batchembed.exchange import Response


class Versions:
    """What the model called itself. `known`: in earlier runs of the directory; None: any will do.

    The first version of a directory is taken as it comes.
    """

    def __init__(self, known: Iterable[str] | None = None) -> None:
        self._known = None if known is None else set(known)

    def objection(self, response: Response) -> ActionNeededError | None:
        """Return why an answer must not stand beside the others; None: it may, and is noted."""
        if self._known is None or not response.model_version:
            return None
        if self._known and response.model_version not in self._known:
            return other_model(sorted(self._known), response.model_version)
        self._known.add(response.model_version)
        return None
