"""A first job file for a corpus: commented, and such that it runs."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchembed import providers
from batchembed.job.writing import value

_COLUMN = 40  # where comments begin


@dataclass(frozen=True, slots=True)
class FirstJob:
    """What a first job file says; `columns` are those of the corpus, `model` None the usual one."""

    corpus: tuple[str, ...]
    text: str
    id: str | None
    columns: tuple[str, ...]
    provider: str
    model: str | None
    out: str


def first_job(told: FirstJob, path: Path) -> str:
    """Return the words of a job file that will stand at `path`; raises JobError."""
    provider = providers.info(told.provider)
    others = [name for name in told.columns if name != told.text]
    lines = [
        "# Run it from this folder; the same command again continues, whatever stopped it:",
        "#",
        f"#     batchembed run {shlex.quote(str(path))}",
        "#",
        "# docs/job-file.md of batchembed has every setting there is.",
        "",
        "[corpus]",
        _line("path", _path(told.corpus), 'a file, a folder, "data/*.csv", or a list of these'),
        _line("text", value(told.text), "the column to embed"),
        *(_comment(f"Also there: {', '.join(map(_name, others))}.") if others else ()),
        *_template(told),
        _line("id", value(told.id), "the column that names a row")
        if told.id is not None
        else '# id = "…"    # the column that names a row; without it, the row number does',
        "",
        "[model]  # all of it changes the vectors: another model is another run directory",
        _line("provider", value(told.provider), "`batchembed providers` lists the others"),
        _line("name", value(told.model or provider.model), ""),
    ]
    if provider.key_variable:
        lines += _comment(f"The key comes from {provider.key_variable} in the environment.")
    lines += [
        "",
        "[limits]",
        '# deadline = "4h"             # stop cleanly then; the same command goes on',
        _line("max_rejects", '"1%"', "more rows than that without a vector is a failure"),
    ]
    if told.provider != "local":
        lines += _comment("As your account says: requests then start evenly, just below them.")
        lines += ["# requests_per_minute = 600", "# tokens_per_minute = 1_000_000"]
    lines += [
        "",
        "[output]",
        _line("path", value(told.out), "the same table, with one more column: `embedding`"),
        "",
        "[similarity]  # at the end of the run; leave the table out for vectors alone",
        _line("top_k", "5", "the five nearest rows of each row"),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, told: str, comment: str) -> str:
    setting = f"{name} = {told}"
    return f"{setting:<{_COLUMN - 2}}  # {comment}" if comment else setting


def _comment(words: str) -> list[str]:
    return textwrap.wrap(words, 92, initial_indent="# ", subsequent_indent="# ")


def _name(column: str) -> str:
    """Return the name of a column for a comment, in quotes unless it is plain."""
    return column if re.fullmatch(r"[\w-]+", column) else value(column)


def _path(corpus: Sequence[str]) -> str:
    return value(corpus[0] if len(corpus) == 1 else list(corpus))


def _template(told: FirstJob) -> list[str]:
    """Return how a title and the text would be embedded together, where there is a title."""
    title = next((c for c in told.columns if c.lower() in {"title", "headline", "subject"}), None)
    if title is None or title == told.text:
        return []
    both = value(f"{{{title}}}\n\n{{{told.text}}}")
    return [_line("# template", both, "or, in place of `text`, both as one")]
