"""How many requests may be open: what a rate needs, or where more of them gain nothing.

Under a rate, Little's law: rate times latency, with room to spare; but a latency of more than
twice the lowest seen is the server's trouble, and is not met with more requests.

Without a rate the *knee* is looked for: the fewest open requests that bring the most answers a
second. The number grows by one for every answer up to `QUICK`, then by half of itself while that
brings `WORTH` times as much. From there it is halved while that brings `STAYS` of the most, and
what lies between too few and enough is tried until they are `CLOSE`. `MARGIN` times what was enough
is held, and looked at again later and later: once with more, once with fewer, in turns. A server
is measured until it is clear what it says: a count of n answers is off by about 1 / sqrt(n), and by
half of what is open, as some servers answer in batches.
"""

from __future__ import annotations

import math
from typing import NamedTuple

QUICK = 8.0
ROOM, SPARE, SLOWER = 1.5, 4.0, 2.0
GROWTH, WORTH, STAYS, CLOSE, MARGIN, FULL = 1.5, 1.06, 0.97, 1.42, 1.15, 0.7
FEWEST, FIRST, ENOUGH, TURNS = 60, 100, 600, 4.0
FIRST_HOLD, LONGEST_HOLD = 60.0, 600.0


class Knee(NamedTuple):
    """The search for the knee.

    `at` and `base`: when the present measurement began, and how many were accepted by then; at 0,
    it begins when `base` are. `high` open requests are enough, `low` are too few (0: not known).
    Enough brought `rate` answers a second, by a count of `counted`. `tried`: whether more are tried
    (1), fewer (-1), or none (0), as what was found is held for `hold` seconds; `looked`: what was
    tried last from there.
    """

    at: float = 0.0
    base: int = 0
    high: float = 0.0
    low: float = 0.0
    rate: float = 0.0
    counted: int = 0
    tried: int = 1
    looked: int = 1
    hold: float = FIRST_HOLD / 2.0


def needed(rate: float, latency: float, lowest: float) -> float:
    """Return how many a rate needs, at a smoothed latency whose lowest value is known."""
    return ROOM * rate * min(latency, SLOWER * lowest) + SPARE


def widen(
    most: float, knee: Knee, accepted: int, bound: float, *, latency: float, now: float
) -> tuple[float, Knee]:
    """Return how many may be open after an answer, without a rate; `latency` is smoothed."""
    if not knee.base and most < min(QUICK, bound):
        return most + 1.0, knee
    if not knee.at:
        return most, knee._replace(at=now, base=accepted) if accepted >= knee.base else knee
    counted, seconds = accepted - knee.base, max(1e-9, now - knee.at)
    rate = counted / seconds
    if not _clear(knee, counted, rate, most) or (not knee.tried and seconds < knee.hold):
        return most, knee
    if rate * latency < FULL * most:
        return most, knee._replace(at=now, base=accepted)  # not used: nothing is learnt
    wanted, after = _judged(most, knee, counted, rate, bound)
    wanted = min(bound, math.ceil(wanted))
    return wanted, after._replace(at=0.0, base=accepted + math.ceil(max(most, wanted)))


def _clear(knee: Knee, counted: int, rate: float, most: float) -> bool:
    """Whether so many answers are enough to tell what a number of open requests is worth."""
    if counted < max(FEWEST, TURNS * most):
        return False
    if not knee.rate:
        return counted >= max(FIRST, 2.0 * TURNS * most)
    if counted >= max(ENOUGH, 3.0 * TURNS * most):
        return True
    least = knee.rate * (WORTH if knee.tried > 0 else STAYS)
    return knee.tried != 0 and abs(rate - least) > least * (
        1.0 / math.sqrt(counted) + 0.5 * most / counted
    )


def _judged(most: float, knee: Knee, counted: int, rate: float, bound: float) -> tuple[float, Knee]:
    """Return what to try after so many answers, at a rate, with `most` open."""
    seen = knee._replace(rate=rate, counted=counted)
    if knee.tried == 0 and (knee.looked > 0 or most >= bound):
        knee = seen._replace(low=0.0, tried=-1, looked=-1)
    elif knee.tried == 0:
        return GROWTH * most, seen._replace(low=knee.high, tried=1, looked=1)
    elif knee.tried > 0 and rate >= WORTH * knee.rate:
        knee = seen._replace(high=most, low=knee.high, hold=FIRST_HOLD / 2.0)
        if most < bound:
            return GROWTH * most, knee
        knee = knee._replace(tried=-1)
    elif knee.tried > 0:
        knee = (seen if rate > knee.rate else knee)._replace(tried=-1)
    elif rate >= STAYS * knee.rate:  # both are at the plateau: two measurements of one rate
        both = counted + knee.counted
        seconds = counted / rate + knee.counted / knee.rate
        knee = knee._replace(high=most, rate=both / seconds, counted=both)
    else:
        knee = knee._replace(low=most)
    if knee.high <= max(1.0, CLOSE * knee.low):
        hold = min(LONGEST_HOLD, 2.0 * knee.hold)
        return MARGIN * knee.high, knee._replace(tried=0, hold=hold)
    return math.sqrt(knee.high * knee.low) if knee.low else knee.high / 2.0, knee
