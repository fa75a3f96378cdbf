"""The commands: each parses, calls, prints, and leaves with the exit code that the errors name."""

from __future__ import annotations

import resource
from contextlib import suppress

import click

from batchembed.cli import beginning, limiting, looking, running
from batchembed.version import VERSION

__all__ = ["main"]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
COMMANDS = (
    beginning.init,
    running.run,
    running.merge,
    running.embed,
    running.plan,
    running.status,
    looking.verify,
    looking.similarity,
    looking.rethreshold,
    looking.pairs,
    looking.clusters,
    looking.neighbors,
    looking.search,
    looking.report,
    looking.providers,
    limiting.limiter,
)


@click.group(context_settings=CONTEXT)
@click.version_option(VERSION, prog_name="batchembed")
def main() -> None:
    """Embed large corpora: paced, checkpointed, resumable; the same table back, with vectors.

    \b
    Start here:
      batchembed embed articles.csv --text text --out runs/articles
      batchembed search runs/articles "how do planets form"
    """
    with suppress(ValueError, OSError):  # a dump of memory would hold the key
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


for command in COMMANDS:
    main.add_command(command)
