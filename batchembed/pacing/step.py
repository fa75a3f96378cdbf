"""The step: when the next request may start, and what a start and an outcome change.

Theory of operation. Requests leave through one gate, in order. Each resource (requests, tokens,
texts) has a *due time*: the moment from which the next start keeps the rate; a start moves it on
by cost / rate. There is no bucket that could be full at the start, so there is no burst, and a
server whose window begins anywhere sees at most its limit. A start that comes late, because timers
do, is made up for: up to `LATE` seconds, or every timer would cost some of the rate. We aim at
`AIM` of a limit: the rest is for that and for jitter on the way. Tokens are estimated at the start
and corrected by the bill, which may come `BILL_LATE` seconds too late to be used, once it is known
what estimates are worth. What a server tells of its limits only ever tightens.

A 429 opens an *episode*: the gate is shut until one request alone, a probe, was taken. What the
limit is, is learnt from episodes in `finding`, also where none was known.

A failure that is no 429 takes one from a *budget*, an answer gives it back. While failures come
between answers, requests go on at their rate. When the budget is spent, the circuit opens: the
gate is shut, and probes go alone, at waits that double up to a minute; an answer closes it, and
the number of open requests grows anew.

That number is bounded as well, as `width` says: under a rate by what rate and latency need, without
one by where more of them gain nothing. Whether a server has become slow is told by each run's own
latency, as one that shares a limit may have longer texts than another.

The step is pure: (state, outcome, now) -> state. `Pacer` adds the waiting.
"""

from __future__ import annotations

from batchembed.exchange import Outcome, Response, Throttled, Told, Unavailable
from batchembed.pacing import finding, width
from batchembed.pacing.state import BUDGET_AT_FIRST, INF, Permit, Rates, Speed, State

AIM = 0.98
LATE = 0.05
BILL_LATE = 0.2
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0
LONGEST_SILENCE = 30.0
BUDGET = 20.0
SETTLED = 30
FAR_OFF = 20.0  # times: a bill that is farther from its estimate is taken for that much


def begin(rates: Rates, now: float) -> State:
    """Return what is known before the first request."""
    state = State(
        request_due=now,
        token_due=now,
        text_due=now,
        most_open=1.0 if rates.find else rates.concurrency or INF,
        finder=finding.begin(now),
    )
    return restate(state, rates, now)


def restate(state: State, rates: Rates, now: float) -> State:
    """Return the state under other limits of the job; what the server told still tightens them.

    Where a rate rises, what is left to wait for shrinks with it.
    """
    stated = (rates.requests_per_minute, rates.tokens_per_minute, rates.texts_per_minute)
    each = zip(stated, state.told, strict=True)
    requests, tokens, texts = (AIM * min(own or INF, told) / 60.0 for own, told in each)
    held, found = min(state.request_rate, state.found), min(requests, state.found)
    return state._replace(
        request_rate=requests,
        token_rate=tokens,
        text_rate=texts,
        request_due=_sooner(state.request_due, held, found, now),
        token_due=_sooner(state.token_due, state.token_rate, tokens, now),
        text_due=_sooner(state.text_due, state.text_rate, texts, now),
    )


def _sooner(due: float, before: float, rate: float, now: float) -> float:
    """Return a due time, where a rate may have risen since it was set."""
    return now + (due - now) * before / rate if due > now and rate > before else due


def ready(state: State, now: float) -> float:
    """Return when the next request may start; infinity: not before one that is open has ended."""
    if state.open >= state.most_open or (state.shut and state.probing):
        return INF
    return max(now, state.held_until, state.request_due, state.token_due, state.text_due)


def bound_by(state: State, now: float) -> str:
    """Return what holds the next request back."""
    if state.shut or state.held_until > now:
        return "throttled" if state.finder.troubled is not None else "unavailable"
    if state.open >= state.most_open:
        return "concurrency"
    dues = (state.request_due, state.token_due, state.text_due)
    return ("requests", "tokens", "texts")[dues.index(max(dues))]


