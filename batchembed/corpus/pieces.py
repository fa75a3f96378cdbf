"""Images, token ids and prompts of several pieces, read from their columns row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from batchembed.corpus import spans
from batchembed.corpus.columns import Columns
from batchembed.corpus.files import CorpusFile
from batchembed.corpus.images import ImageError, image_facts, image_size, load
from batchembed.corpus.sizes import is_bytes, value_bytes
from batchembed.corpus.spans import SpanError
from batchembed.corpus.texts import is_string, plain, plain_type
from batchembed.errors import CorpusError
from batchembed.prompts import Control, Image, Piece, Prompt, Text, Tokens

Where = Callable[[int], str]
"""Says in words where the row of a position is."""

MOST_ID = 2**31 - 1
_PROMPT = (
    'a prompt is a list such as [{"text": "What is this?"}, {"image": "photos/1.png"}, '
    '{"tokens": [5, 17]}]; each piece may have `controls`, an image also x, y and size'
)
_IMAGE = "an image is the path of its file, its bytes, or both in a struct of `path` and `bytes`"
_MORE = {"text": {"controls"}, "image": {"x", "y", "size", "controls"}, "tokens": {"controls"}}
_CROP = ("x", "y", "size")


def check_types(columns: Columns, schema: pa.Schema, file: CorpusFile) -> None:
    """Raise CorpusError unless the columns of images, token ids and prompts can hold such."""
    for name, fits, form in (
        (columns.image, _holds_images, _IMAGE),
        (columns.tokens, _holds_ids, "token ids are list<int>, or JSON text such as [5, 17]"),
        (columns.prompt, _holds_pieces, _PROMPT),
    ):
        if name is not None and not fits(plain_type(schema.field(name).type)):
            kind = schema.field(name).type
            raise CorpusError(f"column `{name}` of `{file.path}` is {kind}", hint=form)


class Pieces:
    """Makes prompts of the rows of one file."""

    def __init__(self, columns: Columns, file: CorpusFile) -> None:
        self._columns = columns
        self._file = file

    def sizes(self, rows: pa.RecordBatch) -> NDArray[np.int64]:
        """Return about how many bytes each row's images have, shape (n,); 0 where none."""
        total = np.zeros(rows.num_rows, np.int64)
        for name in (self._columns.image, self._columns.prompt):
            if name is None:
                continue
            column = plain(rows.column(name))
            if is_bytes(column.type) and not is_string(column.type):
                total += value_bytes(column)
                continue
            for at, value in enumerate(column.to_pylist()):
                total[at] += sum(image_size(each, self._file) for each in self._images_of(value))
        return total

    def facts(self, rows: pa.RecordBatch) -> Iterator[list[Any]]:
        """Yield place, size and time of every file that rows name as an image, in order."""
        for name in rows.schema.names:
            for value in plain(rows.column(name)).to_pylist():
                for image in self._images_of(value):
                    yield image_facts(image, self._file)

    def read(
        self,
        rows: pa.RecordBatch,
        texts: Sequence[str | None],
        controls: Sequence[tuple[Control, ...]] | None,
        where: Where,
        *,
        odd: Mapping[int, Mapping[str, Any]],
    ) -> list[Prompt | str]:
        """Return the prompt of each row, or the reason why it has none.

        `odd` holds, by position, rows of JSON that no Arrow table can hold. `texts` and their
        `controls` go after the images. Raises CorpusError for what is no prompt, for controls that
        are impossible, and for an address in the place of a file.
        """
        found: list[Prompt | str] = []
        for at, (value, own) in enumerate(self._values(rows, odd)):
            try:
                pieces = [self._piece(each) for each in self._told(value, own)]
            except ImageError as error:
                found.append(error.reason)
                continue
            except (SpanError, orjson.JSONDecodeError) as error:
                raise CorpusError(f"{where(at)} cannot be used: {error}", hint=_PROMPT) from error
            if texts[at]:
                pieces.append(Text(texts[at] or "", controls[at] if controls else ()))
            found.append(tuple(pieces) or self._nothing())
        return found

    def _nothing(self) -> str:
        only_images = self._columns.image is not None and not self._columns.text
        return "null_image" if only_images else "empty_prompt"

    def _values(
        self, rows: pa.RecordBatch, odd: Mapping[int, Mapping[str, Any]]
    ) -> Iterator[tuple[Any, Any]]:
        """Yield the value of each row, and the controls beside it that are not those of a text."""
        columns = self._columns
        name = columns.prompt or columns.image or columns.tokens
        values = plain(rows.column(name)).to_pylist()
        for at, row in odd.items():
            values[at] = row.get(name or "")
        own = [None] * len(values)
        if columns.controls is not None and not columns.text:
            own = plain(rows.column(columns.controls)).to_pylist()
        yield from zip(values, own, strict=True)

    def _told(self, value: Any, controls: Any) -> list[Any]:
        """Return the pieces of a row, but its text, as a column of prompts would have them."""
        if self._columns.prompt is not None:
            return spans.listed(_parsed(value))
        if value is None or value in ("", []) or _is_empty(value):
            return []
        return [_as_piece("image" if self._columns.image else "tokens", value, _parsed(controls))]

    def _piece(self, told: Any) -> Piece:
        given = {k: v for k, v in told.items() if v is not None} if isinstance(told, dict) else {}
        kinds = given.keys() & _MORE.keys()
        if len(kinds) != 1:
            raise SpanError(f"`{str(told)[:80]}` is not one text, image or list of token ids")
        (kind,) = kinds
        if extra := sorted(given.keys() - {kind} - _MORE[kind]):
            raise SpanError(f"a piece of {kind} has no `{extra[0]}`")
        value, controls = given[kind], given.get("controls")
        if kind == "text":
            if not isinstance(value, str):
                raise SpanError(f"text is `{str(value)[:80]}`, which is no text")
            return Text(value, spans.text_controls(controls, len(value)))
        if kind == "tokens":
            ids = _ids(_parsed(value))
            return Tokens(ids, spans.token_controls(controls, len(ids)))
        crop, own = _crop(given), spans.image_controls(controls)
        return Image(load(value, self._file), crop, own)

    def _images_of(self, value: Any) -> list[Any]:
        """Return the images of a value: a path, or a prompt. In mistakes there are none."""
        if isinstance(value, str) and self._columns.prompt is not None:
            try:
                value = orjson.loads(value)
            except orjson.JSONDecodeError:
                return []
        pieces = value if isinstance(value, list) else [{"image": value}]
        told = [piece.get("image") for piece in pieces if isinstance(piece, dict)]
        return [image for image in told if image is not None]


