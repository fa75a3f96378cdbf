"""How much of a limit is used, and at how many 429s: ours and others, in the same simulator."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from batchembed.pacing import Rates
from benchmarks.measuring import Scope, Table
from benchmarks.pacing import peers
from benchmarks.pacing.ours import Ours
from benchmarks.pacing.servers import Bucket, FixedWindow, Limiter, Server, SlidingWindow, always
from benchmarks.pacing.world import Scheme, run

LIMIT = 40.0
OPEN = 64
SEEDS = (1, 2, 3, 4)
SECONDS, QUICK_SECONDS = 1800, 300
SERVERS: dict[str, Callable[[random.Random], tuple[Limiter, bool]]] = {
    "fixed 60 s": lambda rng: (FixedWindow(always(LIMIT), 60.0, rng.uniform(0, 60)), False),
    "sliding 60 s": lambda _rng: (SlidingWindow(always(LIMIT), 60.0), False),
    "sliding 60 s, refused count": lambda _rng: (SlidingWindow(always(LIMIT), 60.0), True),
    "bucket 60 s": lambda _rng: (Bucket(always(LIMIT), 60.0), False),
    "fixed 10 s": lambda rng: (FixedWindow(always(LIMIT), 10.0, rng.uniform(0, 10)), False),
    "bucket 1 s": lambda _rng: (Bucket(always(LIMIT), 1.0), False),
    "fixed 1 s": lambda rng: (FixedWindow(always(LIMIT), 1.0, rng.random()), False),
}
SCHEMES: dict[str, Callable[[random.Random], Scheme]] = {
    "**batchembed**, limit stated": lambda rng: Ours(_rates(60 * LIMIT), rng),
    "**batchembed**, stated twice too high": lambda rng: Ours(_rates(120 * LIMIT), rng),
    "**batchembed**, not stated": lambda rng: Ours(_rates(None), rng),
    "aiolimiter(60 L, 60 s)": lambda rng: peers.LeakyBucket(rng, OPEN, 60 * LIMIT, 60.0),
    "aiolimiter(L, 1 s)": lambda rng: peers.LeakyBucket(rng, OPEN, LIMIT, 1.0),
    "pyrate-limiter(60 L, 60 s)": lambda rng: peers.Log(rng, OPEN, 60 * LIMIT, 60.0),
    "OpenAI cookbook, 75 % of L": lambda _rng: peers.Cookbook(LIMIT),
    "AWS adaptive mode, not stated": lambda rng: peers.Adaptive(rng, OPEN),
    "stamina, 64 workers, not stated": lambda rng: peers.Backoff(rng, OPEN),
}


def measure(scope: Scope) -> Table:
    """Let each scheme meet each server; return used and refused shares."""
    seconds = QUICK_SECONDS if scope.quick else SECONDS
    seeds = SEEDS[:1] if scope.quick else SEEDS
    rows: list[Sequence[str]] = []
    for name, scheme in SCHEMES.items():
        cells = [_cell(scheme, server, seconds, seeds) for server in SERVERS.values()]
        rows.append((name, *cells))
    return Table(
        "Use of a limit, and 429s",
        ("", *SERVERS),
        rows,
        f"Used / refused, percent, a limit L of {LIMIT:.0f} requests a second, {seconds // 60} "
        f"simulated minutes, mean of seeds {', '.join(map(str, seeds))}; the first minute is left "
        "out of the use, and not of what was refused. A server counts with windows or a bucket; "
        "answers take 0.3 s on average, refusals a third of that, the way there 20 to 70 ms. No "
        "server names a wait. The others are written from their documented rules, in "
        "`benchmarks/pacing/peers.py`: the libraries wait on real clocks and cannot run here.",
    )


def _rates(limit: float | None) -> Rates:
    return Rates(limit, concurrency=OPEN)


def _cell(
    scheme: Callable[[random.Random], Scheme],
    server: Callable[[random.Random], tuple[Limiter, bool]],
    seconds: int,
    seeds: Sequence[int],
) -> str:
    used, refused = 0.0, 0.0
    for seed in seeds:
        limiter, count = server(random.Random(seed))
        seen = run(
            scheme(random.Random(seed)),
            Server(limiter, failures_count=count),
            seconds=seconds,
            seed=seed,
        )
        used += seen.used(always(LIMIT), 60) / len(seeds)
        refused += seen.refused() / len(seeds)
    return f"{100 * used:.1f} / {100 * refused:.2f}"
