"""Attention controls as a corpus writes them: of texts, of token ids, of images."""

from __future__ import annotations

import math
from typing import Any

from batchembed.prompts import Control, ImageControl, Overlap, TokenControl

TEXT = ("start", "length", "factor")
TOKENS = ("index", "factor")
IMAGE = ("left", "top", "width", "height", "factor")
OVERLAP = "token_overlap"
FORMS = {
    TEXT: '[{"start": 0, "length": 5, "factor": 2.0}]',
    TOKENS: '[{"index": 0, "factor": 2.0}]',
    IMAGE: '[{"left": 0.0, "top": 0.0, "width": 0.5, "height": 0.5, "factor": 2.0}]',
}
MEANINGS = {
    TEXT: "start and length count characters of the text",
    TOKENS: "index counts the token ids from 0",
    IMAGE: "left, top, width and height are shares of the image, from 0 to 1",
}
_OVERLAPS: tuple[Overlap, ...] = ("partial", "complete")
_ROUNDING = 1e-9


class SpanError(ValueError):
    """A value is no control, or none that its text, token ids or image can have."""


def hint(names: tuple[str, ...]) -> str:
    """Return what controls of these names look like."""
    return f"controls are a list such as {FORMS[names]}; {MEANINGS[names]}"


def listed(spans: Any) -> list[Any]:
    """Return controls as a list; null is none."""
    if spans is None:
        return []
    if not isinstance(spans, list):
        raise SpanError(f"`{str(spans)[:80]}` is not a list")
    return spans


def text_controls(spans: Any, size: int) -> tuple[Control, ...]:
    """Return the controls of a text of `size` characters. Raises SpanError."""
    return tuple(_text_control(_fields(span, TEXT), size) for span in listed(spans))


def token_controls(spans: Any, count: int) -> tuple[TokenControl, ...]:
    """Return the controls of `count` token ids. Raises SpanError."""
    found = []
    for span in listed(spans):
        told = _fields(span, TOKENS, overlaps=False)
        index = _whole(told, "index")
        if not 0 <= index < count:
            raise SpanError(f"index {index} is not within its {count} token ids")
        found.append(TokenControl(index, _factor(told)))
    return tuple(found)


def image_controls(spans: Any) -> tuple[ImageControl, ...]:
    """Return the controls of an image. Raises SpanError."""
    return tuple(_image_control(_fields(span, IMAGE)) for span in listed(spans))


def whole_number(value: Any, name: str) -> int:
    """Return a whole number. Raises SpanError."""
    return _whole({name: value}, name)


def _fields(span: Any, names: tuple[str, ...], *, overlaps: bool = True) -> dict[str, Any]:
    """Return the fields of a control, which has all of `names`; others may be there, but null."""
    pairs = span.items() if isinstance(span, dict) else ()
    told = {name: value for name, value in pairs if value is not None or name in names}
    optional = {OVERLAP} if overlaps else set()
    if not told.keys() >= set(names) or told.keys() - set(names) - optional:
        wanted = ", ".join(names[:-1]) + f" and {names[-1]}"
        raise SpanError(f"`{str(span)[:80]}` has not just {wanted}")
    if told.get(OVERLAP) not in (None, *_OVERLAPS):
        raise SpanError(f"token_overlap is `{told[OVERLAP]}`, not `partial` or `complete`")
    return told


def _text_control(told: dict[str, Any], size: int) -> Control:
    start, length = _whole(told, "start"), _whole(told, "length")
    factor = _factor(told)
    if start < 0 or length < 1 or start + length > size:
        raise SpanError(
            f"start {start} and length {length} are not within its text of {size} characters"
        )
    return Control(start, length, factor, told.get(OVERLAP))


def _image_control(told: dict[str, Any]) -> ImageControl:
    left, top, width, height = (_share(told, name) for name in IMAGE[:-1])
    if min(width, height) <= 0 or max(left + width, top + height) > 1 + _ROUNDING:
        raise SpanError(
            f"left {left:g}, top {top:g}, width {width:g} and height {height:g} "
            "are not within the image"
        )
    return ImageControl(left, top, width, height, _factor(told), told.get(OVERLAP))


def _whole(told: dict[str, Any], name: str) -> int:
    value = told[name]
    if type(value) is not int:
        raise SpanError(f"{name} is `{value}`, not a whole number")
    return value


def _share(told: dict[str, Any], name: str) -> float:
    value = told[name]
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise SpanError(f"{name} is `{value}`, not a number from 0 to 1")
    return float(value)


def _factor(told: dict[str, Any]) -> float:
    factor = told["factor"]
    if type(factor) not in (int, float) or not math.isfinite(factor) or factor < 0:
        raise SpanError(f"factor is `{factor}`, which is not 0 or a positive number")
    return float(factor)