def admit(state: State, tokens: float, texts: int, now: float) -> tuple[State, Permit]:
    """Return the state after one more start, now, and the permit for it."""
    cost = tokens * state.billed
    request_due, token_due, text_due = state.request_due, state.token_due, state.text_due
    rate = min(state.request_rate, state.found)
    if rate < INF:
        request_due = max(request_due, now - LATE) + 1.0 / rate
    if state.token_rate < INF:
        late = BILL_LATE if state.accepted > SETTLED else LATE
        token_due = max(token_due, now - late) + cost / state.token_rate
    if state.text_rate < INF:
        text_due = max(text_due, now - LATE) + texts / state.text_rate
    after = state._replace(
        request_due=request_due,
        token_due=token_due,
        text_due=text_due,
        open=state.open + 1,
        probing=state.shut,
    )
    return after, Permit(tokens, cost, now, state.shut, texts)


def learn(
    state: State, rates: Rates, permit: Permit, outcome: Outcome | None, *, now: float, draw: float
) -> State:
    """Return the state after the attempt that had `permit` has ended; None: it was lost.

    `draw` is a random number in [0, 1) for the jitter.
    """
    probing = state.probing and not permit.probe
    told = None
    if isinstance(outcome, Response):
        state, told = _answered(state, rates, permit, outcome.tokens, now), outcome.told
    elif isinstance(outcome, Throttled):
        state, told = _throttled(state, permit, outcome, now, draw), outcome.told
    elif isinstance(outcome, Unavailable):
        return _unavailable(state, permit, outcome, now, draw)
    elif outcome is None:
        return state._replace(open=state.open - 1, probing=probing)
    else:
        return _answered(state, rates, permit, None, now)
    return state if told is None else hear(state, rates, told, now)


def _answered(state: State, rates: Rates, permit: Permit, tokens: int | None, now: float) -> State:
    """Return the state after an answer of any kind: a server that refuses a text is up."""
    token_due, billed = state.token_due, state.billed
    if tokens and permit.tokens:
        bill = min(max(tokens, permit.tokens / FAR_OFF), permit.tokens * FAR_OFF)
        billed = 0.95 * billed + 0.05 * bill / permit.tokens
        if state.token_rate < INF:
            token_due += (bill - permit.cost) / state.token_rate
    took = now - permit.at
    latency, own = _smoothed(state.latency, took), _timed(state.own, took)
    lowest = own.lowest
    if state.lowest < INF:
        lowest = _smoothed(state.lowest, min(own.latency, own.lowest))
    most, knee, spacing = state.most_open, state.knee, _spacing(state, permit)
    bound = float((not spacing and rates.unpaced) or rates.concurrency or INF)
    if spacing:  # the rate holds back by itself: at the start of a run there is nothing to feel for
        most += 1.0 if state.accepted > SETTLED else INF
        most = min(most, width.needed(1.0 / spacing, latency, lowest))
    elif rates.find and not rates.fixed:
        most, knee = width.widen(most, knee, state.accepted + 1, bound, latency=latency, now=now)
    else:
        most += 1.0
    state = state._replace(
        token_due=token_due,
        billed=billed,
        open=state.open - 1,
        probing=state.probing and not permit.probe,  # also where an older 429 came meanwhile
        most_open=min(most, bound),
        knee=knee,
        lowest=lowest,
        own=own,
        spacing=spacing,
        accepted=state.accepted + 1,
        latency=latency,
        budget=min(BUDGET, state.budget + 1.0),
    )
    finder = state.finder
    if state.shut:
        if finder.troubled is None:
            return _works(state)._replace(
                shut=False,
                probing=False,
                budget=BUDGET_AT_FIRST,
                most_open=state.open + 1.0,
                knee=width.Knee(),
                failures=0,
            )
        if permit.at > finder.troubled:
            return finding.episode_over(_works(state), permit, now)
        return state
    if state.failing_since is not None:
        state = _works(state)
    return finding.look(state, now) if now >= finder.look_at else state


