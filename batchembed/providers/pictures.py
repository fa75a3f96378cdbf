"""Prompts of texts and images as most APIs take them: a list of contents, images as data URIs."""

from __future__ import annotations

from typing import Any

import pybase64

from batchembed.exchange import Request
from batchembed.prompts import Image, Piece, Prompt, Text

_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def prompts(request: Request) -> tuple[Prompt, ...]:
    """Return one prompt for each text of a request, whatever it has."""
    return request.prompts or tuple((Text(text),) for text in request.texts)


def checked(piece: Piece) -> Text | Image:
    """Return a piece that is a whole image or a text without controls; else raise ValueError."""
    if not isinstance(piece, Text | Image) or piece.controls:
        raise ValueError("the API takes texts and images, without token ids and controls")
    if isinstance(piece, Image) and piece.crop is not None:
        raise ValueError("the API takes images as they are: cut the square out beforehand")
    return piece


def data_uri(image: Image) -> str:
    """Return an image as a data URI; raises ValueError for a kind that no API takes."""
    return f"data:{_kind(image.data)};base64,{pybase64.b64encode(image.data).decode()}"


def _kind(data: bytes) -> str:
    for start, kind in _KINDS:
        if data.startswith(start):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise ValueError("the image is no PNG, JPEG, GIF or WebP")


def contents(prompt: Prompt, image: Any) -> list[dict[str, Any]]:
    """Return the pieces of a prompt; `image` makes the entry of a data URI."""
    made = []
    for piece in map(checked, prompt):
        if isinstance(piece, Text):
            made.append({"type": "text", "text": piece.text})
        else:
            made.append(image(data_uri(piece)))
    return made
