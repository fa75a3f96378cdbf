"""The commands: each parses, calls, prints, and leaves with the exit code that the errors name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import click

from batchembed.errors import BatchembedError
from batchembed.version import VERSION

if TYPE_CHECKING:
    from batchembed.job import Job
    from batchembed.monitor import Monitor

P = ParamSpec("P")
R = TypeVar("R")

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
as_json = click.option("--json", "as_json", is_flag=True, help="Answer as one JSON object.")
quiet = click.option("--quiet", is_flag=True, help="Print nothing on success.")
settings_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a setting of the job file; may be given often.",
)


def leaves(function: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into words on stderr and an exit code; with --json, into data as well."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BrokenPipeError:  # nobody reads on: click ends quietly
            raise
        except (BatchembedError, OSError) as error:
            _leave(error, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped


def _leave(error: BatchembedError | OSError, *, as_json: bool, **more: Any) -> NoReturn:
    from batchembed.words import json_words, mistake

    error = mistake(error) if isinstance(error, OSError) else error
    if as_json:
        told = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
        click.echo(json_words(told | more))
    say(f"error: {error.message}", fg="red")
    if error.hint:
        say(f"hint: {error.hint}")
    sys.exit(error.exit_code)


def say(words: str, fg: str | None = None) -> None:
    """Say something to people: on stderr, coloured only on a terminal that wants it."""
    coloured = fg and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    click.echo(click.style(words, fg=fg) if coloured else words, err=True)


@click.group(context_settings=CONTEXT)
@click.version_option(VERSION, prog_name="batchembed")
def main() -> None:
    """Embed large corpora: paced, checkpointed, resumable; the same table back, with vectors.

    \b
    Start here:
      batchembed embed articles.csv --text text --out runs/articles
      batchembed search runs/articles "how do planets form"
    """


@main.command()
@click.argument("job_file", metavar="JOB.toml", type=click.Path(dir_okay=False))
@settings_option
@click.option("--out", metavar="RUN", help="The run directory, instead of the job file's.")
@as_json
@quiet
@leaves
def run(
    job_file: str, overrides: tuple[str, ...], out: str | None, as_json: bool, quiet: bool
) -> None:
    """Run a job file, or continue it: the same command again is the resume.

    \b
    Example: batchembed run jobs/quickstart.toml --set limits.requests_per_minute=600
    """
    from batchembed.job import load

    _run(load(job_file, overrides=overrides, out=out), as_json=as_json, quiet=quiet)


def corpus_options(function: Callable[P, R]) -> Callable[P, R]:
    """Add the options by which a corpus is described without a job file."""
    options = [
        click.option("--text", metavar="COL", help="The column to embed."),
        click.option("--template", metavar="T", help='Columns as one text: "{title}\\n\\n{body}".'),
        click.option("--id", "id_", metavar="COL", help="The column that names a row."),
        click.option("--provider", metavar="P", default="local", show_default=True),
        click.option("--model", metavar="M", help="The provider's default if not given."),
        click.option("--representation", type=click.Choice(["symmetric", "document", "query"])),
        click.option("--dimensions", type=int, metavar="N", help="Shorter vectors."),
        click.option("--base-url", metavar="URL", help="Where the API is: a server of your own."),
        settings_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@main.command()
@click.argument("corpus", nargs=-1, required=True)
@click.option("--out", metavar="RUN", required=True, help="The run directory.")
@corpus_options
@as_json
@quiet
@leaves
def embed(corpus: tuple[str, ...], out: str, as_json: bool, quiet: bool, **told: Any) -> None:
    """Embed CORPUS (files, folders, globs) without a job file; RUN/job.toml keeps what was run.

    \b
    Example: batchembed embed articles.csv --text text --id id --out runs/articles
    """
    from batchembed.job import job_of

    _run(job_of(corpus, out, told), as_json=as_json, quiet=quiet)


@main.command()
@click.argument("corpus", nargs=-1, required=True, metavar="JOB.toml | CORPUS...")
@click.option("--out", metavar="RUN", help="The run directory, to see what is paid for there.")
@corpus_options
@as_json
@leaves
def plan(corpus: tuple[str, ...], out: str | None, as_json: bool, **told: Any) -> None:
    """Say what a run would send and take. Sends nothing.

    \b
    Example: batchembed plan jobs/quickstart.toml
    """
    from batchembed import api
    from batchembed.job import job_of, load
    from batchembed.words import plan_words

    if len(corpus) == 1 and corpus[0].endswith(".toml"):
        job = load(corpus[0], overrides=told["overrides"], out=out)
    else:
        job = job_of(corpus, out or "runs/plan", told)
    found = api.plan(job, _monitor(quiet=as_json))
    _print(found, plan_words(found), as_json=as_json)


@main.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Look again every 2 seconds until the run ends.")
@as_json
@leaves
def status(run_directory: Path, watch: bool, as_json: bool) -> None:
    """Say how far a run is, from another terminal.

    \b
    Example: batchembed status runs/articles --watch
    """
    from batchembed import api
    from batchembed.words import status_words

    while True:
        found = api.status(run_directory)
        _print(found, status_words(found), as_json=as_json)
        if not (watch and found["state"] == "running"):
            return
        time.sleep(2)


@main.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--sample", metavar="N", type=click.IntRange(0), default=0, help="Embed N rows again."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which rows.")
@as_json
@leaves
def verify(run_directory: Path, sample: int, seed: int, as_json: bool) -> None:
    """Re-read a complete run and name what is not as promised (exit code 1).

    \b
    Example: batchembed verify runs/articles --sample 50
    """
    from batchembed import api
    from batchembed.words import verify_words

    found = api.verify(run_directory, sample=sample, seed=seed)
    _print(found, verify_words(found), as_json=as_json)
    if found.problems:
        sys.exit(1)


@main.command()
@click.argument("left", type=click.Path(path_type=Path))
@click.argument("right", type=click.Path(path_type=Path), required=False)
@click.option("--out", metavar="FILE", required=True, type=click.Path(path_type=Path))
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="The K nearest of each row.")
@click.option("--min-score", type=float, metavar="S", help="All pairs that score at least S.")
@click.option("--dense", is_flag=True, help="Every score.")
@click.option("--metric", type=click.Choice(["cosine", "dot"]), default="cosine", show_default=True)
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32")
@click.option("--force", is_flag=True, help="Also compare queries with queries, also over 10 GB.")
@as_json
@leaves
def similarity(left: Path, right: Path | None, out: Path, as_json: bool, **told: Any) -> None:
    """Score the pairs within LEFT, or of LEFT (queries) against RIGHT (documents).

    \b
    Example: batchembed similarity runs/queries runs/documents --top-k 10 --out nearest.arrow
    """
    from batchembed import api
    from batchembed.similarity import SimilaritySettings
    from batchembed.words import compared_words

    settings = SimilaritySettings(**told)
    found = api.similarity(left, right, out, settings, monitor=_monitor(quiet=as_json))
    _print(found, compared_words(found, out), as_json=as_json)


@main.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("text")
@click.option("--top-k", type=click.IntRange(1), default=5, show_default=True, metavar="K")
@as_json
@leaves
def search(run_directory: Path, text: str, top_k: int, as_json: bool) -> None:
    """Print the rows of RUN that are nearest to TEXT.

    \b
    Example: batchembed search runs/articles "how do planets form" --top-k 3
    """
    from batchembed import api
    from batchembed.words import hit_words

    hits = api.search(run_directory, text, top_k)
    _print(hits, hit_words(hits), as_json=as_json)


@main.command()
@as_json
@leaves
def providers(as_json: bool) -> None:
    """List the providers: models, limits, and the environment variable of the key.

    \b
    Example: batchembed providers
    """
    from batchembed.providers import known
    from batchembed.words import provider_words

    found = known()
    _print(found, provider_words(found), as_json=as_json)


def _run(job: Job, *, as_json: bool, quiet: bool) -> None:
    from batchembed.api import glance
    from batchembed.run import run as run_job
    from batchembed.words import run_words

    monitor = _monitor(quiet=quiet)
    try:
        summary = run_job(job, monitor)
    except BatchembedError as error:
        monitor.keep = None  # the directory may be another run's by now
        failed = monitor.close("stopped", error.exit_code)
        _leave(error, as_json=as_json, **failed.to_dict())
    if as_json or not quiet:
        _print(summary, run_words(summary, glance(summary.path)), as_json=as_json)
    sys.exit(summary.exit_code)


def _monitor(*, quiet: bool) -> Monitor:
    from batchembed.monitor import Monitor

    return Monitor("quiet" if quiet else "auto")


def _print(data: Any, words: str, *, as_json: bool) -> None:
    from batchembed.words import json_words

    click.echo(json_words(data) if as_json else words)
