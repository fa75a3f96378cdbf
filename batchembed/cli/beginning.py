"""The command that begins: a first job file, asked for where no option says."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchembed.cli.frame import answer, as_json, leaves, say
from batchembed.errors import JobError, UsageError

if TYPE_CHECKING:
    from batchembed.api import Found


@click.command()
@click.argument("corpus", nargs=-1)
@click.option("--text", metavar="COL", help="The column to embed.")
@click.option("--id", "id_", metavar="COL", help="The column that names a row.")
@click.option("--provider", metavar="P", help="`batchembed providers` lists them.")
@click.option("--model", metavar="M", help="The provider's default if not given.")
@click.option("--out", metavar="RUN", help="The run directory.")
@click.option("--job", metavar="FILE", type=click.Path(path_type=Path), help="The file to write.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@as_json
@leaves
def init(corpus: tuple[str, ...], as_json: bool, **told: Any) -> None:
    """Write a first job file for CORPUS: commented, and such that it runs.

    On a terminal, what no option says is asked; elsewhere, the likely answer is taken.

    \b
    Example: batchembed init sample_data/articles.parquet --out runs/articles
    """
    from batchembed import api
    from batchembed.job import FirstJob
    from batchembed.words import begun_words

    paths = corpus or _asked_paths()
    found = api.look_at(paths)
    stem = Path(paths[0].rstrip("/*")).name.split(".")[0] or "corpus"
    job = FirstJob(
        corpus=paths,
        text=told["text"] or _asked_text(found),
        id=told["id_"] or found.id,
        columns=found.columns,
        provider=told["provider"] or _asked_provider(),
        model=told["model"],
        out=told["out"] or _ask("Where should the vectors go?", f"runs/{stem}"),
    )
    path = told["job"] or Path(f"{stem}.toml")
    api.begin(job, path, force=told["force"])
    answer({"job": str(path), **_told(job)}, begun_words(job, path), as_json=as_json)


def _told(job: Any) -> dict[str, Any]:
    return {name: getattr(job, name) for name in ("corpus", "text", "id", "provider", "out")}


def _ask(question: str, likely: str) -> str:
    """Ask a person; where there is none, take the likely answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return likely
    return str(click.prompt(question, default=likely, err=True))


def _asked_paths() -> tuple[str, ...]:
    path = _ask("Which file, folder or glob has the texts?", "")
    if not path:
        raise UsageError(
            "which corpus?", hint="such as: batchembed init sample_data/articles.parquet"
        )
    return (path,)


def _asked_text(found: Found) -> str:
    if found.text is None:
        raise UsageError(
            f"no column holds text: {', '.join(found.columns)}",
            hint="give the column to embed as --text; numbers are embedded as they are written",
        )
    return _ask(f"Which column is embedded, of {', '.join(found.columns)}?", found.text)


def _asked_provider() -> str:
    from batchembed.providers import info, known

    while True:
        name = _ask("Which provider? `local` needs no key.", "local")
        try:
            return info(name).name
        except JobError as error:
            say(f"{error.message}; {error.hint}")
            say("There are: " + ", ".join(provider.name for provider in known()))
