"""The data of a page: one JSON text that no HTML parser can take for anything else."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from batchembed.history import Execution
from batchembed.report.colours import Colouring
from batchembed.report.figures import Bars, Figures, Heat, thinned
from batchembed.report.words import cut, shortened

MOST_LETTERS = 2000
NAME_LETTERS = 60
REASON_LETTERS = 60
ROOM_OF_IDS = 120_000
ROOM_OF_VALUES = 5_000
STEPS = 65_535
POINT = (
    *("at", "seconds", "texts", "tokens", "attempts", "took", "slowest"),
    *("requests_per_minute", "tokens_per_minute"),
)
SHADES = 255


def escaped(told: Any) -> bytes:
    r"""Return JSON without any character that HTML gives a meaning to: `<` is `\u003c`."""
    raw = orjson.dumps(told)
    for mark in (b"<", b">", b"&", b"'"):
        raw = raw.replace(mark, b"\\u%04x" % ord(mark))
    for separator in ("\u2028", "\u2029"):
        raw = raw.replace(separator.encode(), b"\\u%04x" % ord(separator))
    return raw


def data(figures: Figures, history: list[Execution], *, room: int) -> bytes:
    """Return all that a page draws, with as much of each text as `room` bytes allow."""
    drawn = figures.drawn
    numbered = not np.array_equal(drawn.rows, np.arange(len(drawn)))
    told = {
        "rows": len(drawn),
        "places": _places(figures.plane.places),
        "method": figures.plane.method,
        "shares": figures.plane.shares,
        "numbers": _packed(drawn.rows, "<u4") if numbered else "",
        "near": _packed(figures.nearness.near, "<u2"),
        "scores": _packed(np.round(figures.nearness.scores * 10_000), "<i2"),
        "each": int(figures.nearness.near.shape[1]),
        "first": figures.first,
        "colours": [_colours(one) for one in figures.colourings],
        "heat": _heat(figures.heat),
        "lengths": _bars(figures.lengths),
        "norms": _bars(figures.norms),
        "history": [_execution(one) for one in thinned(history)],
        "ids": fitted(drawn.ids, ROOM_OF_IDS, most=NAME_LETTERS),
    }
    rest = escaped(told)
    texts = None if drawn.texts is None else fitted(drawn.texts, room - len(rest))
    return rest[:-1] + b',"texts":' + escaped(texts) + b"}"


def fitted(texts: list[str], room: int, most: int = MOST_LETTERS) -> list[str]:
    """Return texts that are all cut to the same length, the longest whose JSON fits in `room`."""
    cleaned = [cut(text, most) for text in texts]
    least = 1
    while least < most:
        letters = (least + most + 1) // 2
        if len(escaped([shortened(text, letters) for text in cleaned])) <= room:
            least = letters
        else:
            most = letters - 1
    return [shortened(text, least) for text in cleaned]


def _packed(values: NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()


def _places(places: NDArray[np.float64]) -> str:
    """Return places as numbers from 0 to STEPS, both axes at one scale, centred."""
    if not len(places):
        return ""
    low, high = places.min(axis=0), places.max(axis=0)
    span = float((high - low).max()) or 1.0
    shifted = (places - (low + high) / 2) / span + 0.5
    return _packed(np.round(shifted.clip(0, 1) * STEPS), "<u2")


def _colours(one: Colouring) -> dict[str, Any]:
    told: dict[str, Any] = {"name": cut(one.name, NAME_LETTERS), "codes": _packed(one.codes, "u1")}
    if one.values is None:
        return told | {"low": one.low, "high": one.high}
    return told | {"values": fitted(one.values, ROOM_OF_VALUES, most=NAME_LETTERS)}


def _heat(heat: Heat) -> dict[str, Any]:
    """Return the upper triangle, row by row, in SHADES shades between `low` and `high`."""
    upper = heat.scores[np.triu_indices(len(heat.rows), 1)]
    low, high = (float(upper.min()), float(upper.max())) if upper.size else (0.0, 1.0)
    shades = np.round((upper - low) / ((high - low) or 1.0) * SHADES)
    told = {"rows": _packed(heat.rows, "<u2"), "shades": _packed(shades, "u1")}
    return told | {"low": round(low, 4), "high": round(high, 4)}


def _bars(bars: Bars | None) -> dict[str, Any] | None:
    return None if bars is None else {"edges": bars.edges, "counts": bars.counts}


def _execution(one: Execution) -> dict[str, Any]:
    points = [[getattr(point, name) for name in POINT] for point in one.points]
    waits = [[w.at, w.seconds, w.kind, cut(w.reason, REASON_LETTERS)] for w in one.waits]
    return {"began": one.began, "points": points, "waits": waits}
