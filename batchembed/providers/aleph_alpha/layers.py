"""The answer of `/embed`: one vector for each layer and pooling, joined in the order asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import simdjson

from batchembed.exchange import Vectors
from batchembed.providers import parsing
from batchembed.providers.parsing import AnswerError

_LAYER = "layer_"


class SameLayerError(Exception):
    """Two layers of the job are one and the same layer of the model: only the job can be mended."""


def names(found: Any, layers: Sequence[int], pooling: Sequence[str]) -> tuple[str, ...]:
    """Return what the outputs are called, in the order asked for: `layer_40_mean`, ….

    The server answers a layer that is counted from the end (-1 is the last one) under its number
    from the start, which no one can know beforehand. Raises AnswerError unless the answer has the
    layers that were asked for, and no others; SameLayerError where two of them are one.
    """
    told = found.get("embeddings")
    if not isinstance(told, simdjson.Object):
        raise AnswerError("the answer has no object of embeddings")
    there = {name: _number(name) for name in told.keys()}  # noqa: SIM118 - no mapping
    numbers = _absolute(layers, set(there.values()))
    return tuple(f"{_LAYER}{number}_{pool}" for number in numbers for pool in pooling)


def joined(found: Any, outputs: Sequence[str], body: bytes) -> Vectors:
    """Return the vectors of all `outputs` as one, shape (1, outputs x dimensions)."""
    rows = []
    for name in outputs:
        layer, pool = name.removeprefix(_LAYER).split("_", 1)
        of_layer = found["embeddings"][_LAYER + layer]
        if not isinstance(of_layer, simdjson.Object):
            raise AnswerError(f"the answer has no poolings for layer {layer}")
        rows.append(parsing.single(of_layer.get(pool), body))
    if len({row.shape[1] for row in rows}) != 1:
        raise AnswerError("the layers have vectors of different dimensions")
    return np.concatenate(rows, axis=1)


def _number(name: str) -> int:
    digits = name.removeprefix(_LAYER)
    if digits == name or not digits.isdecimal():
        raise AnswerError(f"the answer has a layer `{name[:40]}`, which has no number")
    return int(digits)


def _absolute(layers: Sequence[int], there: set[int]) -> list[int]:
    """Return the number from the start of each of `layers`.

    What was asked for by its number is set aside; the rest belongs, in its order, to those that
    were counted from the end, and all of these must agree on how many layers there are.
    """
    asked = {layer for layer in layers if layer >= 0}
    behind = sorted((layer for layer in layers if layer < 0), reverse=True)
    rest = sorted(there - asked, reverse=True)
    told = f"asked for the layers {list(layers)}, got {sorted(there)}"
    if asked <= there and len(rest) < len(behind):
        raise SameLayerError(told)
    if not asked <= there or len(rest) != len(behind):
        raise AnswerError(told)
    from_end = dict(zip(behind, rest, strict=True))
    if len({number - layer for layer, number in from_end.items()}) > 1:
        raise AnswerError(told)
    return [from_end.get(layer, layer) for layer in layers]
