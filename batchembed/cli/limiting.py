"""The command that lets runs share a limit."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from batchembed.cli.frame import answer, as_json, leaves
from batchembed.errors import UsageError

if TYPE_CHECKING:
    from batchembed.limiter import Place


@click.command()
@click.option("--listen", metavar="ADDRESS", help="unix:/path/of/a.sock or tcp://host:port.")
@click.option("--allow-network", is_flag=True, help="Let other machines take part.")
@click.option("--idle", metavar="TIME", help="End when nobody took part for so long, as 10m.")
@click.option("--status", is_flag=True, help="Tell how the limits of a limiter stand, and end.")
@as_json
@leaves
def limiter(
    listen: str | None, allow_network: bool, idle: str | None, *, status: bool, as_json: bool
) -> None:
    """Let the runs on one key share its limits: say whose request starts next, and when.

    Without ADDRESS it listens at a socket that only you can reach, where your runs on this machine
    find it. Others name it in `limits.share`, or in the variable BATCHEMBED_LIMITER. Ctrl-C or
    SIGTERM ends it, with exit code 0; runs then pace themselves.

    \b
    Example: batchembed limiter --listen tcp://127.0.0.1:7788
    """
    from batchembed.clock import SystemClock
    from batchembed.limiter import look, of_job, serve
    from batchembed.words import limiter_words

    place = _place(listen, allow_network=allow_network or status)
    if status:
        named = of_job("start", os.environ) if listen is None else None
        place = named or place
        seen = look(place)
        answer([asdict(one) for one in seen], limiter_words(seen, str(place)), as_json=as_json)
        return

    def ready(there: object) -> None:
        answer({"address": str(there)}, str(there), as_json=as_json)
        sys.stdout.flush()

    serve(place, SystemClock(), idle=_seconds(idle), ready=ready)


def _place(listen: str | None, *, allow_network: bool) -> Place:
    """Return where to listen, or to look; raises UsageError."""
    from batchembed.limiter import parse, usual

    if listen is None:
        return usual()
    try:
        place = parse(listen)
    except ValueError as error:
        raise UsageError(f"`--listen` is `{listen}`: it {error}") from None
    if not (place.loopback or allow_network):
        raise UsageError(
            f"`{place}` can be reached from other machines, by anyone: there is no password",
            hint="where only yours can reach it, say so with --allow-network",
        )
    return place


def _seconds(idle: str | None) -> float | None:
    """Return the seconds of a duration; raises UsageError."""
    from batchembed.job import seconds

    try:
        return None if idle is None else seconds(idle)
    except ValueError as error:
        raise UsageError(f"`--idle` is `{idle}`: it {error}") from None
