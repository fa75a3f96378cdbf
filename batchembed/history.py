"""What a run did over time: rate, answers, limits and waits, in a file of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, field, fields, replace
from datetime import datetime
from math import inf
from typing import Any

import orjson

MOST_POINTS = 600
MOST_WAITS = 200
MOST_EXECUTIONS = 20
STEP_SECONDS = 1.0
KEEP_SECONDS = 5.0
REASON_LETTERS = 200

Limits = tuple[float | None, float | None]
"""Requests and tokens a minute; None: no limit is known."""


@dataclass(slots=True)
class Point:
    """What happened in the `seconds` from `at`, in seconds since the execution began.

    `took` adds up the seconds of the `attempts` that ended, `slowest` is the longest of them.
    The limits are those at its end.
    """

    at: float
    seconds: float = 0.0
    texts: int = 0
    tokens: int = 0
    requests: int = 0
    attempts: int = 0
    took: float = 0.0
    slowest: float = 0.0
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def joined(self, later: Point) -> Point:
        """Return one point for this one and the next."""
        return Point(
            self.at,
            round(later.at + later.seconds - self.at, 3),
            self.texts + later.texts,
            self.tokens + later.tokens,
            self.requests + later.requests,
            self.attempts + later.attempts,
            round(self.took + later.took, 3),
            max(self.slowest, later.slowest),
            later.requests_per_minute,
            later.tokens_per_minute,
        )


@dataclass(slots=True)
class Wait:
    """A time in which nothing could start: since when, how long, and what the server said."""

    at: float
    seconds: float
    kind: str
    reason: str


@dataclass(slots=True)
class Execution:
    """One start of a run that sent something. `began` is UTC, ISO 8601."""

    began: str
    to_send: int
    points: list[Point] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)

    def thin(self) -> None:
        """Join every two neighbouring points."""
        pairs = zip(self.points[::2], self.points[1::2], strict=False)
        last = self.points[-1:] if len(self.points) % 2 else []
        self.points = [first.joined(second) for first, second in pairs] + last

    def wait(self, new: Wait) -> None:
        """Note a wait; those that overlap are one, and of very many the shortest are left out."""
        last = self.waits[-1] if self.waits else None
        if last is not None and new.at <= last.at + last.seconds:
            last.seconds = round(max(last.seconds, new.at + new.seconds - last.at), 3)
        else:
            self.waits.append(new)
        if len(self.waits) > MOST_WAITS:
            self.waits.remove(min(self.waits[:-1], key=lambda wait: wait.seconds))

    def told(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "began": self.began,
            "to_send": self.to_send,
            "points": [list(astuple(point)) for point in self.points],
            "waits": [list(astuple(wait)) for wait in self.waits],
        }


class History:
    """Hears what a run does and writes it down now and then; costs the hot loop a few additions.

    A point is STEP_SECONDS long at first. Whenever there are MOST_POINTS, every two become one and
    the next are twice as long. `keep` is given the file's bytes every KEEP_SECONDS.
    """

    def __init__(
        self, earlier: Sequence[Execution] = (), keep: Callable[[bytes], None] | None = None
    ) -> None:
        self.earlier = list(earlier)[1 - MOST_EXECUTIONS :]
        while sum(len(one.points) for one in self.earlier) > MOST_POINTS:
            max(self.earlier, key=lambda one: len(one.points)).thin()
        self.keep = keep
        self.limits: Callable[[], Limits] = lambda: (None, None)
        self._now: Execution | None = None
        self._point = Point(0.0)
        self._began = self._kept_at = 0.0
        self._step = STEP_SECONDS

    def begin(self, now: float, began: str, to_send: int) -> None:
        """Begin an execution at `now`, in seconds of the monotonic clock."""
        self._now, self._point, self._step = Execution(began, to_send), Point(0.0), STEP_SECONDS
        self._began = self._kept_at = now

    def answered(self, texts: int, tokens: int) -> None:
        """Vectors were kept."""
        self._point.texts += texts
        self._point.tokens += tokens
        self._point.requests += 1

    def attempted(self, seconds: float) -> None:
        """An attempt ended, after so many seconds."""
        self._point.attempts += 1
        self._point.took += seconds
        self._point.slowest = max(self._point.slowest, seconds)

    def held(self, now: float, seconds: float, kind: str, reason: str) -> None:
        """Nothing can start from `now` on for so many seconds."""
        if self._now is not None and seconds > 0:
            at, told = round(now - self._began, 3), reason[:REASON_LETTERS]
            self._now.wait(Wait(at, round(seconds, 3), kind, told))

    def tick(self, now: float) -> None:
        """Let time pass."""
        if self._now is None:
            return
        if now - self._began - self._point.at >= self._step:
            self._close_point(self._now, now)
        if now - self._kept_at >= KEEP_SECONDS:
            self._kept_at = now
            self._write()

    def end(self, now: float) -> None:
        """End the execution, if one is under way."""
        if self._now is not None:
            self._close_point(self._now, now)
            self._write()
            self.earlier.append(self._now)
            self._now = None

    def _close_point(self, execution: Execution, now: float) -> None:
        point, end = self._point, round(now - self._began, 3)
        point.seconds = round(end - point.at, 3)
        point.took, point.slowest = round(point.took, 3), round(point.slowest, 3)
        point.requests_per_minute, point.tokens_per_minute = self.limits()
        execution.points.append(point)
        self._point = Point(end)
        if len(execution.points) >= MOST_POINTS:
            execution.thin()
            self._step *= 2

    def _write(self) -> None:
        if self.keep is not None and self._now is not None:
            self.keep(to_json([*self.earlier, self._now]))


def to_json(executions: Sequence[Execution]) -> bytes:
    """Return the bytes of the file, as docs/format.md has it."""
    columns = {
        "points": [column.name for column in fields(Point)],
        "waits": [column.name for column in fields(Wait)],
    }
    told = {"columns": columns, "executions": [one.told() for one in executions]}
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def from_json(raw: bytes) -> list[Execution]:
    """Return the executions of a file; [] for one that cannot be read: it is only looked at."""
    try:
        told = orjson.loads(raw)
        points, waits = told["columns"]["points"], told["columns"]["waits"]
        return [
            Execution(
                str(one["began"]),
                int(one["to_send"]),
                [_point(dict(zip(points, row, strict=True))) for row in one["points"]],
                [Wait(**dict(zip(waits, row, strict=True))) for row in one["waits"]],
            )
            for one in told["executions"]
        ]
    except (ValueError, KeyError, TypeError):
        return []


def _point(told: dict[str, Any]) -> Point:
    """Return a point; columns of a newer version are passed over."""
    known = {column.name for column in fields(Point)}
    return Point(**{name: value for name, value in told.items() if name in known})


def overlaid(executions: Sequence[Execution]) -> list[Execution]:
    """Return executions in the order of their beginning, those that went on at once as one.

    Its points add up what the others' have, limits too: each had its share of them.
    """
    groups: list[list[Execution]] = []
    end = -inf
    for one in sorted(executions, key=lambda one: one.began):
        if not one.points:
            continue
        if _moment(one) > end:
            groups.append([])
        groups[-1].append(one)
        end = max(end, _moment(one) + one.points[-1].at + one.points[-1].seconds)
    return [group[0] if len(group) == 1 else _as_one(group) for group in groups]


def _as_one(group: Sequence[Execution]) -> Execution:
    """Return one execution for several; a point is as long as the longest of theirs."""
    whole = Execution(group[0].began, sum(one.to_send for one in group))
    step = max(STEP_SECONDS, *(point.seconds for one in group for point in one.points))
    slots: dict[int, Point] = {}
    limits: dict[int, dict[int, Limits]] = {}
    for number, one in enumerate(group):
        later = _moment(one) - _moment(whole)
        for point in one.points:
            at = int((later + point.at + point.seconds / 2) // step)
            there = slots.setdefault(at, Point(at * step, step))
            slots[at] = replace(there.joined(point), at=there.at, seconds=step)
            limits.setdefault(at, {})[number] = point.requests_per_minute, point.tokens_per_minute
        for wait in one.waits:
            whole.waits.append(replace(wait, at=round(later + wait.at, 3)))
    for at in sorted(slots):
        point = slots[at]
        point.requests_per_minute, point.tokens_per_minute = _added(limits[at].values())
        whole.points.append(point)
    while len(whole.points) > MOST_POINTS:
        whole.thin()
    waits, whole.waits = sorted(whole.waits, key=lambda wait: wait.at), []
    for wait in waits:
        whole.wait(wait)
    return whole


def _added(limits: Iterable[Limits]) -> Limits:
    """Return the sum of shares of limits; None where one of them is not known."""
    known = list(limits)
    requests = [one for one, _ in known if one is not None]
    tokens = [one for _, one in known if one is not None]
    return (
        sum(requests) if len(requests) == len(known) else None,
        sum(tokens) if len(tokens) == len(known) else None,
    )


def _moment(one: Execution) -> float:
    """Return when an execution began, in seconds."""
    return datetime.fromisoformat(one.began).timestamp()
