"""What the stand-in answers: a pure function of the text and all that may change its vector."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

import numpy as np

MODEL = "fake-model"
DIMENSIONS = 32


def vector(
    text: str,
    *,
    role: str = "symmetric",
    controls: Iterable[tuple[int, int, float]] = (),
    model: str = MODEL,
    dimensions: int = DIMENSIONS,
    unit: bool = True,
    more: Iterable[object] = (),
) -> np.ndarray:
    """Return the right vector, float32, shape (dimensions,), of length 1 if `unit`.

    `more` is what else it is a function of: an instruction, a layer, a pooling.
    """
    spans = [[start, length, float(factor), *also] for start, length, factor, *also in controls]
    identity = json.dumps([text, role, spans, model, *more]).encode()
    drawn = hashlib.shake_256(identity).digest(2 * dimensions)
    values = (np.frombuffer(drawn, dtype="<u2").astype(np.float64) - 32767.5) / 32768
    if unit:
        values /= np.sqrt(values @ values)
    return values.astype(np.float32)


def vectors(texts: Sequence[str], **told) -> np.ndarray:
    """Return the right vectors of many texts, float32, shape (n, dimensions)."""
    return np.stack([vector(text, **told) for text in texts])


def tokens(text: str) -> int:
    """Return what the stand-in bills for a text."""
    return max(1, (len(text.encode()) + 3) // 4)
