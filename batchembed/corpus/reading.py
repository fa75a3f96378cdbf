"""A corpus: its files, its columns, and the passes over its rows."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from batchembed.corpus import ids, marks, pieces
from batchembed.corpus.columns import Columns, choose, common_schema, mentioned
from batchembed.corpus.delimited import Delimited
from batchembed.corpus.files import CorpusFile, broken
from batchembed.corpus.finding import find
from batchembed.corpus.formats import Batch, Format, cuts
from batchembed.corpus.ipc import Ipc
from batchembed.corpus.jsonl import JsonLines
from batchembed.corpus.jsontypes import ContradictionError, merge
from batchembed.corpus.parquet import Parquet
from batchembed.corpus.settings import CorpusSettings
from batchembed.corpus.texts import Texts, plain
from batchembed.errors import CorpusError
from batchembed.exchange import Control, Role
from batchembed.prompts import Prompt

_FORMAT = 1
_BYTES_A_ROW = 256  # of a corpus whose rows are not counted yet; only ever a guess


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows as a run needs them; `first` is the number (from 0) of the first one.

    `roles` and `controls` are None when the corpus has no column of them. `spans` says where in
    each text a column stands, as (start, length). `prompts`, where more than texts are embedded,
    reads each row's prompt, images and all, or gives the reason why it has none; the texts and
    their controls are then part of these.
    """

    first: int
    texts: list[str | None]
    roles: list[Role] | None = None
    controls: list[tuple[Control, ...]] | None = None
    spans: Callable[[str], list[list[tuple[int, int]]]] | None = None
    prompts: Callable[[], list[Prompt | str]] | None = None


def scan(settings: CorpusSettings, *, scratch: Path | None = None) -> Corpus:
    """Find the files, read their schemas and check the columns; raises CorpusError.

    JSON Lines have no schema, so they are read once for it. `scratch` is a folder for the ids of
    a large corpus while they are checked (None: the system's temporary folder).
    """
    asked = mentioned(settings)
    files = find(settings.path)
    reader = format_of(files[0], settings, asked)
    schemas = [reader.schema(file) for file in files]
    if files[0].kind == "jsonl":
        schemas = _merged(files, schemas, asked)
    columns = choose(settings, files[0], schemas[0])
    schema = common_schema(files, schemas, columns, every=settings.keep is None)
    return Corpus(_Plan(files, settings, columns, schema, reader), scratch=scratch)


@dataclass(frozen=True, slots=True)
class _Plan:
    files: tuple[CorpusFile, ...]
    settings: CorpusSettings
    columns: Columns
    schema: pa.Schema
    format: Format