def _as_piece(kind: str, value: Any, controls: Any) -> dict[str, Any]:
    """Return a value of a column of images or token ids as a piece of a prompt."""
    if not isinstance(value, dict):
        return {kind: value, "controls": controls}
    picture = {name: value.get(name) for name in ("path", "bytes")}
    more = {name: found for name, found in value.items() if name not in ("path", "bytes")}
    return {kind: picture, "controls": controls, **more}


def _is_empty(value: Any) -> bool:
    """Return whether a value is the struct of an image that has neither path nor bytes."""
    return isinstance(value, dict) and value.get("path") is None and value.get("bytes") is None


def _parsed(value: Any) -> Any:
    """Return what JSON text holds; other values as they are."""
    if isinstance(value, str):
        return orjson.loads(value) if value.strip() else None
    return value


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise SpanError(f"tokens are `{str(value)[:80]}`, not a list of token ids")
    for number in value:
        if type(number) is not int or not 0 <= number <= MOST_ID:
            raise SpanError(f"the token id `{str(number)[:40]}` is no number from 0 to {MOST_ID}")
    return tuple(value)


def _crop(given: dict[str, Any]) -> tuple[int, int, int] | None:
    told = [name for name in _CROP if name in given]
    if not told:
        return None
    if len(told) < len(_CROP):
        raise SpanError(f"an image is cut out by x, y and size together, not by {told[0]} alone")
    x, y, size = (spans.whole_number(given[name], name) for name in _CROP)
    if x < 0 or y < 0 or size < 1:
        raise SpanError(f"x {x}, y {y} and size {size} cut nothing out of an image")
    return x, y, size


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        names = {field.name for field in kind}
        return bool(names & {"path", "bytes"}) and names <= {"path", "bytes", "controls", *_CROP}
    return is_bytes(kind) or bool(pa.types.is_null(kind))


def _holds_ids(kind: pa.DataType) -> bool:
    inner = _inner(kind)
    if inner is None:
        return is_string(kind) or bool(pa.types.is_null(kind))
    return bool(pa.types.is_integer(inner) or pa.types.is_null(inner))


def _holds_pieces(kind: pa.DataType) -> bool:
    inner = _inner(kind)
    if inner is None:
        return is_string(kind) or bool(pa.types.is_null(kind))
    if not pa.types.is_struct(inner):
        return bool(pa.types.is_null(inner))
    names = {field.name for field in inner}
    return bool(names & _MORE.keys()) and names <= {*_MORE, *_CROP, "controls"}


def _inner(kind: pa.DataType) -> pa.DataType | None:
    types = pa.types
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return kind.value_type if any(check(kind) for check in lists) else None
