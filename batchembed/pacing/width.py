"""How many requests may be open: what a rate needs, or where more of them gain nothing.

Under a rate, Little's law: rate times latency, with room to spare; but a latency of more than
twice the lowest seen is the server's trouble, and is not met with more requests.

Without a rate the number grows from one: by one for every answer up to `QUICK`, then by half of
itself whenever enough answers were counted to measure the throughput. Where that gains less than
`WORTH` of the growth, the *knee* is passed. From there the number is made smaller by a fifth, as
long as the throughput stays, and then held; another look is taken later and later.
"""

from __future__ import annotations

from typing import NamedTuple

QUICK = 8.0
ROOM, SPARE, SLOWER = 1.5, 4.0, 2.0
GROWTH, WORTH = 1.5, 0.4
SHRINK, STAYS, FULL = 0.8, 0.96, 0.7
ANSWERS, ANSWERS_DOWN, TURNS = 150, 400, 6
FIRST_HOLD, LONGEST_HOLD = 60.0, 600.0


class Knee(NamedTuple):
    """The search for the knee: what was measured at which `width`; 0: nothing yet.

    `at` and `base`: when the present measurement began, and how many were accepted by then.
    `down`: whether fewer are tried now, and not more.
    """

    at: float = 0.0
    base: int = 0
    width: float = 0.0
    rate: float = 0.0
    down: bool = False
    held_until: float = 0.0
    hold: float = FIRST_HOLD


def needed(rate: float, latency: float, lowest: float) -> float:
    """Return how many a rate needs, at a smoothed latency whose lowest value is known."""
    return ROOM * rate * min(latency, SLOWER * lowest) + SPARE


def widen(
    most: float, knee: Knee, accepted: int, *, latency: float, now: float
) -> tuple[float, Knee]:
    """Return how many may be open after an answer, without a rate; `latency` is smoothed."""
    if most < QUICK and not knee.at:
        return most + 1.0, knee
    counted = accepted - knee.base
    if knee.at and now >= knee.held_until and counted < _enough(most, knee):
        return most, knee
    rate = counted / max(1e-9, now - knee.at)
    if not knee.at or now < knee.held_until or rate * latency < FULL * most:
        return most, knee._replace(at=now, base=accepted)  # not yet, or not used: nothing to learn
    if knee.down:
        return _down(most, knee, accepted, rate, now)
    growth = most / knee.width - 1.0 if knee.width else 0.0
    gain = rate / knee.rate - 1.0 if knee.rate else 0.0
    if gain >= WORTH * growth:
        return GROWTH * most, knee._replace(at=now, base=accepted, width=most, rate=rate)
    return _down(most, knee._replace(rate=rate), accepted, rate, now)


def _enough(most: float, knee: Knee) -> float:
    return max(ANSWERS_DOWN if knee.down else ANSWERS, TURNS * most)


def _down(most: float, knee: Knee, accepted: int, rate: float, now: float) -> tuple[float, Knee]:
    """Return fewer while they bring as much, else as many as before, for a while."""
    if rate >= STAYS * knee.rate and most > 1.0:
        fewer = max(1.0, SHRINK * most)
        return fewer, knee._replace(at=now, base=accepted, width=most, down=True)
    hold = min(LONGEST_HOLD, 2.0 * knee.hold)
    return knee.width, Knee(now, accepted, held_until=now + knee.hold, hold=hold)