def _timed(own: Speed, took: float) -> Speed:
    """Return how soon a run is answered, after one more answer that took so many seconds."""
    latency = _smoothed(own.latency, took)
    lowest = min(latency, 1.0005 * own.lowest) if own.answers > SETTLED else INF
    return Speed(latency, lowest, own.answers + 1)


def _smoothed(before: float, now: float) -> float:
    return 0.95 * before + 0.05 * now if before else now


def _spacing(state: State, permit: Permit) -> float:
    """Return the seconds between two starts that the tightest rate asks for, smoothed."""
    rate = min(state.request_rate, state.found)
    asked = max(1.0 / rate, permit.cost / state.token_rate, permit.texts / state.text_rate)
    return _smoothed(state.spacing, asked) if asked else asked


def _works(state: State) -> State:
    return state._replace(failing_since=None, reason="")


def _throttled(state: State, permit: Permit, outcome: Throttled, now: float, draw: float) -> State:
    """Return the state after a 429: of a probe, the first of an episode, or one of the same."""
    news = state.finder.troubled is None or permit.probe
    failures = state.failures + news
    state = state._replace(
        open=state.open - 1,
        failures=failures,
        failing_since=now if state.failing_since is None else state.failing_since,
        shut=True,
        probing=state.probing and not permit.probe,
        reason=outcome.reason,
    )
    if outcome.wait is not None:
        until = now + outcome.wait + 0.02 + 0.1 * draw
        state = state._replace(held_until=max(state.held_until, until))
    wait = 0.0
    if news and outcome.wait is None:
        tries = min(failures - 1 + state.finder.short, 10)
        wait = min(LONGEST_SILENCE, FIRST_WAIT * 3.0**tries) * (0.75 + draw / 2.0)
    return finding.refused(state, permit, now, wait)


def _unavailable(
    state: State, permit: Permit, outcome: Unavailable, now: float, draw: float
) -> State:
    """Return the state after a failure; of those that left before a hold, nothing new is learnt."""
    mishap = outcome.wait == 0.0
    budget = state.budget if mishap else max(0.0, state.budget - 1.0)
    opens = budget <= 0.0 or bool(outcome.wait)
    news = opens and (not state.shut or permit.probe)
    failures, wait = state.failures + news, outcome.wait or 0.0
    if wait:
        wait += 0.02 + 0.1 * draw
    elif news:
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(failures, 10)) * (0.5 + draw / 2.0)
    return state._replace(
        open=state.open - 1,
        budget=budget,
        failures=failures,
        failing_since=now if state.failing_since is None else state.failing_since,
        held_until=max(state.held_until, now + wait) if wait else state.held_until,
        shut=state.shut or opens,
        probing=state.probing and not permit.probe,
        reason=outcome.reason,
    )


def hear(state: State, rates: Rates, told: Told, now: float) -> State:
    """Return the state with what the server tells of its limits: it only ever tightens ours."""
    requests = (told.requests_per_minute or INF) / rates.parts
    tokens = (told.tokens_per_minute or INF) / rates.parts
    if (requests, tokens) != state.told[:2]:
        before = state.request_rate
        state = restate(state._replace(told=(requests, tokens, INF)), rates, now)
        if INF > state.request_rate > before and state.found < INF:  # so at once
            state = state._replace(found=state.found * state.request_rate / before)
    if told.requests_left is not None and told.requests_left - state.open < 1.0 and requests < INF:
        wait = _refill(requests, told.requests_left, told.requests_reset, 1.0)
        state = state._replace(request_due=max(state.request_due, now + wait))
    if told.tokens_left is not None and told.tokens_left <= 0.0 and tokens < INF:
        wait = _refill(tokens, told.tokens_left, told.tokens_reset, tokens / 60.0)
        state = state._replace(token_due=max(state.token_due, now + wait))
    return state


def _refill(limit: float, left: float, reset: float | None, need: float) -> float:
    """Return the seconds until `need` is there again: of a bucket a little, of a window all."""
    drip = 60.0 * need / limit
    if reset is None:
        return drip
    bucket = reset * limit / 60.0 >= 0.5 * (limit - left)
    return min(drip, reset) if bucket else reset
