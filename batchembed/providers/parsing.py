"""From the bytes of an answer to contiguous float32 vectors, with every claim in it checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import pybase64
import simdjson
from numpy.typing import NDArray

from batchembed.exchange import Vectors

_NO_NUMBER = re.compile(
    rb"""([\[,]\s*)(?:-?NaN|[-+]?Inf(?:inity)?|null|"-?(?:NaN|Inf(?:inity)?)"|-?\d[\d.]*e\+?\d{3,})"""
    rb"(?=\s*[,\]])",
    re.IGNORECASE,
)

Row = NDArray[np.float64] | NDArray[np.float32]


class AnswerError(ValueError):
    """An answer that does not prove what it must.

    `json` is False when it is no JSON at all, `torn` when it is JSON that cannot be read.
    """

    def __init__(self, message: str, *, json: bool = True, torn: bool = False) -> None:
        super().__init__(message)
        self.json = json
        self.torn = torn


def read(body: bytes, *, bare: bool = False) -> Any:
    """Return the JSON object of `body`, or its array if `bare`, unparsed below its surface.

    Raises AnswerError. The parser is made anew for each body: it costs 0.3 µs, and a shared
    one refuses to work while anything of its last answer is still alive.
    """
    try:
        found = simdjson.Parser().parse(body)
    except (ValueError, RuntimeError) as error:
        begins_as_json = body.lstrip()[:1] == (b"[" if bare else b"{")
        kind = "JSON that cannot be read" if begins_as_json else "no JSON"
        raise AnswerError(
            f"the answer is {kind}", json=begins_as_json, torn=begins_as_json
        ) from error
    if not isinstance(found, simdjson.Array if bare else simdjson.Object):
        raise AnswerError(f"the answer is JSON, but no {'array' if bare else 'object'}")
    return found


def without_nan(body: bytes) -> bytes | None:
    """Return the body with what stands for no number in an array made a number; None: no such.

    NaN, infinity, null and 1e400 become 1e300, which is infinite as float32: their row, and it
    alone, will not prove itself. As they stand, a parser of JSON refuses the whole answer.
    """
    mended, count = _NO_NUMBER.subn(rb"\g<1>1e300", body)
    return mended if count else None


def text(found: Any, name: str) -> str:
    """Return a string field, cut to 200 characters, or "" when there is none."""
    value = found.get(name)
    return value[:200] if isinstance(value, str) else ""


def count(found: Any, name: str) -> int | None:
    """Return a field that holds a number of tokens, or None when it does not."""
    value = found.get(name)
    return value if type(value) is int and value >= 0 else None


def usage(found: Any) -> int | None:
    """Return the tokens that an answer of OpenAI's form says were billed, or None."""
    told = found.get("usage")
    if not hasattr(told, "get"):
        return None
    total = count(told, "total_tokens")
    return total if total is not None else count(told, "prompt_tokens")


def single(values: Any, body: bytes) -> Vectors:
    """Return one vector, shape (1, d), from an array of numbers."""
    row = _numbers(values)
    _flat(body, 1, [values])
    return _narrow(row).reshape(1, -1)


def nested(rows: Any, n: int, body: bytes) -> Vectors:
    """Return shape (n, d) from an array of n arrays of numbers; the position is the order."""
    _counted(rows, n)
    lengths = {len(row) if isinstance(row, simdjson.Array) else -1 for row in rows}
    if -1 in lengths:
        raise AnswerError("an embedding is not an array of numbers")
    if len(lengths) != 1:
        raise AnswerError(f"the vectors have different dimensions: {_few(lengths)}")
    width = lengths.pop()
    flat = _numbers(rows)
    if width == 0 or flat.size != n * width:
        raise AnswerError(f"asked for {n} vectors, got {flat.size} numbers in rows of {width}")
    _flat(body, n + 1, rows)
    return _narrow(flat).reshape(n, width)


def indexed(data: Any, n: int, body: bytes) -> Vectors:
    """Return shape (n, d) from n objects with `index` and `embedding`, ordered by `index`.

    An embedding may be an array of numbers or base64 of little-endian float32, and need not be
    what was asked for. A single answer may lack its index: it has only one order.
    """
    _counted(data, n)
    with np.errstate(over="ignore"):
        vectors, arrays = _placed(data, n)
    _flat(body, 1 + len(arrays), arrays)
    return vectors


def named(data: Any, name: str, n: int, body: bytes) -> Vectors:
    """Return shape (n, d) from n objects with a vector under `name`; the position is the order."""
    _counted(data, n)
    with np.errstate(over="ignore"):
        vectors, arrays = _placed(data, n, name)
    _flat(body, 1 + len(arrays), arrays)
    return vectors


def encoded(rows: Any, n: int) -> Vectors:
    """Return shape (n, d) from an array of n base64 texts; the position is the order."""
    _counted(rows, n)
    if not all(isinstance(row, str) for row in rows):
        raise AnswerError("an embedding is not base64")
    found = [_decoded(row) for row in rows]
    lengths = {row.size for row in found}
    if len(lengths) != 1:
        raise AnswerError(f"the vectors have different dimensions: {_few(lengths)}")
    return np.stack(found).astype(np.float32)


def _placed(data: Any, n: int, name: str = "") -> tuple[Vectors, list[Any]]:
    """Return the vectors at their indices, and those entries that were arrays of numbers.

    With a `name` the vectors stand under it and have no index.

    Each row is written to its place at once, while it is still in the processor's cache.
    """
    vectors: Vectors = np.empty((n, 0), dtype=np.float32)
    seen = bytearray(n)
    arrays = []
    width = 0
    for at, entry in enumerate(data):
        if not isinstance(entry, simdjson.Object):
            raise AnswerError("an entry of `data` is not an object")
        position = at if name else _position(entry.get("index"), n)
        if seen[position]:
            raise AnswerError(f"the index {position} comes twice")
        seen[position] = 1
        values = entry.get(name or "embedding")
        if isinstance(values, str):
            row: Row = _decoded(values)
        else:
            row = _numbers(values)
            arrays.append(values)
        if width == 0:
            width = row.size
            vectors = np.empty((n, width), dtype=np.float32)
        elif row.size != width:
            raise AnswerError(f"the vectors have {width} and {row.size} dimensions")
        vectors[position] = row
    return vectors, arrays


def _counted(rows: Any, n: int) -> None:
    if not isinstance(rows, simdjson.Array):
        raise AnswerError("the answer has no array of embeddings")
    if len(rows) != n:
        raise AnswerError(f"asked for {n} vectors, got {len(rows)}")


def _position(found: Any, n: int) -> int:
    if type(found) is int and 0 <= found < n:
        return found
    if found is None and n == 1:
        return 0
    raise AnswerError(f"the index {str(found)[:20]} is none of 0 to {n - 1}")


def _numbers(values: Any) -> NDArray[np.float64]:
    """Return all numbers of an array as float64. Nesting is flattened silently: see `_flat`."""
    if not isinstance(values, simdjson.Array) or len(values) == 0:
        raise AnswerError("an embedding is not an array of numbers")
    try:
        return np.frombuffer(values.as_buffer(of_type="d"), dtype=np.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AnswerError("an embedding holds something that is not a number") from error


def _decoded(values: str) -> NDArray[np.float32]:
    try:
        raw = pybase64.b64decode(values, validate=True)
    except ValueError as error:
        raise AnswerError("an embedding is not base64") from error
    if not raw or len(raw) % 4:
        raise AnswerError(f"an embedding has {len(raw)} bytes, which are not float32 numbers")
    return np.frombuffer(raw, dtype="<f4")


def _flat(body: bytes, arrays: int, rows: Iterable[Any]) -> None:
    """Raise AnswerError when an array of `rows` holds another array.

    The parser flattens `[[1], [2]]` to two numbers without a word. Where the whole answer has
    no more opening brackets than the `arrays` already seen, there can be no other array; this
    costs 2 % of the parse. Only where it has more (one in a string, say) every row is walked.
    """
    find, at, seen = body.find, body.find(b"["), 0
    while at >= 0 and seen <= arrays:
        seen += 1
        at = find(b"[", at + 1)
    if seen <= arrays:
        return
    for row in rows:
        if isinstance(row, simdjson.Array) and any(isinstance(x, simdjson.Array) for x in row):
            raise AnswerError("an embedding holds something that is not a number")


def _narrow(values: NDArray[np.float64]) -> Vectors:
    """Return float32 as `np.float32(x)` would: what is too large becomes infinite, not an error."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _few(lengths: set[int]) -> str:
    return ", ".join(map(str, sorted(lengths)[:4]))
