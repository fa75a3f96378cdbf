"""Which columns of the files are read for what, checked against the settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from batchembed.corpus import spans
from batchembed.corpus.files import CorpusFile
from batchembed.corpus.settings import CorpusSettings
from batchembed.errors import CorpusError

RESERVED = ("embedding", "embedding_key")

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[^{}]+|[{}]")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of columns by use. `template` is (literal, column or None) in order, None if unused."""

    text: tuple[str, ...]
    template: tuple[tuple[str, str | None], ...] | None
    id: str | None
    role: str | None
    controls: str | None
    kept: tuple[str, ...]
    image: str | None = None
    tokens: str | None = None
    prompt: str | None = None

    @property
    def beyond_text(self) -> bool:
        """Whether more than texts are embedded: images, token ids, prompts."""
        return bool(self.image or self.tokens or self.prompt)

    def controlled(self) -> tuple[str, ...]:
        """Return the names of a control of the column `controls`: of texts, if there are any."""
        if self.text or not self.beyond_text:
            return spans.TEXT
        return spans.TOKENS if self.tokens else spans.IMAGE

    def named(self) -> tuple[str, ...]:
        """Return the columns that make requests, each once."""
        found = (
            *(*self.text, self.image, self.tokens, self.prompt),
            *(self.id, self.role, self.controls),
        )
        return tuple(dict.fromkeys(name for name in found if name is not None))

    def all(self) -> tuple[str, ...]:
        """Return every column that is read, each once."""
        return tuple(dict.fromkeys((*self.named(), *self.kept)))


def parse_template(template: str) -> tuple[tuple[str, str | None], ...]:
    """Return the parts of a template: ("literal", None) or ("", "column")."""
    parts: list[tuple[str, str | None]] = []
    for match in _TOKEN.finditer(template):
        piece = match[0]
        if match[1] is not None:
            parts.append(("", match[1]))
        elif piece in "{}":
            raise CorpusError(
                f"`corpus.template` has a single `{piece}` at character {match.start() + 1}",
                hint='columns are written {like_this}; "{{" and "}}" mean the braces themselves',
            )
        else:
            parts.append((piece[:1] if piece in ("{{", "}}") else piece, None))
    if not any(column for _, column in parts):
        raise CorpusError(
            f"`corpus.template` names no column: `{template}`",
            hint='write column names in braces, such as "{title}\\n\\n{body}"',
        )
    return tuple(parts)


def mentioned(settings: CorpusSettings) -> Columns:
    """Return the columns that the settings name; `kept` is what `keep` lists.

    Raises CorpusError for settings that contradict each other.
    """
    _check_sources(settings)
    template = parse_template(settings.template) if settings.template is not None else None
    texts = (
        dict.fromkeys(column for _, column in template if column)
        if template is not None
        else dict.fromkeys([settings.text] if settings.text is not None else [])
    )
    twice = [name for name in settings.keep or () if (settings.keep or ()).count(name) > 1]
    if twice:
        raise CorpusError(f"`corpus.keep` lists `{twice[0]}` twice", hint="list each column once")
    return Columns(
        tuple(texts),
        template,
        settings.id,
        settings.role,
        settings.controls,
        settings.keep or (),
        image=settings.image,
        tokens=settings.tokens,
        prompt=settings.prompt,
    )


def _check_sources(settings: CorpusSettings) -> None:
    """Raise CorpusError unless the settings say once, and only once, what is embedded."""
    given = [
        name
        for name in ("text", "template", "image", "tokens", "prompt")
        if getattr(settings, name) is not None
    ]
    hint = 'such as text = "body", or template = "{title}\\n\\n{body}"'
    if not given or {"text", "template"} <= set(given):
        both = "both are set" if given else "neither is set"
        raise CorpusError(
            f"the corpus needs either `corpus.text` or `corpus.template`: {both}", hint=hint
        )
    alone = next((name for name in ("prompt", "tokens") if name in given), None)
    if alone is not None and len(given) > 1:
        other = next(name for name in given if name != alone)
        raise CorpusError(
            f"`corpus.{alone}` stands for all that is embedded, and `corpus.{other}` is set too",
            hint="put both into a column of prompts, and name that one as `prompt`",
        )
    if settings.prompt is not None and settings.controls is not None:
        raise CorpusError(
            "`corpus.controls` has no meaning with `corpus.prompt`",
            hint="give each piece of a prompt its own `controls`",
        )


