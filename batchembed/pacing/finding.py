"""The search for the limit: what an episode of 429s tells of it, and when to try a higher rate.

Theory of operation. An *episode* is the time from a 429 to the first request that is taken after
it; a *cycle* is the time between the ends of two episodes. Whatever a server counts with, bucket
or window, it has nothing left at both ends of a cycle. What it took in between, divided by the
cycle, is therefore its limit, or less than it where the client itself was slow. From this:

- *First episode.* Until then there is no rate, only a number of open requests that grows. If the
  silence was long, a window was used up, and the cycle gives its limit. If it was short, it was a
  bucket, which began full: half of the estimate is held, and the search goes on from below.
- *Echo.* A cycle of few requests says little: a window that still frees what a burst took, or a
  bucket without anything in it. The rate stays; after a second echo, all echoes together are a
  cycle, unless a window is known by now. Each echo trebles the silence.
- *Failed climb.* Back to the rate that was `proven`: held for a whole gap.
- *A rate that was proven fails.* The limit has fallen, or someone else uses the key: the estimate
  is held. After a large fall the search begins anew.

Held is `HOLD` of an estimate. A climb raises the rate by `step` after each `gap` in which the rate
was used. A failed climb doubles the gap, up to eight minutes, so that looking for more costs few
429s. A rate above the last ceiling that holds shows that the limit has risen: steps grow then.
"""

from __future__ import annotations

from typing import NamedTuple

from batchembed.pacing.state import FIRST_GAP, INF, Finder, Permit, State

HOLD = 0.98
MARK = 5.0
MARKS = 14
FEW = 20
REST = 0.25
LONG = 10.0
MINUTE = 60.0
AFTER = 2.0  # so long after a window of a minute is a probe sure to find room in the next
SLOWEST = 1.0 / MINUTE
WINDOWS = (MINUTE, 10.0)
SHORTEST_GAP, RISEN_GAP, LONGEST_GAP = FIRST_GAP, 30.0, 480.0
MUCH = 0.8
STEP, SEARCHING_STEP, FIRST_STEP, LARGEST_STEP = 0.02, 0.05, 0.1, 0.25


class Cycle(NamedTuple):
    """What is known of the cycle that a probe ends. `rate` was allowed in it; seconds."""

    rate: float
    seconds: float
    taken: int
    silence: float

    @property
    def windowed(self) -> bool:
        """A good part of it was silence: a window was used up."""
        return self.silence > 0.3 * self.seconds


def begin(now: float) -> Finder:
    """Return the finder before the first request."""
    return Finder(since=now, marks=((now, 0),), mark_at=now + MARK)


def refused(state: State, permit: Permit, now: float, wait: float) -> State:
    """Return the state after a 429; the probe comes in `wait` seconds, or when a minute ends."""
    finder = state.finder
    if finder.troubled is None:
        finder = finder._replace(troubled=now)
    minute = finder.since + MINUTE + AFTER
    held = minute if now < minute < now + 1.3 * wait else now + wait
    finder = finder._replace(refused_at=permit.at)
    return state._replace(held_until=max(state.held_until, held), finder=finder)


def episode_over(state: State, permit: Permit, now: float) -> State:
    """Return the state after a probe was answered: the rate to hold from now on."""
    finder = state.finder
    cycle = Cycle(
        rate=min(state.request_rate, state.found),
        seconds=max(0.001, permit.at - finder.since),
        taken=state.accepted - 1 + state.open - finder.base,
        silence=permit.at - (now if finder.troubled is None else finder.troubled),
    )
    few = cycle.seconds < LONG and (cycle.taken < FEW or state.found == INF)
    echo = cycle.rate < INF and (few or cycle.seconds < (0.5 if finder.sure else 0.1) * finder.span)
    unknown = cycle.rate == INF and cycle.taken < (FEW if cycle.seconds >= LONG else 1)
    if unknown:  # one 429 after a few requests: what another run left of a limit, or no limit
        pass
    elif echo:
        finder = _echo(finder, cycle)
    elif cycle.rate == INF:
        finder = _first(finder, cycle)
    elif finder.proven < cycle.rate and not cycle.windowed:
        finder = _failed_climb(finder, cycle, _recent(state, permit.at))
    else:
        finder = _lower(finder, cycle, _recent(state, permit.at))
    if not echo and not unknown:
        span = min(MINUTE, cycle.seconds)
        sure = cycle.windowed and span >= LONG
        finder = finder._replace(
            since=permit.at, base=state.accepted, span=span, short=0, sure=sure
        )
    climbed = finder.ceiling == cycle.rate or finder.gap < MINUTE
    finder = finder._replace(
        troubled=None,
        look_at=now,
        climb_at=now + finder.gap if climbed else max(finder.climb_at, now + MINUTE),
        raised_at=now,
        raised_base=state.accepted,
        good=0,
    )
    return state._replace(
        found=max(SLOWEST, finder.proven),
        finder=finder,
        shut=False,
        probing=False,
        failures=0,
        most_open=state.open + 2.0 if echo or cycle.rate == INF else state.most_open,
        request_due=max(state.request_due, now + REST),
    )


