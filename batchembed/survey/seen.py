"""A corpus that is looked at while it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from batchembed.corpus import Rows
from batchembed.survey.survey import Read


@dataclass(frozen=True, slots=True)
class Seen:
    """A corpus whose rows are looked at as they are read."""

    corpus: Read
    look: Callable[[int, list[str | None]], None]

    def texts(self) -> Iterator[Rows]:
        """Yield the rows of the corpus."""
        for rows in self.corpus.texts():
            if rows.prompts is None:  # images and tokens have no letters
                self.look(rows.first, rows.texts)
            yield rows

    def where(self, row: int) -> str:
        """Return in words where a row is."""
        return self.corpus.where(row)
