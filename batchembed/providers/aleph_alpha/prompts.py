"""Prompts as Aleph Alpha takes them: lists of texts, images and token ids with their controls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pybase64

from batchembed.exchange import Request
from batchembed.prompts import Control, Image, ImageControl, Piece, Text, TokenControl, Tokens


def prompts(request: Request) -> list[list[dict[str, Any]]]:
    """Return one prompt for each text; ValueError for a control that JSON cannot hold."""
    if request.prompts is not None:
        return [[_piece(piece) for piece in prompt] for prompt in request.prompts]
    controls = request.controls or ((),) * len(request)
    return [[_text(text, spans)] for text, spans in zip(request.texts, controls, strict=True)]


def inputs(request: Request) -> Sequence[str] | Sequence[Sequence[int]]:
    """Return what `/embeddings` takes: texts, or token ids."""
    if request.prompts is None:
        return request.texts
    return [
        piece.ids for prompt in request.prompts for piece in prompt if isinstance(piece, Tokens)
    ]


def _piece(piece: Piece) -> dict[str, Any]:
    match piece:
        case Text():
            return _text(piece.text, piece.controls)
        case Image():
            crop = (
                {} if piece.crop is None else dict(zip(("x", "y", "size"), piece.crop, strict=True))
            )
            return {
                "type": "image",
                "data": pybase64.b64encode(piece.data).decode(),
                **crop,
                "controls": [_image_control(control) for control in piece.controls],
            }
        case _:
            return {
                "type": "token_ids",
                "data": piece.ids,
                "controls": [_token_control(control) for control in piece.controls],
            }


def _text(text: str, controls: Sequence[Control]) -> dict[str, Any]:
    return {"type": "text", "data": text, "controls": [_control(c) for c in controls]}


def _control(control: Control) -> dict[str, Any]:
    told = {"start": control.start, "length": control.length, "factor": _factor(control.factor)}
    return told | _overlap(control.overlap)


def _image_control(control: ImageControl) -> dict[str, Any]:
    sides = ("left", "top", "width", "height")
    rect = {side: getattr(control, side) for side in sides}
    return {"rect": rect, "factor": _factor(control.factor)} | _overlap(control.overlap)


def _token_control(control: TokenControl) -> dict[str, Any]:
    return {"index": control.index, "factor": _factor(control.factor)}


def _overlap(overlap: str | None) -> dict[str, str]:
    return {} if overlap is None else {"token_overlap": overlap}


def _factor(factor: float) -> int | float:
    if not math.isfinite(factor):
        raise ValueError(f"the control's factor `{factor}` is not a number")
    return int(factor) if float(factor).is_integer() else float(factor)