class Corpus:
    """A scanned corpus. Rows have the same order, hence the same numbers, in every pass.

    The first whole pass of `texts` reads every column that is kept and checks everything that
    can be wrong, ids included, so that no later pass meets damage.
    """

    def __init__(self, plan: _Plan, *, scratch: Path | None = None) -> None:
        self.files = plan.files
        self._plan = plan
        self._scratch = scratch
        self._reader = plan.format
        self._columns = plan.columns
        self._texts = Texts(plan.columns, plan.schema, plan.files[0])
        marks.check_types(plan.columns, plan.schema, plan.files[0])
        pieces.check_types(plan.columns, plan.schema, plan.files[0])
        ids.check_type(plan.columns, plan.schema, plan.files[0])
        self.kept_schema = pa.schema([plan.schema.field(name) for name in plan.columns.kept])
        columns = plan.columns
        self.embedded = (*columns.text, *filter(None, (columns.image, columns.tokens)))
        self.id_field = (
            pa.field("row", pa.int64(), nullable=False)
            if plan.columns.id is None
            else plan.schema.field(plan.columns.id)
        )
        known = [self._reader.rows(file) for file in self.files]
        told = [rows for rows in known if rows is not None]
        self.rows_known = sum(told) if len(told) == len(known) else None
        self.rows_about = self.rows_known or sum(f.bytes for f in self.files) // _BYTES_A_ROW
        self._starts = [0]
        self._checked = False

    def fingerprint(self) -> str:
        """Return 32 hex digits of names, sizes, times and settings: equal = nothing to re-read."""
        told = {
            "format": _FORMAT,
            "settings": self._plan.settings.told(),
            "files": [[*file.name(), file.bytes, file.mtime_ns] for file in self.files],
        }
        if self._columns.beyond_text:
            told["images"] = self._images()
        canonical = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
        return hashlib.blake2b(canonical, digest_size=16).hexdigest()

    def unchanged(self) -> None:
        """Raise CorpusError if a file is not as it was when the corpus was scanned."""
        for file in self.files:
            file.check_unchanged()

    def texts(self) -> Iterator[Rows]:
        """Yield all rows in order: at most 8,192 and about 8 MB of text at a time."""
        check = None if self._checked else ids.IdCheck(self._scratch)
        columns = self._columns.named() if self._checked else self._columns.all()
        try:
            for first, batch in self._batches(columns):
                if check is not None and self._columns.id is not None:
                    self._add_ids(check, batch.rows.column(self._columns.id), first)
                sizes = self._texts.sizes(batch.rows)
                if self._columns.beyond_text:
                    sizes = sizes + self._pieces(first).sizes(batch.rows)
                for start, stop in cuts(sizes):
                    yield self._rows(batch, (start, stop), first + start)
            if check is not None:
                self._check_ids(check)
                self._checked = True
        finally:
            if check is not None:
                check.close()

    def metadata(self) -> Iterator[tuple[pa.Array, pa.RecordBatch]]:
        """Yield (ids, kept columns) of all rows in order.

        A batch of no columns knows no length: that of the ids holds.
        """
        kept = self._columns.kept
        for first, batch in self._batches(kept or self._columns.named()[:1]):
            rows = batch.rows.num_rows
            found = (
                pa.array(np.arange(first, first + rows, dtype=np.int64))
                if self._columns.id is None
                else batch.rows.column(self._columns.id)
            )
            arrays = [batch.rows.column(name) for name in kept]
            yield found, pa.RecordBatch.from_arrays(arrays, schema=self.kept_schema)

    def where(self, row: int) -> str:
        """Return in words where a row is: file, row within it (from 1), line if it has lines.

        Reads a text file up to the row, so it is for messages. The row must have been read.
        """
        number = self._number(row)
        file = self.files[number]
        within = row - self._starts[number]
        line = self._reader.line(file, within)
        return f"`{file.path}`, row {within + 1:,}" + (f" (line {line:,})" if line else "")

    def _number(self, row: int) -> int:
        """Return the number of the file that a row is in that has been read."""
        return min(bisect_right(self._starts, row), len(self.files)) - 1

    def _pieces(self, row: int) -> pieces.Pieces:
        return pieces.Pieces(self._columns, self.files[self._number(row)])

    def _images(self) -> str:
        """Return 32 hex digits of places, sizes and times of all images that rows name."""
        state = hashlib.blake2b(digest_size=16)
        columns = [
            name
            for name in (self._columns.image, self._columns.prompt)
            if name and not pa.types.is_binary(self._plan.schema.field(name).type)
        ]
        for first, batch in self._batches(columns) if columns else ():
            for told in self._pieces(first).facts(batch.rows):
                state.update(orjson.dumps(told))
        return state.hexdigest()

    def _batches(self, columns: Sequence[str]) -> Iterator[tuple[int, Batch]]:
        """Yield (number of the first row, rows) of all files, which must not have changed."""
        first = 0
        for number, file in enumerate(self.files):
            file.check_unchanged()
            try:
                for batch in self._reader.batches(file, self._plan.schema, columns):
                    yield first, batch
                    first += batch.rows.num_rows
            except CorpusError:
                file.check_unchanged()  # the better reason, if it is one
                raise
            file.check_unchanged()
            if len(self._starts) == number + 1:
                self._starts.append(first)
            if self._starts[number + 1] != first:
                raise broken(
                    file,
                    f"it has {first - self._starts[number]:,} rows now and had "
                    f"{self._starts[number + 1] - self._starts[number]:,} before",
                    hint="it was written while the run was reading it: run the same command again",
                )

    def _rows(self, batch: Batch, span: tuple[int, int], first: int) -> Rows:
        start, stop = span
        texts = self._texts.render(batch, start, stop)
        roles = controls = None

        def where(position: int) -> str:
            return self.where(first + position)

        if self._columns.role is not None:
            column = batch.rows.column(self._columns.role).slice(start, stop - start)
            roles = marks.roles(column, self._columns.role, where)
        if self._columns.controls is not None and self._columns.text:
            column = batch.rows.column(self._columns.controls).slice(start, stop - start)
            controls = marks.controls(column, texts, where)
        spans = partial(self._texts.spans, batch, start, stop)
        if not self._columns.beyond_text:
            return Rows(first, texts, roles, controls, spans)
        rows = batch.rows.slice(start, stop - start)
        odd = {at - start: row for at, row in batch.odd.items() if start <= at < stop}
        prompts = partial(self._pieces(first).read, rows, texts, controls, where, odd=odd)
        return Rows(first, texts, roles, controls, spans, prompts)

    def _add_ids(self, check: ids.IdCheck, column: pa.Array, first: int) -> None:
        if column.null_count:
            position = int(pc.indices_nonzero(column.is_null())[0].as_py())
            raise CorpusError(
                f"{self.where(first + position)} has no id in column `{self._columns.id}`",
                hint="give every row an id, or leave `corpus.id` out: then the row number is it",
            )
        check.add(column, first)

    def _check_ids(self, check: ids.IdCheck) -> None:
        pairs = check.suspects()
        if not pairs or self._columns.id is None:
            return
        wanted = np.unique(np.array(pairs))
        values: dict[int, Any] = {}
        for first, batch in self._batches((self._columns.id,)):
            here = wanted[(wanted >= first) & (wanted < first + batch.rows.num_rows)]
            column = plain(batch.rows.column(self._columns.id))
            values.update((row, column[row - first]) for row in here.tolist())
        error = ids.same(pairs, values, self.where)
        if error is not None:
            raise error


def format_of(file: CorpusFile, settings: CorpusSettings, asked: Columns) -> Format:
    """Return what reads files like this one."""
    if file.kind == "parquet":
        return Parquet()
    if file.kind == "arrow":
        return Ipc()
    if file.kind == "jsonl":
        return JsonLines(None if settings.keep is None else frozenset(asked.all()))
    return Delimited(settings)


def _merged(
    files: Sequence[CorpusFile], schemas: Sequence[pa.Schema], asked: Columns
) -> list[pa.Schema]:
    """Return, for every file, the one schema that holds the values of all of them.

    Without a single row there are no columns either: those that the settings name are as good.
    """
    types: dict[str, pa.DataType] = {}
    for file, schema in zip(files, schemas, strict=True):
        for field in schema:
            try:
                types[field.name] = merge(types.get(field.name, pa.null()), field.type)
            except ContradictionError as error:
                raise CorpusError(
                    f"column `{field.name}` of `{file.path}` does not go with that of the files "
                    f"before it: {error}",
                    hint="write the column with one kind of value, or leave it out of `keep` "
                    "under [corpus]",
                ) from error
    types = types or dict.fromkeys(asked.all(), pa.null())
    return [pa.schema(list(types.items()))] * len(files)