def choose(settings: CorpusSettings, file: CorpusFile, schema: pa.Schema) -> Columns:
    """Return the columns to read of files with this schema. Raises CorpusError."""
    asked = mentioned(settings)
    names = schema.names
    _check_names(file, names)
    for setting, name in _wishes(settings, asked):
        if name not in names:
            raise CorpusError(
                f"`{file.path}` has no column `{name}`, which `{setting}` names",
                hint=_other_delimiter(file, names) or _nearest(name, names),
            )
    kept = tuple(names) if settings.keep is None else asked.kept
    if asked.id is not None and asked.id not in kept:
        kept = (asked.id, *kept)
    for name in kept:
        if name in RESERVED:
            raise CorpusError(
                f"the corpus has a column `{name}`, which is the name of a column of the output",
                hint="list the columns to carry over in `keep` under [corpus], without this one, "
                "or rename it",
            )
    return replace(asked, kept=kept)


def common_schema(
    files: Sequence[CorpusFile], schemas: Sequence[pa.Schema], columns: Columns, *, every: bool
) -> pa.Schema:
    """Return the fields of the columns that are read: those of the first file.

    Raises CorpusError unless all files have these columns under the same types (and, if `every`,
    no others). Metadata may differ; a field may be null if it may be in any file.
    """
    first = schemas[0]
    wanted = columns.all()
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        _check_names(file, schema.names)
        missing = [name for name in wanted if name not in schema.names]
        extra = [name for name in schema.names if name not in first.names] if every else []
        if missing or extra:
            has, lacks = (files[0], file) if missing else (file, files[0])
            raise CorpusError(
                f"`{has.path}` has a column `{(missing or extra)[0]}`, and `{lacks.path}` has not",
                hint="all files of a corpus need the same columns; `keep` under [corpus] can "
                "leave some out",
            )
        for name in wanted:
            mine, theirs = first.field(name).type, schema.field(name).type
            if mine != theirs:
                raise CorpusError(
                    f"column `{name}` is {mine} in `{files[0].path}` and {theirs} in `{file.path}`",
                    hint="write all files with the same types, or leave the column out of "
                    "`keep` under [corpus]",
                )
    return pa.schema(
        [
            first.field(name).with_nullable(any(other.field(name).nullable for other in schemas))
            for name in wanted
        ]
    )


def _check_names(file: CorpusFile, names: Sequence[str]) -> None:
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise CorpusError(
            f"`{file.path}` has two columns named `{twice[0]}`",
            hint="give every column a name of its own",
        )


def _wishes(settings: CorpusSettings, asked: Columns) -> list[tuple[str, str]]:
    text = "corpus.text" if settings.template is None else "corpus.template"
    named = [(text, name) for name in asked.text]
    single = [
        (name, getattr(asked, name))
        for name in ("image", "tokens", "prompt", "id", "role", "controls")
    ]
    named += [(f"corpus.{setting}", name) for setting, name in single if name is not None]
    return named + [("corpus.keep", name) for name in asked.kept]


def _other_delimiter(file: CorpusFile, names: Sequence[str]) -> str:
    """Return what to set where one column's name looks like the names of several."""
    if len(names) != 1 or file.kind not in {"csv", "tsv"}:
        return ""
    for mark, written in ((";", ";"), ("\t", "\\t"), ("|", "|"), (",", ",")):
        if mark in names[0]:
            columns = ", ".join(f"`{one.strip()}`" for one in names[0].split(mark)[:12])
            told = "tabs" if mark == "\t" else f"`{mark}`"
            setting = f"--set 'corpus.delimiter=\"{written}\"'"
            return f"{told} seem to part its columns, {columns}: {setting}"
    return ""


def _nearest(name: str, names: Sequence[str]) -> str:
    folded = {other.strip().casefold(): other for other in names}
    near = difflib.get_close_matches(name.strip().casefold(), folded, 1)
    if near:
        return f"did you mean `{folded[near[0]]}`?"
    shown = ", ".join(f"`{other}`" for other in names[:12]) or "no column at all"
    return f"it has {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")  # noqa: PLR2004
