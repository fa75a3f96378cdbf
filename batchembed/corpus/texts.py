"""From columns to the texts that are embedded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchembed.corpus.columns import Columns, mentioned
from batchembed.corpus.files import CorpusFile
from batchembed.corpus.formats import Batch
from batchembed.corpus.settings import CorpusSettings
from batchembed.corpus.sizes import value_bytes
from batchembed.errors import CorpusError

if TYPE_CHECKING:
    import polars as pl

_types = pa.types


class Texts:
    """Makes texts of one column, or of several by a template.

    In CSV an empty value is an empty text, not a missing one. Raises CorpusError for a column
    that cannot be text.
    """

    def __init__(self, columns: Columns, schema: pa.Schema, file: CorpusFile) -> None:
        self._columns = columns
        self._empty_is_text = file.kind in ("csv", "tsv")
        for name in columns.text:
            kind = plain_type(schema.field(name).type)
            if columns.template is None and not _is_text(kind):
                raise CorpusError(
                    f"column `{name}` of `{file.path}` is {schema.field(name).type}, not text",
                    hint=_instead(name, kind),
                )
            if columns.template is not None and _in_words(kind) is None:
                raise CorpusError(
                    f"column `{name}` of `{file.path}` is {schema.field(name).type}, which a "
                    "template cannot write",
                    hint="a template takes text, whole numbers, fractions, decimals, true/false "
                    "and dates; write the others as text in the corpus",
                )

    def sizes(self, rows: pa.RecordBatch) -> NDArray[np.int64]:
        """Return about how many bytes each row's text has, shape (n,)."""
        total = np.zeros(rows.num_rows, np.int64)
        for name in self._columns.text:
            total += value_bytes(rows.column(name))
        return total

    def render(self, batch: Batch, start: int, stop: int) -> list[str | None]:
        """Return the texts of the rows in [start, stop)."""
        rows = batch.rows.slice(start, stop - start)
        if not self._columns.text:
            return [None] * (stop - start)
        if self._columns.template is None:
            texts = self._one_column(rows)
        else:
            texts = self._by_template(rows)
        for position, row in batch.odd.items():
            if start <= position < stop:
                texts[position - start] = self._odd(row)
        return texts

    def _one_column(self, rows: pa.RecordBatch) -> list[str | None]:
        found = plain(rows.column(self._columns.text[0]))
        if self._empty_is_text:
            found = pc.fill_null(found, "")
        texts: list[str | None] = found.to_pylist()
        return texts

    def _by_template(self, rows: pa.RecordBatch) -> list[str | None]:
        import polars as pl

        names = {name: f"c{number}" for number, name in enumerate(self._columns.text)}
        frame = pl.DataFrame(
            [pl.Series(short, _words(rows, name)) for name, short in names.items()]
        )
        joined = pl.concat_str(
            [
                pl.col(names[column]).fill_null("") if column else pl.lit(literal)
                for literal, column in self._columns.template or ()
            ]
        )
        if not self._empty_is_text:
            empty = pl.all_horizontal(pl.all().is_null())
            joined = pl.when(empty).then(None).otherwise(joined)
        return frame.select(joined.alias("text")).to_series().to_list()

    def spans(
        self, batch: Batch, start: int, stop: int, column: str
    ) -> list[list[tuple[int, int]]]:
        """Return where in the texts of the rows in [start, stop) a column stands: (start, length).

        In characters; a template may have it more than once, and where it is empty it is nowhere.
        """
        rows = batch.rows.slice(start, stop - start)
        template = self._columns.template or (("", column),)
        words = {name: _words(rows, name).to_list() for _, name in template if name}
        for position, row in batch.odd.items():
            if start <= position < stop:
                for name, found in words.items():
                    found[position - start] = _word(row.get(name))
        return [
            list(_places(template, column, {name: found[at] for name, found in words.items()}))
            for at in range(stop - start)
        ]

    def _odd(self, row: Any) -> str | None:
        """Return the text of a row of JSON, lone surrogates and all."""
        if self._columns.template is None:
            found: str | None = row.get(self._columns.text[0])
            return found
        values = {name: row.get(name) for name in self._columns.text}
        if all(value is None for value in values.values()):
            return None
        return "".join(
            _word(values[column]) if column else literal
            for literal, column in self._columns.template
        )


def _places(
    template: Sequence[tuple[str, str | None]], column: str, words: Mapping[str, str | None]
) -> Iterator[tuple[int, int]]:
    """Yield (start, length) of each place of `column` in a text made by `template`."""
    at = 0
    for literal, name in template:
        length = len(words[name] or "") if name else len(literal)
        if name == column and length:
            yield at, length
        at += length


def rendered(rows: pa.RecordBatch, settings: CorpusSettings) -> list[str | None] | None:
    """Return the texts that a run made of `rows`; None where the rows hold none, or not all."""
    columns = mentioned(settings)
    if not columns.text or not set(columns.text) <= set(rows.schema.names):
        return None
    texts = Texts(columns, rows.schema, CorpusFile("the run", 0, 0, kind="arrow"))
    return texts.render(Batch(rows), 0, rows.num_rows)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values: without dictionary and extension."""
    if isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind.value_type if _types.is_dictionary(kind) else kind


def plain(values: pa.Array) -> pa.Array:
    """Return the values without dictionary and extension; nulls of no type become strings."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if _types.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values.cast(pa.string()) if _types.is_null(values.type) else values


def is_string(kind: pa.DataType) -> bool:
    """Return whether values of this (plain) type are strings."""
    return bool(
        _types.is_string(kind) or _types.is_large_string(kind) or _types.is_string_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return is_string(kind) or bool(_types.is_null(kind))


def _in_words(kind: pa.DataType) -> Callable[[Any], str] | None:
    """Return how a value of this type is written in a text; None: it is not.

    Spelled out here, because the texts make the keys: no library may change them.
    """
    if _is_text(kind):
        return str
    if _types.is_boolean(kind):
        return {True: "true", False: "false"}.__getitem__
    if _types.is_integer(kind) or _types.is_decimal(kind):
        return str
    if _types.is_floating(kind):
        return repr
    return _iso if _types.is_date(kind) else None


def _instead(name: str, kind: pa.DataType) -> str:
    if _in_words(kind) is None:
        return "name a column of text, or write this one as text in the corpus"
    return (
        f'to embed it as text all the same, set template = "{{{name}}}" under [corpus] '
        "instead of `text`"
    )


def _iso(date: Any) -> str:
    return str(date.isoformat())


def _words(rows: pa.RecordBatch, name: str) -> pl.Series:
    """Return a column as strings."""
    import polars as pl

    found = plain(rows.column(name))
    if _is_text(found.type):
        return pl.Series(pl.from_arrow(found))
    word = _in_words(found.type)
    assert word is not None, "checked when the corpus was scanned"
    try:
        words = [None if value is None else word(value) for value in found.to_pylist()]
    except (OverflowError, ValueError) as error:
        raise CorpusError(
            f"column `{name}` holds a date that the template cannot write: {error}",
            hint="dates go from year 1 to year 9999; write others as text in the corpus",
        ) from error
    return pl.Series(words, dtype=pl.String)


def _word(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else repr(value)
