"""Where a run stands, in words: for a bar of any width, for logs, and as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import orjson

from batchembed.monitor.progress import Progress, Used
from batchembed.monitor.summary import Summary

Level = Literal["info", "warning", "error"]
GAP = "  "
OFF = 1e-3  # of the vectors may have another length than 1 without a word
SHORTEST_REASON = 10  # letters of it are told before anything else is left out


def line(progress: Progress) -> str:
    """Return where the run stands, in one plain line."""
    p, s = progress, progress.summary
    told = [_head(p)]
    if p.per_second:
        told.append(rate(p.per_second))
    if p.seconds_left is not None:
        told.append(_left(p))
    elif p.total and not p.standing.kind:
        told.append("no rate yet")
    if p.used is not None:
        told.append(_use(p.used))
    if s.cost:
        told.append(f"{money(s.cost, s.currency)} paid")
    told += [f"{count:,} {kind}" for kind, count in sorted(s.failures.items())]
    words = ", ".join(told)
    return f"{words}; {p.standing.words}" if p.standing.words else words


def _head(p: Progress) -> str:
    if not p.total:
        return f"{p.phase} {p.done:,} {p.unit}" if p.done else p.phase
    return f"{p.phase} {p.done:,}/{p.total:,} {p.unit} ({percent(p)})"


def _left(p: Progress) -> str:
    return f"{span(p.seconds_left or 0.0)} left"


def _use(used: Used) -> str:
    words = f"{100 * used.share:.0f} % of {used.limit:,.0f} {used.name.split('_')[0]}/min"
    return f"{words} shared by {used.shared_by}" if used.shared_by > 1 else words


def percent(p: Progress) -> str:
    """Return the share of a phase that is done: 100 % only where all is."""
    return f"{100 * p.done // p.total if p.total else 0} %"


def beside(progress: Progress, room: int) -> str:
    """Return what stands beside a bar, in at most `room` letters: the most that fits."""
    standing, words = progress.standing, ""
    waits = bool(standing.kind) and standing.kind != "limit"
    spared = max(0, len(standing.reason) - SHORTEST_REASON) if waits else 0
    for words in _beside(progress, waits=waits):
        if len(words) - spared <= room:
            break
    return words if len(words) <= room else words[: max(0, room - 1)] + "…"


def _beside(p: Progress, *, waits: bool) -> Iterator[str]:
    """Yield what could stand beside a bar, the longest first."""
    s, why = p.summary, p.standing.words
    counts = f"{p.done:,}/{p.total:,}" if p.total else f"{p.done:,}"
    short = f"{brief(p.done)}/{brief(p.total)}" if p.total else brief(p.done)
    cost = money(s.cost, s.currency) if s.cost else ""
    if waits:
        yield _joined(f"{counts} {p.unit}", cost, why)
        yield _joined(counts, cost, why)
        yield _joined(short, cost, why)
        yield _joined(short, why)
        yield why
        return
    speed = rate(p.per_second) if p.per_second else ""
    left = _left(p) if p.seconds_left is not None else ""
    use = _use(p.used) if p.used is not None else ""
    brief_use = f"{100 * p.used.share:.0f}% of limit" if p.used is not None else ""
    if why:
        yield _joined(f"{counts} {p.unit}", speed, use, cost, left, why)
    yield _joined(f"{counts} {p.unit}", speed, use, cost, left)
    yield _joined(counts, speed, use, cost, left)
    yield _joined(counts, speed, brief_use, cost, left)
    yield " ".join(filter(None, (counts, speed, brief_use, cost, left)))
    yield " ".join(filter(None, (short, speed, brief_use, cost, left)))
    yield " ".join(filter(None, (short, speed, cost, left)))
    yield " ".join(filter(None, (short, left)))


def _joined(*words: str) -> str:
    return GAP.join(filter(None, words))


def json_line(
    event: str,
    message: str,
    progress: Progress,
    *,
    level: Level = "info",
    hint: str | None = None,
    exit_code: int | None = None,
) -> str:
    """Return one event as one line of JSON; every event has all of the keys."""
    p, s = progress, progress.summary
    told: dict[str, Any] = {
        "at": p.at,
        "level": level,
        "event": event,
        "message": message,
        "hint": hint,
        "run": s.path or None,
        "phase": p.phase,
        "done": p.done,
        "total": p.total,
        "unit": p.unit,
        "per_second": _rounded(p.per_second),
        "seconds_left": _rounded(p.seconds_left),
        "seconds": round(s.seconds, 3),
        "rejected": sum(s.reasons.values()),
        "requests": s.requests,
        "tokens": s.tokens,
        "throttled": s.failures.get("throttled", 0),
        "failed": sum(s.failures.values()) - s.failures.get("throttled", 0),
        "cost": s.cost,
        "currency": s.currency or None,
        "limit": p.used and p.used.name,
        "limit_per_minute": p.used and _rounded(p.used.limit),
        "limit_used": p.used and _rounded(p.used.share),
        "waiting": p.standing.kind or None,
        "waiting_reason": p.standing.reason or None,
        "waiting_seconds": _rounded(p.standing.seconds),
        "exit_code": exit_code,
    }
    return orjson.dumps(told).decode()


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def rate(per_second: float) -> str:
    """Return a rate for people; what is slow by the minute."""
    if 0 < per_second < 1:
        return f"{60 * per_second:.1f}/min"
    return f"{per_second:,.1f}/s" if 0 < per_second < 10 else f"{per_second:,.0f}/s"  # noqa: PLR2004


def money(cost: float, currency: str) -> str:
    """Return what was paid so far: cents where there are some, and what is below them else."""
    return f"{cost:,.2f} {currency}" if cost >= 1 else f"{cost:,.4f} {currency}"


def brief(number: int) -> str:
    """Return a number in few letters."""
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= 10 * size or number >= size > 10**3:
            return f"{number / size:.3g}{letter}"
    return f"{number:,}"


def lengths(summary: Summary) -> str:
    """Return what is to be told of vectors that came with another length than 1; "": nothing."""
    mended, sent = summary.mended, summary.sent
    if mended <= OFF * sent:
        return ""
    if mended == sent:
        return f"note: none of the {sent:,} vectors came with length 1; each was divided by its own"
    return (
        f"warning: {mended:,} of {sent:,} vectors did not come with length 1, as the others did; "
        "each was divided by its own"
    )


def span(seconds: float) -> str:
    """Return a number of seconds for people."""
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24) if hours >= 48 else (0, hours)  # noqa: PLR2004 - two days
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
