"""JSON Lines: one object a line; types are found by reading the whole file once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import Any, NoReturn

import orjson
import pyarrow as pa

from batchembed.corpus import jsontypes
from batchembed.corpus.files import CorpusFile, broken, reading
from batchembed.corpus.formats import BATCH_ROWS, Batch
from batchembed.corpus.lines import Place, bad_utf8, pieces
from batchembed.errors import CorpusError

_LONG_NUMBER = re.compile(rb"(?<![0-9.])[0-9]{19}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
_INT64 = range(-(1 << 63), 1 << 63)
_DROP_HINT = "write the column with one kind of value, or leave it out of `keep` under [corpus]"


class JsonLines:
    """Reads JSON Lines. A name that a row lacks is null there; blank lines are no rows.

    `wanted` are the columns whose types matter; None: all.
    """

    def __init__(self, wanted: frozenset[str] | None) -> None:
        self._wanted = wanted

    def schema(self, file: CorpusFile) -> pa.Schema:
        """Return names in the order of their first sight, and types that hold every value."""
        types: dict[str, pa.DataType] = {}
        place = Place()
        with reading(file), closing(file.open_stream()) as source:
            for piece in pieces(source, _cut, file, place):
                lines = _lines(piece)
                rows = _Rows(file, place, lines)
                rows.check_names_and_numbers(piece)
                for name in dict.fromkeys(chain.from_iterable(rows.clean)):
                    types.setdefault(name, pa.null())
                if len(types) > jsontypes.MOST_FIELDS:
                    raise broken(
                        file,
                        f"its rows have more than {jsontypes.MOST_FIELDS:,} different names",
                        hint="put what is not a column into one object or one string a row",
                    )
                for name in types if self._wanted is None else types.keys() & self._wanted:
                    types[name] = rows.type_of(name, types[name])
                place.rows += len(lines)
        return pa.schema(list(types.items()))

    def rows(self, file: CorpusFile) -> int | None:  # noqa: ARG002
        """Return None: the file does not tell how many rows it has."""
        return None

    def batches(
        self, file: CorpusFile, schema: pa.Schema, columns: Sequence[str]
    ) -> Iterator[Batch]:
        """Yield `columns` of all rows in batches of bounded size."""
        place = Place()
        wanted = pa.schema([schema.field(name) for name in columns])
        with reading(file), closing(file.open_stream()) as source:
            for piece in pieces(source, _cut, file, place):
                lines = _lines(piece)
                for start in range(0, len(lines), BATCH_ROWS):
                    rows = _Rows(file, place, lines[start : start + BATCH_ROWS])
                    yield Batch(rows.batch(wanted), rows.odd)
                    place.rows += len(rows.clean)

    def line(self, file: CorpusFile, row: int) -> int | None:
        """Return the line of a row, by reading the file up to it."""
        place = Place()
        with reading(file), closing(file.open_stream()) as source:
            for piece in pieces(source, _cut, file, place):
                for number, text in enumerate(piece.split(b"\n")):
                    if text and not text.isspace():
                        if place.rows == row:
                            return place.line + number
                        place.rows += 1
        return None


class _Rows:
    """Some parsed lines: `clean` fit for Arrow, `odd` as written where they are not."""

    def __init__(self, file: CorpusFile, place: Place, lines: Sequence[bytes]) -> None:
        self._file = file
        self._place = place
        self._lines = lines
        self.odd: dict[int, dict[str, Any]] = {}
        self.clean: list[dict[str, Any]]
        try:
            self.clean = list(map(orjson.loads, lines))
        except orjson.JSONDecodeError:
            self.clean = [self._slowly(number, line) for number, line in enumerate(lines)]
        if not set(map(type, self.clean)) <= {dict}:
            wrong = next(n for n, row in enumerate(self.clean) if type(row) is not dict)
            raise self._error(
                wrong, "is not a JSON object", 'every line must be like {"text": "..."}'
            )

    def batch(self, wanted: pa.Schema) -> pa.RecordBatch:
        """Return the columns of `wanted`."""
        arrays = []
        for field in wanted:
            values = [row.get(field.name) for row in self.clean]
            try:
                arrays.append(pa.array(values, type=field.type))
            except (pa.ArrowException, OverflowError):
                arrays.append(self._refused(field, values))
        return pa.RecordBatch.from_arrays(arrays, schema=wanted)

    def type_of(self, name: str, before: pa.DataType) -> pa.DataType:
        """Return the type that holds the values of a column and those before them."""
        values = [row.get(name) for row in self.clean]
        try:
            return jsontypes.find(values, before)
        except jsontypes.ContradictionError:
            number, why = jsontypes.find_first_contradiction(values, before)
            raise self._error(number, f"does not fit column `{name}`: {why}", _DROP_HINT) from None

    def check_names_and_numbers(self, piece: bytes) -> None:
        """Raise CorpusError for a name that an object has twice, and for integers over 64 bits.

        JSON readers take the last of two names and round large numbers, silently. Lines in
        which neither can be are told apart cheaply; the others are parsed once more.
        """
        long_numbers = _LONG_NUMBER.search(piece) is not None
        for number, (line, row) in enumerate(zip(self._lines, self.clean, strict=True)):
            if line.count(b'":') != len(row) or (long_numbers and _LONG_NUMBER.search(line)):
                try:
                    json.loads(line, object_pairs_hook=_pairs, parse_int=_int64)
                except _TwiceError as error:
                    hint = "write every name of an object once"
                    raise self._error(number, f"has the name `{error}` twice", hint) from None
                except _TooLongError as error:
                    hint = "write numbers that do not fit into 64 bits as strings"
                    raise self._error(number, f"has the number {error}", hint) from None

    def _slowly(self, number: int, line: bytes) -> dict[str, Any]:
        """Parse one line; accept what orjson refuses only if lone surrogates are the reason."""
        try:
            parsed: dict[str, Any] = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            found = bad_utf8(line)
            if found:
                what = f"holds bytes ({found[1]}) that are not UTF-8"
                raise self._error(number, what, "save the file as UTF-8") from error
            odd = _with_surrogates(line)
            if not isinstance(odd, dict):
                what = f"is not JSON: {error.msg}"
                raise self._error(number, what, "write one JSON object a line") from error
            self.odd[number] = odd
            cleaned: dict[str, Any] = _cleaned(odd)
            return cleaned
        return parsed

    def _refused(self, field: pa.Field, values: list[Any]) -> NoReturn:
        for number, value in enumerate(values):
            try:
                pa.array([value], type=field.type)
            except (pa.ArrowException, OverflowError) as error:
                what = f"does not fit column `{field.name}` ({field.type}): {error}"
                raise self._error(number, what, _DROP_HINT) from error
        raise broken(self._file, f"column `{field.name}` cannot be made of type {field.type}")

    def _error(self, number: int, what: str, hint: str) -> CorpusError:
        row = self._place.rows + number
        line = JsonLines(None).line(self._file, row)
        return CorpusError(f"`{self._file.path}`, row {row + 1:,} (line {line}) {what}", hint=hint)


class _TwiceError(Exception):
    """An object has one name twice."""


class _TooLongError(Exception):
    """A whole number does not fit into 64 bits."""


def _cut(held: bytes, last: bool) -> int:  # noqa: FBT001
    return len(held) if last else held.rfind(b"\n") + 1


def _lines(piece: bytes) -> list[bytes]:
    return [line for line in piece.split(b"\n") if line and not line.isspace()]


def _with_surrogates(line: bytes) -> Any:
    """Return the value of a line that escapes lone surrogates, None if it is no JSON at all."""
    if not _SURROGATE_ESCAPE.search(line):
        return None
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _cleaned(value: Any) -> Any:
    """Return a JSON value with U+FFFD for each lone surrogate."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_cleaned(part) for part in value]
    if isinstance(value, dict):
        return {_cleaned(name): _cleaned(part) for name, part in value.items()}
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def _int64(digits: str) -> int:
    if len(digits) > len(str(_INT64.start)) or int(digits) not in _INT64:
        raise _TooLongError(digits[:40])
    return int(digits)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)
