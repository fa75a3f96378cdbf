"""From the bytes of an answer to contiguous float32 vectors, with every claim in it checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pybase64
import simdjson
from numpy.typing import NDArray

from batchembed.described import Step
from batchembed.exchange import Vectors
from batchembed.providers import byteorder

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
    entries = (
        (_position(entry.get("index"), n), entry.get("embedding")) for entry in _objects(data)
    )
    return _placed(entries, n, body)


def named(data: Any, name: str, n: int, body: bytes) -> Vectors:
    """Return shape (n, d) from n objects with a vector under `name`; the position is the order."""
    _counted(data, n)
    return _placed(enumerate(entry.get(name) for entry in _objects(data)), n, body)


def placed(
    data: Any, vector: Sequence[Step], index: Sequence[Step] | None, n: int, body: bytes
) -> Vectors:
    """Return shape (n, d) from n entries, each with its vector and its index at these steps.

    Without `index` the position is the order.
    """
    _counted(data, n)
    if not vector and index is None and n and isinstance(data[0], simdjson.Array):
        return nested(data, n, body)
    entries = (
        (_position(at(entry, index), n) if index is not None else number, at(entry, vector))
        for number, entry in enumerate(data)
    )
    return _placed(entries, n, body)


def alone(values: Any, body: bytes) -> Vectors:
    """Return one vector, shape (1, d), from an array of numbers or base64."""
    if not isinstance(values, str):
        return single(values, body)
    row = _decoded(values).astype(np.float32)
    byteorder.check(row)
    return row.reshape(1, -1)


def at(found: Any, path: Sequence[Step]) -> Any:
    """Return what is at the steps of a path. Raises AnswerError where there is nothing."""
    for number, step in enumerate(path):
        if isinstance(step, str):
            found = found.get(step) if isinstance(found, simdjson.Object) else None
        else:
            some = isinstance(found, simdjson.Array) and step is not None and step < len(found)
            found = found[step] if some else None
        if found is None:
            shown = "".join(f".{s}" if isinstance(s, str) else f"[{s}]" for s in path[: number + 1])
            raise AnswerError(f"the answer has nothing at `{shown.removeprefix('.')}`")
    return found


def encoded(rows: Any, n: int) -> Vectors:
    """Return shape (n, d) from an array of n base64 texts; the position is the order."""
    _counted(rows, n)
    if not all(isinstance(row, str) for row in rows):
        raise AnswerError("an embedding is not base64")
    found = [_decoded(row) for row in rows]
    lengths = {row.size for row in found}
    if len(lengths) != 1:
        raise AnswerError(f"the vectors have different dimensions: {_few(lengths)}")
    byteorder.check(found[0])
    return np.stack(found).astype(np.float32)


def _placed(entries: Iterable[tuple[int, Any]], n: int, body: bytes) -> Vectors:
    """Return the vectors at their positions.

    Each row is written to its place at once, while it is still in the processor's cache.
    """
    vectors: Vectors = np.empty((n, 0), dtype=np.float32)
    seen = bytearray(n)
    arrays = []
    width = 0
    with np.errstate(over="ignore"):
        for position, values in entries:
            if seen[position]:
                raise AnswerError(f"the index {position} comes twice")
            seen[position] = 1
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
    if len(arrays) < n:
        byteorder.check(vectors[0])  # a server has one order: one row tells
    _flat(body, 1 + len(arrays), arrays)
    return vectors


def _objects(data: Any) -> Iterator[Any]:
    for entry in data:
        if not isinstance(entry, simdjson.Object):
            raise AnswerError("an entry of `data` is not an object")
        yield entry


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
