"""The commands that run a job, plan one, and say how far a run is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from batchembed.cli.frame import (
    answer,
    as_json,
    force,
    leave,
    leaves,
    log_format,
    metrics_file,
    monitor_for,
    quiet,
    retry_rejects,
    settings_option,
    watched,
)
from batchembed.errors import BatchembedError

if TYPE_CHECKING:
    from batchembed.monitor import Monitor, Summary

P = ParamSpec("P")
R = TypeVar("R")


@click.command()
@click.argument("job_file", metavar="JOB.toml", type=click.Path(dir_okay=False))
@settings_option
@click.option("--out", metavar="RUN", help="The run directory, instead of the job file's.")
@click.option("--shard", metavar="I/N", help="Send the part I of N alone, from 0/N on; then merge.")
@retry_rejects
@force
@as_json
@quiet
@log_format
@metrics_file
@leaves
def run(
    job_file: str, overrides: tuple[str, ...], out: str | None, metrics: str | None, **how: Any
) -> None:
    """Run a job file, or continue it: the same command again is the resume.

    \b
    Example: batchembed run jobs/quickstart.toml --set limits.requests_per_minute=600
    """
    from batchembed.job import load
    from batchembed.run import run as run_job

    job = load(job_file, overrides=overrides + watched(metrics), out=out)
    more = {name: how.pop(name) for name in ("retry_rejects", "shard", "force")}
    _run(partial(run_job, job, **more), **how)


@click.command()
@click.argument("job_file", metavar="JOB.toml", type=click.Path(dir_okay=False))
@settings_option
@click.option("--out", metavar="RUN", help="The run directory, instead of the job file's.")
@force
@as_json
@quiet
@log_format
@metrics_file
@leaves
def merge(
    job_file: str, overrides: tuple[str, ...], out: str | None, metrics: str | None, **how: Any
) -> None:
    """Publish what the shards of a run have. Sends nothing; where texts are missing, it says so.

    \b
    Example: batchembed merge jobs/quickstart.toml --out runs/sharded
    """
    from batchembed.job import load
    from batchembed.run import merge as merge_job

    job = load(job_file, overrides=overrides + watched(metrics), out=out)
    _run(partial(merge_job, job, force=how.pop("force")), **how)


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


@click.command()
@click.argument("corpus", nargs=-1, required=True)
@click.option("--out", metavar="RUN", required=True, help="The run directory.")
@corpus_options
@retry_rejects
@force
@as_json
@quiet
@log_format
@metrics_file
@leaves
def embed(corpus: tuple[str, ...], out: str, metrics: str | None, **told: Any) -> None:
    """Embed CORPUS (files, folders, globs) without a job file; RUN/job.toml keeps what was run.

    \b
    Example: batchembed embed articles.csv --text text --id id --out runs/articles
    """
    from batchembed.job import job_of
    from batchembed.run import run as run_job

    told["overrides"] += watched(metrics)
    how = {name: told.pop(name) for name in ("as_json", "quiet", "log_format")}
    more = {name: told.pop(name) for name in ("retry_rejects", "force")}
    with of_options():
        job = job_of(corpus, out, told)

    def start(monitor: Monitor) -> Summary:
        with of_options():
            return run_job(job, monitor, **more)

    _run(start, **how)


@click.command()
@click.argument("corpus", nargs=-1, required=True, metavar="JOB.toml | CORPUS...")
@click.option("--out", metavar="RUN", help="The run directory, to see what is paid for there.")
@click.option("--ask", is_flag=True, help="Ask the server about itself: free, but with the key.")
@click.option(
    "--probe",
    metavar="N",
    type=click.IntRange(0),
    default=0,
    help="Send N rows first, and build on what they cost; RUN keeps them.",
)
@corpus_options
@as_json
@leaves
def plan(
    corpus: tuple[str, ...], out: str | None, as_json: bool, *, ask: bool, probe: int, **told: Any
) -> None:
    """Say what a run would send and take. Sends nothing of the corpus, unless --probe asks for it.

    \b
    Example: batchembed plan jobs/aleph-alpha/documents.toml --probe 3
    """
    from batchembed import api
    from batchembed.job import job_of, load
    from batchembed.words import plan_words

    has_job = len(corpus) == 1 and corpus[0].endswith(".toml")
    with nullcontext() if has_job else of_options():
        if has_job:
            job = load(corpus[0], overrides=told["overrides"], out=out)
        else:
            job = job_of(corpus, out or "runs/plan", told)
        found = api.plan(job, monitor_for(quiet=as_json), ask=ask, probe=probe)
    answer(found, plan_words(found), as_json=as_json)


@click.command()
@click.argument("run_directory", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Go on looking until the run ends: the run's own bar.")
@as_json
@leaves
def status(run_directory: Path, watch: bool, as_json: bool) -> None:
    """Say how far a run is, from another terminal.

    \b
    Example: batchembed status runs/articles --watch
    """
    from batchembed import api
    from batchembed.words import status_words

    found = api.status(run_directory)
    if watch:
        found = _watched(run_directory, found, as_json=as_json)
    answer(found, status_words(found), as_json=as_json)


def _watched(path: Path, found: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    """Show a run while it goes on, as it shows itself; return what it came to.

    On a terminal that is its bar, once a second; elsewhere its line every 30 s, or as JSON.
    """
    from batchembed import api
    from batchembed.monitor import LINE_SECONDS, Bar, Progress

    bar = Bar(sys.stderr) if sys.stderr.isatty() and not as_json else None
    said = -LINE_SECONDS
    while found["state"] == "running":
        if bar is not None:
            bar.show(Progress.read(found["progress"]))
        elif time.monotonic() - said >= LINE_SECONDS:
            said = time.monotonic()
            answer(found, found["progress"].get("line", "starting"), as_json=as_json)
        time.sleep(1)
        found = api.status(path)
    if bar is not None:
        bar.close()
    return found


@contextmanager
def of_options() -> Iterator[None]:
    """Let errors tell of the options of the command, where there is no job file."""
    try:
        yield
    except BatchembedError as error:
        from batchembed.words.options import in_options

        raise in_options(error) from error.__cause__


def _run(
    start: Callable[[Monitor], Summary], *, as_json: bool, quiet: bool, log_format: str
) -> None:
    """Run a job to its end, say what it came to, and leave with its exit code."""
    from batchembed.api import glance
    from batchembed.monitor import let_go
    from batchembed.words import run_words, shard_words

    monitor = monitor_for(quiet=quiet, logs=log_format)
    try:
        summary = start(monitor)
    except BatchembedError as error:
        let_go(monitor)
        failed = monitor.close("stopped", error.exit_code)
        leave(error, as_json=as_json, logs=log_format, monitor=monitor, **failed.to_dict())
    if as_json or not (quiet or log_format == "json"):
        whole = summary.state == "complete"
        words = run_words(summary, glance(summary.path)) if whole else shard_words(summary)
        answer(summary, words, as_json=as_json)
    sys.exit(summary.exit_code)
