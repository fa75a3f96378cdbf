"""What all commands share: options, the words on stderr, the exit codes that errors name."""

from __future__ import annotations

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
retry_rejects = click.option(
    "--retry-rejects", is_flag=True, help="Ask texts again that were rejected before."
)
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
            leave(error, as_json=bool(kwargs.get("as_json")))
        except KeyboardInterrupt:
            sys.exit(130)

    return wrapped


def leave(error: BatchembedError | OSError, *, as_json: bool, **more: Any) -> NoReturn:
    """Say what went wrong, as data too when asked, and exit with the code of the error."""
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
    from batchembed.words import shown

    words = shown(words)  # it may quote a corpus, a job file or a server
    coloured = fg and sys.stderr.isatty() and "NO_COLOR" not in os.environ
    click.echo(click.style(words, fg=fg) if coloured else words, err=True)


def monitor_for(*, quiet: bool) -> Monitor:
    """Return a monitor that says nothing, or what fits where stderr goes."""
    from batchembed.monitor import Monitor

    return Monitor("quiet" if quiet else "auto")


def answer(data: Any, words: str, *, as_json: bool) -> None:
    """Print a result on stdout: as words, or as JSON."""
    from batchembed.words import json_words

    click.echo(json_words(data) if as_json else words)
