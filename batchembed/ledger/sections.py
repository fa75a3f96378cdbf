"""Texts that are too long: what their vectors are of, and the sections that are paid for."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from batchembed.exchange import Vectors
from batchembed.extent import Extent, Piece
from batchembed.segments import Frame


@dataclass(slots=True)
class Sections:
    """What is known of texts that are too long, in memory, by their keys.

    `extents` are of those that have their vector, some 400 bytes each. Sections, with vectors, are
    of the few texts that are under way.
    """

    extents: dict[bytes, Extent] = field(default_factory=dict)
    _of: dict[bytes, dict[bytes, tuple[Vectors, int]]] = field(default_factory=dict)
    _rooms: dict[bytes, int] = field(default_factory=dict)

    def add(self, of: Piece, key: bytes, vector: Vectors, tokens: int) -> None:
        """Keep the vector, (1, d), of a section."""
        self._of.setdefault(of.text, {})[key] = (vector, tokens)
        if of.room:  # sections of before have none
            self._rooms.setdefault(of.text, of.room)

    def get(self, of: bytes, key: bytes) -> tuple[Vectors, int] | None:
        """Return the vector and tokens of a section, None where it is not known."""
        return self._of.get(of, {}).get(key)

    def room(self, of: bytes) -> int | None:
        """Return how many characters at once were first tried of a text, None where not known."""
        return self._rooms.get(of)

    def joined(self, key: bytes, extent: Extent) -> None:
        """Note that a text has its vector; its sections are not needed any more."""
        self.extents[key] = extent
        self._of.pop(key, None)
        self._rooms.pop(key, None)

    def heard(self, path: Path, frame: Frame) -> None:
        """Note what a frame of the segment at `path` says, if it is of a text that is too long."""
        note = frame.note
        if is_section(frame):
            vector = np.fromfile(path, "<f4", frame.width // 4, offset=frame.offset)[None]
            of = Piece(bytes.fromhex(note["section_of"]), note.get("room", 0))
            self.add(of, frame.keys[0].tobytes(), vector, note["tokens"])
        elif "extent" in note:
            self.joined(frame.keys[0].tobytes(), Extent(**note["extent"]))


def is_section(frame: Frame) -> bool:
    """Return whether the vector of a frame is a section's, so that of no text."""
    return "section_of" in frame.note
