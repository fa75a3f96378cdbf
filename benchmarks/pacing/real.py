"""How much of a stated limit a whole run uses over loopback, and at how many 429s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import corpora
from benchmarks.measuring import CLIENT_CORE, Scope, Table, child, goal, job, pinned, program
from benchmarks.pacing import loopback

SECONDS, QUICK_SECONDS = 38, 10  # so few texts that no canary texts go first
LATENCY = 0.3
GOAL = 0.97


@dataclass(frozen=True, slots=True)
class Case:
    """A limit of so many requests a second, and the seconds of its window; 0: a bucket of 1 s."""

    title: str
    rate: int
    window: float


CASES = (
    Case("sliding window of 10 s", 50, 10.0),
    Case("bucket of 1 s", 50, 0.0),
    Case("sliding window of 10 s", 500, 10.0),
    Case("bucket of 1 s", 500, 0.0),
)


def measure(scope: Scope) -> Table:
    """Run a job against each limit, stated in the job."""
    seconds = QUICK_SECONDS if scope.quick else SECONDS
    return Table(
        "Use of a stated limit, over loopback",
        (
            *("limit", "requests", "429s", "used", "used after 5 s", "goal"),
            *("CPU of the run, of a core", "wall"),
        ),
        [_row(case, seconds, scope) for case in CASES],
        f"Whole runs of `batchembed run`, one text a request, for about {seconds} s, against a "
        "server in another process that counts each request as it comes and answers after "
        f"{LATENCY / 2:g} to {1.5 * LATENCY:g} s. *Used*: requests that were taken, from the "
        "first to the last, of what the limit allows in that time.",
    )


def _row(case: Case, seconds: int, scope: Scope) -> Sequence[str]:
    rows = case.rate * seconds
    corpus = corpora.make(scope.folder / f"short-{rows}.parquet", rows)
    with loopback.running(str(case.rate), str(case.window), str(LATENCY)) as url:
        model = {"provider": '"openai"', "name": '"stand-in"', "base_url": f'"{url}"'}
        limits = (f"requests_per_minute = {60 * case.rate}", "texts_per_request = 1")
        path = job(corpus, scope.folder / "run-paced", model, *limits)
        with pinned(CLIENT_CORE):
            took = child([*program(), "run", str(path)], environ={"OPENAI_API_KEY": "none"})
        seen = loopback.seen(url)
    taken, refused = seen["taken"], seen["refused"]
    used, after = (use(taken, case.rate, begin) for begin in (0.0, 5.0))
    return (
        f"{case.rate} a second, {case.title}",
        f"{len(taken):,}",
        f"{len(refused)}: {len(refused) / (len(taken) + len(refused)):.3%}",
        f"**{used:.1%}**",
        f"{after:.1%}",
        goal(used, least=GOAL),
        f"{took.cpu / took.wall:.0%}",
        f"{took.wall:.0f} s",
    )


def use(taken: Sequence[float], rate: float, begin: float) -> float:
    """Return what share of a limit was used, `begin` seconds after the first of all requests."""
    later = [when for when in taken if when >= taken[0] + begin]
    return (len(later) - 1) / (later[-1] - later[0]) / rate
