"""CSV and TSV files: every column is text, exactly as written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from batchembed.corpus import quotes
from batchembed.corpus.files import CorpusFile, broken, reading, said
from batchembed.corpus.formats import BATCH_ROWS, Batch
from batchembed.corpus.lines import Place, Source, Transcoded, bad_utf8, count_lines, pieces
from batchembed.corpus.settings import CorpusSettings
from batchembed.errors import CorpusError

_QUOTE_HINT = (
    'close the quote or double it; if quotes are plain characters in this file, set `quote = ""` '
    "under [corpus]"
)


class Delimited:
    """Reads CSV and TSV. An empty value is null, or "" where it is quoted."""

    def __init__(self, settings: CorpusSettings) -> None:
        self._settings = settings

    def schema(self, file: CorpusFile) -> pa.Schema:
        """Return the names in the first row; every type is string."""
        place = Place()
        with reading(file), self._source(file, place) as source:
            dialect = self._dialect(file)
            for piece in pieces(source, _Cutter(file, dialect, place), file, place):
                if not piece.strip(b"\r\n"):
                    continue
                header, _ = _split_header(piece, dialect)
                return pa.schema(
                    [(name, pa.string()) for name in self._names(file, header, dialect)]
                )
        raise broken(
            file,
            "it is empty: there is no row of column names",
            hint="the first row of a CSV file must name its columns",
        )

    def rows(self, file: CorpusFile) -> int | None:  # noqa: ARG002
        """Return None: a CSV file does not tell how many rows it has."""
        return None

    def batches(
        self, file: CorpusFile, schema: pa.Schema, columns: Sequence[str]
    ) -> Iterator[Batch]:
        """Yield `columns` of all rows in batches of bounded size."""
        place = Place()
        dialect = self._dialect(file)
        names: list[str] = []
        with reading(file), self._source(file, place) as source:
            for piece in pieces(source, _Cutter(file, dialect, place), file, place):
                if not piece.strip(b"\r\n"):
                    continue
                rest, skipped = piece, 0
                if not names:
                    header, rest = _split_header(piece, dialect)
                    names = self._names(file, header, dialect)
                    skipped = count_lines(piece[: len(piece) - len(rest)])
                if not rest.strip(b"\r\n"):
                    continue
                try:
                    found = _parse(rest, dialect, names, columns)
                except pa.ArrowException as error:
                    start = Place(place.rows, place.line + skipped)
                    raise _explain(file, rest, (dialect, len(names), start), error) from error
                for part in found.to_batches(max_chunksize=BATCH_ROWS):
                    yield Batch(part.cast(pa.schema([schema.field(name) for name in columns])))
                place.rows += found.num_rows

    def line(self, file: CorpusFile, row: int) -> int | None:
        """Return the line at which a row begins, by reading the file up to it."""
        place = Place(rows=-1)  # the header is read as the row before the first one
        dialect = self._dialect(file)
        with reading(file), self._source(file, place) as source:
            for piece in pieces(source, _Cutter(file, dialect, place), file, place):
                stretches = quotes.quoted(piece, dialect)
                starts = quotes.row_starts(piece, dialect, stretches)
                if row - place.rows < len(starts):
                    return place.line + count_lines(piece[: starts[row - place.rows]])
                place.rows += len(starts)
        return None

    def _dialect(self, file: CorpusFile) -> quotes.Dialect:
        delimiter = self._settings.delimiter or ("\t" if file.kind == "tsv" else ",")
        for name, value in (("delimiter", delimiter), ("quote", self._settings.quote or '"')):
            if len(value) != 1 or not value.isascii() or value.isalnum() or value in "\r\n\0":
                raise CorpusError(
                    f"`corpus.{name}` is `{value}`",
                    hint="it must be one ASCII character, and no letter, digit or line end",
                )
        if delimiter == self._settings.quote:
            raise CorpusError(
                f"`corpus.delimiter` and `corpus.quote` are both `{delimiter}`",
                hint="set one of them to another character",
            )
        return quotes.Dialect(delimiter.encode(), self._settings.quote.encode())

    @contextmanager
    def _source(self, file: CorpusFile, place: Place) -> Iterator[Source]:
        encoding = self._settings.encoding
        try:
            with suppress(UnicodeDecodeError):
                b"a".decode(encoding)
        except LookupError as error:
            raise CorpusError(
                f"`corpus.encoding` is `{encoding}`, which is no known encoding of text",
                hint='such as "utf-8", "utf-16", "latin-1", "cp1252", "shift_jis"',
            ) from error
        with closing(file.open_stream()) as raw:
            if encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig"):
                yield raw
                return
            try:
                yield Transcoded(raw, encoding)
            except UnicodeDecodeError as error:
                found = " ".join(f"0x{byte:02x}" for byte in error.object[error.start : error.end])
                raise broken(
                    file,
                    f"after line {place.line:,} there are bytes ({found[:40]}) that are not "
                    f"`{encoding}`: {error.reason}",
                    hint="set `encoding` under [corpus] to what the file was saved as",
                ) from error

    def _names(self, file: CorpusFile, header: bytes, dialect: quotes.Dialect) -> list[str]:
        found = bad_utf8(header)
        if found:
            raise _not_utf8(file, "the row of column names", found[1])
        count = int(quotes.fields(header, dialect, quotes.quoted(header, dialect))[1][0])
        parsed = _parse(header, dialect, [str(number) for number in range(count)], None)
        return [column[0].as_py() or "" for column in parsed.columns]


class _Cutter:
    """Finds the end of the last whole row, and the quotes that are not as they should be."""

    def __init__(self, file: CorpusFile, dialect: quotes.Dialect, place: Place) -> None:
        self._file = file
        self._dialect = dialect
        self._place = place

    def __call__(self, held: bytes, last: bool) -> int:  # noqa: FBT001
        stretches = quotes.quoted(held, self._dialect)
        if stretches.junk_at is not None:
            raise self._error(held, stretches.junk_at, "has text after a closing quote")
        if last:
            if stretches.open_at is not None:
                raise self._error(held, stretches.open_at, "opens a quote that is never closed")
            return len(held)
        ends = quotes.row_ends(held, self._dialect, stretches)
        if len(ends) and ends[-1] == len(held) - 1 and held.endswith(b"\r"):
            ends = ends[:-1]  # the \n of this \r may follow
        return int(ends[-1]) + 1 if len(ends) else 0

    def _error(self, held: bytes, position: int, what: str) -> CorpusError:
        line = self._place.line + count_lines(held[:position])
        return broken(self._file, f"line {line:,} {what}", hint=_QUOTE_HINT)


def _split_header(piece: bytes, dialect: quotes.Dialect) -> tuple[bytes, bytes]:
    """Return the first row, and all after it."""
    stretches = quotes.quoted(piece, dialect)
    starts = quotes.row_starts(piece, dialect, stretches)
    if len(starts) < 2:  # noqa: PLR2004 - the header and a first row
        return piece, b""
    return piece[: starts[1]], piece[starts[1] :]


def _parse(
    text: bytes, dialect: quotes.Dialect, names: Sequence[str], columns: Sequence[str] | None
) -> pa.Table:
    """Parse whole rows without a header; `columns` None keeps all."""
    return pacsv.read_csv(
        pa.BufferReader(text),
        read_options=pacsv.ReadOptions(
            use_threads=False, block_size=len(text) + 1, column_names=list(names)
        ),
        parse_options=pacsv.ParseOptions(
            delimiter=dialect.delimiter.decode(),
            quote_char=dialect.quote.decode() or False,
            newlines_in_values=bool(dialect.quote),
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=None if columns is None else list(columns),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )


def _explain(
    file: CorpusFile,
    text: bytes,
    where: tuple[quotes.Dialect, int, Place],
    error: pa.ArrowException,
) -> CorpusError:
    """Return what is wrong with rows that could not be parsed, and where."""
    dialect, expected, place = where
    starts, counts = quotes.fields(text, dialect, quotes.quoted(text, dialect))
    wrong = np.flatnonzero(counts != expected)
    found = bad_utf8(text)
    if found:
        row = int(np.searchsorted(starts, found[0], side="right")) - 1
        line = place.line + count_lines(text[: found[0]])
        return _not_utf8(file, f"row {place.rows + row + 1:,} (line {line:,})", found[1])
    if len(wrong):
        row = int(wrong[0])
        line = place.line + count_lines(text[: starts[row]])
        return broken(
            file,
            f"row {place.rows + row + 1:,} (line {line:,}) has {counts[row]:,} values, and the "
            f"first row names {expected:,} columns",
            hint="quote values that hold the delimiter, and write an empty value for a missing "
            "one; or set `delimiter` under [corpus]",
        )
    return broken(file, said(error))


def _not_utf8(file: CorpusFile, where: str, found: str) -> CorpusError:
    return broken(
        file,
        f"{where} holds bytes ({found}) that are not UTF-8",
        hint='set `encoding` under [corpus], such as "latin-1", "cp1252" or "utf-16", or save '
        "the file as UTF-8",
    )
