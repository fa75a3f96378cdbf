"""Draw the rate over time in five scenarios: `python -m benchmarks.pacing.chart FILE.svg`."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchembed.pacing import Rates
from benchmarks.pacing.ours import Ours
from benchmarks.pacing.servers import Bucket, FixedWindow, Limiter, Server, SlidingWindow, always
from benchmarks.pacing.world import Seen, run

LIMIT, SEED, SECONDS, SLICE = 40.0, 7, 1800, 5
STEADY = always(LIMIT)
WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 96, 52, 26, 52


def _changing(factor: float) -> Callable[[float], float]:
    return lambda now: LIMIT * (factor if now >= SECONDS / 3 else 1.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is drawn in one panel; `possible` is the rate that could be had at a time."""

    title: str
    server: Callable[[], Server]
    stated: float | None = None
    possible: Callable[[float], float] = STEADY


def _outage(now: float) -> float:
    return 1.0 if SECONDS / 3 <= now < 2 * SECONDS / 3 else 0.0


def _at(limiter: Limiter, **more: Callable[[float], float]) -> Callable[[], Server]:
    return lambda: Server(limiter, **more)  # type: ignore[arg-type]


SCENARIOS = (
    Scenario(
        "limit stated, sliding window of 60 s", _at(SlidingWindow(always(LIMIT), 60.0)), LIMIT
    ),
    Scenario("limit not stated, bucket of 1 s", _at(Bucket(always(LIMIT), 1.0))),
    Scenario("limit not stated, fixed window of 60 s", _at(FixedWindow(always(LIMIT), 60.0, 23.0))),
    Scenario(
        "limit not stated, doubled after ten minutes, bucket of 1 s",
        _at(Bucket(_changing(2.0), 1.0)),
        possible=_changing(2.0),
    ),
    Scenario(
        "limit stated, an outage of ten minutes",
        _at(Bucket(always(LIMIT), 1.0), errors=_outage),
        LIMIT,
        lambda now: LIMIT * (1.0 - _outage(now)),
    ),
)


def main(path: Path) -> None:
    """Run the scenarios and write the chart."""
    panels = [_panel(number, scenario) for number, scenario in enumerate(SCENARIOS)]
    height = TOP + len(SCENARIOS) * (HEIGHT + GAP)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" '
        'font-family="sans-serif" font-size="12">\n'
        "<title>Requests a second over half an hour, in five scenarios</title>\n"
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(panels) + "\n</svg>\n",
        "utf-8",
    )


def _panel(number: int, scenario: Scenario) -> str:
    stated = None if scenario.stated is None else 60.0 * scenario.stated
    scheme = Ours(Rates(stated, concurrency=64), random.Random(SEED))
    seen = run(scheme, scenario.server(), seconds=SECONDS, seed=SEED)
    top = TOP + number * (HEIGHT + GAP)
    slices = range(0, SECONDS, SLICE)
    rates = [sum(seen.accepted[at : at + SLICE]) / SLICE for at in slices]
    most = 1.1 * max(*rates, *(scenario.possible(at) for at in slices))
    possible = [(at, scenario.possible(at)) for at in slices]
    lines = [
        f'<g transform="translate({LEFT},{top})">',
        f'<text y="-8" fill="#222">{scenario.title}: {_words(seen, scenario)}</text>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#bbb"/>',
        (
            f'<polyline points="{_points(possible, most)}" fill="none" stroke="#999" '
            'stroke-dasharray="4 3"/>'
        ),
        (
            f'<polyline points="{_points(list(zip(slices, rates, strict=True)), most)}" '
            'fill="none" stroke="#1f77b4" stroke-width="1.5"/>'
        ),
    ]
    for at, refused in enumerate(seen.throttled):
        if refused:
            lines.append(f'<circle cx="{_x(at):.1f}" cy="{HEIGHT - 4}" r="2.5" fill="#d62728"/>')
    for rate in (0.0, LIMIT):
        y = HEIGHT * (1.0 - rate / most)
        lines.append(
            f'<text x="-8" y="{y + 4:.0f}" text-anchor="end" fill="#555">{rate:.0f}</text>'
        )
    for minute in range(0, SECONDS // 60 + 1, 10):
        x = _x(60 * minute)
        lines.append(
            f'<text x="{x:.0f}" y="{HEIGHT + 15}" text-anchor="middle" fill="#555">'
            f"{minute} min</text>"
        )
    return "\n".join([*lines, "</g>"])


def _words(seen: Seen, scenario: Scenario) -> str:
    return f"{100 * seen.used(scenario.possible):.1f} % used, {100 * seen.refused():.2f} % 429s"


def _x(second: float) -> float:
    return WIDTH * second / SECONDS


def _points(values: list[tuple[int, float]], most: float) -> str:
    return " ".join(f"{_x(at):.1f},{HEIGHT * (1.0 - rate / most):.1f}" for at, rate in values)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
