"""What of a text that is too long for the model its vector is of."""

from __future__ import annotations

from typing import NamedTuple


class Extent(NamedTuple):
    """Its characters, how many of them are kept, and of how many sections it is the mean."""

    characters: int
    kept: int
    sections: int


class Piece(NamedTuple):
    """What a section is of: its text's key, and how many characters at once were first tried."""

    text: bytes
    room: int
