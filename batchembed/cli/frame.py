"""What all commands share: options, the words on stderr, the exit codes that errors name."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

import click

from batchembed.errors import BatchembedError

if TYPE_CHECKING:
    from batchembed.monitor import Monitor

P = ParamSpec("P")
R = TypeVar("R")

as_json = click.option("--json", "as_json", is_flag=True, help="Answer as one JSON object.")
quiet = click.option("--quiet", is_flag=True, help="Print nothing on success.")
log_format = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="What goes to stderr: words, or one JSON object a line.",
)
retry_rejects = click.option(
    "--retry-rejects", is_flag=True, help="Ask texts again that were rejected before."
)
force = click.option(
    "--force", is_flag=True, help="Also where another corpus drops most of what RUN holds."
)
settings_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a setting of the job file; may be given often.",
)

metrics_file = click.option(
    "--metrics-file",
    "metrics",
    metavar="FILE",
    help="Write metrics for Prometheus there, every minute: NAME.prom.",
)


def watched(path: str | None) -> tuple[str, ...]:
    """Return the setting that names a file of metrics, as an override."""
    return () if path is None else (f"metrics.textfile={json.dumps(path)}",)


def leaves(function: Callable[P, R]) -> Callable[P, R]:
    """Turn errors into words on stderr and an exit code; with --json, into data as well."""

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except BrokenPipeError:  # nobody reads on: click ends quietly
            raise
        except (BatchembedError, OSError) as error:
            how = {name: kwargs.get(name) for name in ("as_json", "log_format")}
            leave(error, as_json=bool(how["as_json"]), logs=str(how["log_format"] or "text"))
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped


def leave(
    error: BatchembedError | OSError,
    *,
    as_json: bool,
    logs: str = "text",
    monitor: Monitor | None = None,
    **more: Any,
) -> NoReturn:
    """Say what went wrong, as data too when asked, and exit with the code of the error.

    `monitor`: of the run that ended so, whose lines of JSON tell where it stood.
    """
    from batchembed.words import json_words, mistake

    error = mistake(error) if isinstance(error, OSError) else error
    if as_json:
        told = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
        click.echo(json_words(told | more))
    if logs == "json":
        from batchembed.monitor import Monitor

        monitor = monitor or Monitor("json")
        monitor.voice.error(error, monitor.progress())
        sys.exit(error.exit_code)
    say(f"error: {error.message}", fg="red")
    if error.hint:
        say(f"hint: {error.hint}")
    sys.exit(error.exit_code)


def say(words: str, fg: str | None = None) -> None:
    """Say something to people: on stderr, coloured only on a terminal that wants it."""
    from batchembed.words import shown

    words = shown(words)  # it may quote a corpus, a job file or a server
    coloured = fg and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    click.echo(click.style(words, fg=fg) if coloured else words, err=True)


def monitor_for(*, quiet: bool, logs: str = "text") -> Monitor:
    """Return a monitor that says nothing, lines of JSON, or what fits where stderr goes."""
    from batchembed.monitor import Monitor

    return Monitor("quiet" if quiet else "json" if logs == "json" else "auto")


def answer(data: Any, words: str, *, as_json: bool) -> None:
    """Print a result on stdout: as words, or as JSON."""
    from batchembed.words import json_words

    click.echo(json_words(data) if as_json else words)
