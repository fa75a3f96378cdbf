"""What may be embedded besides plain text: images, token ids, and several of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Overlap: TypeAlias = Literal["partial", "complete"]
"""How a control counts for a token that it covers in part; None: as the API does."""

IMAGE_TOKENS = 144
"""What an image is billed, as Aleph Alpha documents it."""


@dataclass(frozen=True, slots=True)
class Control:
    """An attention control: multiply the attention on a span of the text by `factor`.

    `start` and `length` count characters (Unicode code points).
    """

    start: int
    length: int
    factor: float
    overlap: Overlap | None = None


@dataclass(frozen=True, slots=True)
class ImageControl:
    """An attention control of a part of an image, in shares (0 to 1) of its width and height."""

    left: float
    top: float
    width: float
    height: float
    factor: float
    overlap: Overlap | None = None


@dataclass(frozen=True, slots=True)
class TokenControl:
    """An attention control of one token, by its position (from 0)."""

    index: int
    factor: float


@dataclass(frozen=True, slots=True)
class Text:
    """A text in a prompt."""

    text: str
    controls: tuple[Control, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """An image in a prompt: the bytes of its file. `crop`: a square of pixels, (x, y, size)."""

    data: bytes
    crop: tuple[int, int, int] | None = None
    controls: tuple[ImageControl, ...] = ()


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids in a prompt."""

    ids: tuple[int, ...]
    controls: tuple[TokenControl, ...] = ()


Piece: TypeAlias = Text | Image | Tokens
Prompt: TypeAlias = tuple[Piece, ...]
"""What is embedded as one vector: its pieces follow each other."""


def words(prompt: Prompt) -> str:
    """Return the texts of a prompt, one after the other."""
    return "".join(piece.text for piece in prompt if isinstance(piece, Text))


def kinds(prompts: Sequence[Prompt]) -> set[str]:
    """Return which of text, image and tokens there are in prompts."""
    names: dict[type, str] = {Text: "text", Image: "image", Tokens: "tokens"}
    return {names[type(piece)] for prompt in prompts for piece in prompt}


def image_bytes(prompt: Prompt) -> int:
    """Return how many bytes the images of a prompt take on their way, in base64."""
    return sum(-(-len(piece.data) // 3) * 4 for piece in prompt if isinstance(piece, Image))


def sure_tokens(prompt: Prompt) -> int:
    """Return the tokens of a prompt that are known without looking at its texts."""
    return sum(
        len(piece.ids) if isinstance(piece, Tokens) else IMAGE_TOKENS * isinstance(piece, Image)
        for piece in prompt
    )
