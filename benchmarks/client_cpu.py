"""What does a text cost this machine, beyond what aiohttp and the parse must cost?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import corpora, server
from benchmarks.measuring import (
    CLIENT_CORE,
    Scope,
    Table,
    Usage,
    child,
    goal,
    interleaved,
    job,
    median,
    module,
    pinned,
    program,
)

CHARACTERS = 400
GOAL = 1.5


@dataclass(frozen=True, slots=True)
class Case:
    """One form of request. `rows` are two corpus sizes for us, `peer_rows` for a slow client."""

    title: str
    name: str
    workers: int
    model: Mapping[str, str]
    rows: tuple[int, int]
    peer: str
    peer_rows: tuple[int, int]


ALEPH_ALPHA = {"provider": '"aleph-alpha"', "dimensions": "128"}
OPENAI = {"provider": '"openai"', "name": '"stand-in"'}
CASES = (
    Case(
        "1 text a request, 128 floats",
        "single",
        64,
        {**ALEPH_ALPHA, "endpoint": '"semantic_embed"'},
        (2_000, 12_000),
        "aleph-alpha-client",
        (2_000, 7_000),
    ),
    Case(
        "100 texts, 128 floats",
        "batch",
        16,
        {**ALEPH_ALPHA, "endpoint": '"batch_semantic_embed"'},
        (20_000, 160_000),
        "aleph-alpha-client",
        (5_000, 40_000),
    ),
    Case(
        "64 texts, 1,024 JSON floats",
        "float",
        16,
        OPENAI,
        (6_400, 44_800),
        "openai",
        (640, 2_560),
    ),
    Case(
        "64 texts, 1,024 floats in base64",
        "base64",
        16,
        OPENAI,
        (6_400, 70_400),
        "openai",
        (3_200, 16_000),
    ),
)


def measure(scope: Scope) -> Table:
    """Compare the CPU per text of whole jobs with bare aiohttp and the providers' clients."""
    bodies = {
        "single": server.aleph_alpha(None, 128),
        "batch": server.aleph_alpha(100, 128),
        "float": server.openai(64, 1024, as_base64=False),
        "base64": server.openai(64, 1024, as_base64=True),
    }
    with server.running(bodies, scope.folder) as stand_in:
        rows = [_compared(case, f"{stand_in.url}/{case.name}", scope) for case in CASES]
    return Table(
        "CPU of the client per text",
        (
            *("requests", "bare aiohttp", "least durable job", "whole job", "ratio", "goal"),
            *("provider's client", "ratio"),
        ),
        rows,
        "Microseconds of CPU per text, all threads, user and system: the difference between "
        f"two corpus sizes, so start-up cancels; median of {scope.rounds} interleaved rounds. "
        "*Whole job* is `batchembed run`: read, keys, pack, send, prove, checkpoint with "
        "fsync, join, publish. *Bare* keeps the vectors in memory and writes nothing; the *least "
        "durable job* (`benchmarks/floor.py`) is a straight line that makes keys, looks at the "
        "answers, appends them with checksums and writes one hashed Arrow file. "
        f"The stand-in server is in {stand_in.language}, on a core of its own; texts have "
        f"{CHARACTERS} characters, and both sides build their requests from them.",
    )


def _compared(case: Case, url: str, scope: Scope) -> Sequence[str]:
    rows, peer_rows = (_sizes(sizes, scope) for sizes in (case.rows, case.peer_rows))
    small, large = (_corpus(scope, count) for count in rows)
    peer_small, peer_large = (_corpus(scope, count) for count in peer_rows)
    ways: dict[str, Callable[[], Usage]] = {
        "job, small": lambda: _job(case, url, small, scope),
        "job, large": lambda: _job(case, url, large, scope),
        "bare, small": lambda: _peer("bare", case, url, small),
        "bare, large": lambda: _peer("bare", case, url, large),
        "floor, small": lambda: _floor(case, url, small),
        "floor, large": lambda: _floor(case, url, large),
        "peer, small": lambda: _peer(case.peer, case, url, peer_small),
        "peer, large": lambda: _peer(case.peer, case, url, peer_large),
    }
    took = interleaved(scope.rounds, ways)
    ours = _marginal(took, "job", rows)
    bare, least = _marginal(took, "bare", rows), _marginal(took, "floor", rows)
    peer = _marginal(took, "peer", peer_rows)
    return (
        case.title,
        f"{bare:.1f}",
        f"{least:.1f}: {least / bare:.2f}",
        f"{ours:.1f}",
        f"**{ours / bare:.2f}**",
        goal(ours / bare, most=GOAL),
        f"{case.peer}: {peer:.0f}",
        f"{peer / ours:.1f} x ours",
    )


def _marginal(took: Mapping[str, list[Usage]], who: str, rows: tuple[int, int]) -> float:
    """Return the CPU microseconds of one more text, of medians of each size."""
    low, high = (median([u.cpu for u in took[f"{who}, {size}"]]) for size in ("small", "large"))
    return (high - low) / (rows[1] - rows[0]) * 1e6


def _sizes(rows: tuple[int, int], scope: Scope) -> tuple[int, int]:
    """Return both sizes; `quick`: the larger one so much smaller that it is rough."""
    small, large = rows
    return small, small * max(2, round(large / small / 3)) if scope.quick else large


def _corpus(scope: Scope, rows: int) -> Path:
    path = scope.folder / f"long-{rows}.parquet"
    return corpora.make(path, rows, characters=CHARACTERS)


def _job(case: Case, url: str, corpus: Path, scope: Scope) -> Usage:
    model = {**case.model, "base_url": f'"{url}"'}
    path = job(corpus, scope.folder / "run-client", model, f"concurrency = {case.workers}")
    with pinned(CLIENT_CORE):
        return child([*program(), "run", str(path)], environ={"AA_TOKEN": "none"})


def _peer(peer: str, case: Case, url: str, corpus: Path) -> Usage:
    with pinned(CLIENT_CORE):
        return child(module("clients", peer, case.name, url, str(corpus), str(case.workers)))


def _floor(case: Case, url: str, corpus: Path) -> Usage:
    with pinned(CLIENT_CORE):
        return child(module("floor", case.name, url, str(corpus), str(case.workers)))