def _first(finder: Finder, cycle: Cycle) -> Finder:
    """Hold what the first cycle says."""
    seconds = _window(finder, cycle)
    long = seconds >= LONG
    held = HOLD * cycle.taken / seconds * (1.0 if cycle.windowed or long else 0.5)
    gap = seconds if long else max(SHORTEST_GAP, seconds / 2.0)
    step = SEARCHING_STEP if long else FIRST_STEP
    return finder._replace(gap=min(MINUTE, gap), step=step, proven=held)


def _window(finder: Finder, cycle: Cycle) -> float:
    """Return a cycle's seconds: a usual window, if one ended between the last probe and this."""
    tried = finder.refused_at - finder.since
    return next((w for w in WINDOWS if tried < w < cycle.seconds), cycle.seconds)


def _echo(finder: Finder, cycle: Cycle) -> Finder:
    """Keep the rate; from the second time on, believe all of them together."""
    if finder.short == 0 or finder.sure:
        held = min(cycle.rate, finder.doubt)
        return finder._replace(short=finder.short + 1, proven=held)
    held = max(0.5 * cycle.rate, min(0.95 * cycle.rate, cycle.taken / cycle.seconds))
    return _anew(finder._replace(short=finder.short + 1, proven=held), cycle)


def _failed_climb(finder: Finder, cycle: Cycle, recent: float) -> Finder:
    """Go back to what was proven; what the cycle says is used if that fails at once too."""
    estimate = HOLD * _estimate(cycle, recent)
    return finder._replace(
        proven=min(cycle.rate, max(finder.proven, estimate)),
        doubt=estimate,
        ceiling=cycle.rate,
        gap=min(LONGEST_GAP, 2.0 * finder.gap),
        step=max(STEP, finder.step / 2.0) if finder.step <= FIRST_STEP else STEP,
    )


def _lower(finder: Finder, cycle: Cycle, recent: float) -> Finder:
    """Hold what the server took: exactly a window's worth, or the last minute's."""
    if cycle.windowed:
        seconds = _window(finder, cycle)
        held = HOLD * min(cycle.rate, cycle.taken / seconds)
        if seconds >= LONG:
            least = finder.gap if held >= MUCH * cycle.rate else SHORTEST_GAP
            gap = max(least, min(MINUTE, seconds))
            return finder._replace(proven=held, doubt=INF, gap=gap, step=STEP)
    else:
        estimate = _estimate(cycle, recent)
        held = max(0.5 * cycle.rate, HOLD * min(cycle.rate, estimate))
    return _anew(finder._replace(proven=held, doubt=INF), cycle)


def _anew(finder: Finder, cycle: Cycle) -> Finder:
    """Return to searching after a large fall."""
    if finder.proven >= MUCH * cycle.rate:
        return finder
    gap = max(SHORTEST_GAP, min(MINUTE, cycle.seconds))
    return finder._replace(gap=gap, step=SEARCHING_STEP, ceiling=INF)


def _estimate(cycle: Cycle, recent: float) -> float:
    return recent if cycle.seconds > MINUTE else cycle.taken / cycle.seconds


def look(state: State, now: float) -> State:
    """Return the state with a new mark, and with a higher rate if it is time to try one."""
    finder = state.finder
    if now >= finder.mark_at:
        marks = (*finder.marks, (now, state.accepted))[-MARKS:]
        state = state._replace(finder=finder._replace(marks=marks, mark_at=now + MARK))
    if now >= finder.climb_at and finder.troubled is None:
        state = _climb(state, now)
    finder = state.finder
    look_at = min(finder.mark_at, finder.climb_at)
    return state._replace(finder=finder._replace(look_at=look_at))


def _climb(state: State, now: float) -> State:
    """Return the state with a higher rate; not if the present one was not used."""
    finder, found = state.finder, state.found
    rate = min(found, state.request_rate)
    used = (state.accepted - finder.raised_base) / (now - finder.raised_at)
    gap = finder.gap
    if used >= 0.85 * rate:
        step, gap = finder.step, min(gap, MINUTE)
        if rate > 1.01 * finder.ceiling:
            step, gap = min(LARGEST_STEP, 2.5 * step), min(gap, RISEN_GAP)
        elif finder.good > 1:
            step = max(step, min(FIRST_STEP, 2.0 * step))
        found = min(rate * (1.0 + step), state.request_rate)
        finder = finder._replace(good=finder.good + 1, step=step, proven=rate)
    finder = finder._replace(climb_at=now + gap, raised_at=now, raised_base=state.accepted, short=0)
    return state._replace(finder=finder, found=found)


def _recent(state: State, now: float) -> float:
    """Return how many a second were accepted in the last minute."""
    marks = state.finder.marks
    when, accepted = next((m for m in reversed(marks) if now - m[0] >= MINUTE), marks[0])
    return (state.accepted - accepted) / max(1.0, now - when)
