"""Every metric: its name by Prometheus' conventions, what it means, and where it comes from.

All labels are bounded: names from the job, words of this program, codes of HTTP. What a server or
a corpus says is in none of them.
"""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from batchembed.monitor import Progress, Summary
from batchembed.version import VERSION

WAITS = ("throttled", "circuit_open", "limit", "answers", "budget", "stopping", "waiting")
SUCCESS = (0, 3)

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class About:
    """What does not change while a run goes on. `success`: when one last ended well, if ever."""

    run: str
    provider: str
    model: str
    began: float
    success: float | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """All that metrics are read from."""

    about: About
    progress: Progress
    ended: bool

    @property
    def done(self) -> Summary:
        """What was done so far."""
        return self.progress.summary

    @property
    def at(self) -> float:
        """When this is, in seconds since 1970."""
        return datetime.fromisoformat(self.progress.at).timestamp()


Read = Callable[[Moment], Iterator[tuple[Labels, float]]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `labels` come after `run`, which all have."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    read: Read
    labels: Labels = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of a metric at one moment."""

    metric: Metric
    labels: Mapping[str, str]
    value: float


def readings(about: About, progress: Progress, *, ended: bool) -> list[Reading]:
    """Return the value of every metric that has one."""
    moment, run = Moment(about, progress, ended), {"run": about.run}
    return [
        Reading(metric, run | dict(zip(metric.labels, labels, strict=True)), float(value))
        for metric in METRICS
        for labels, value in metric.read(moment)
    ]


def _one(value: Callable[[Moment], float | None]) -> Read:
    """Return how a metric without labels is read; None: it has no value now."""

    def read(moment: Moment) -> Iterator[tuple[Labels, float]]:
        if (found := value(moment)) is not None:
            yield (), found

    return read


def _each(values: Callable[[Moment], Mapping[str, float]]) -> Read:
    """Return how a metric with one label is read."""

    def read(moment: Moment) -> Iterator[tuple[Labels, float]]:
        for label, value in sorted(values(moment).items()):
            yield (label,), value

    return read


def _info(moment: Moment) -> Iterator[tuple[Labels, float]]:
    yield (moment.about.provider, moment.about.model, VERSION), 1.0


def _results(moment: Moment) -> Mapping[str, float]:
    summary = moment.done
    return {"embedded": summary.sent, "rejected": sum(summary.reasons.values())}


def _limits(moment: Moment) -> Mapping[str, float]:
    limits = moment.done.pace.get("limits") or {}
    return {_resource(name): use["limit"] / 60.0 for name, use in limits.items()}


def _used(moment: Moment) -> Mapping[str, float]:
    used = moment.progress.used
    return {} if used is None else {_resource(used.name): used.share}


def _resource(limit: str) -> str:
    return limit.partition("_")[0]


def _circuit(moment: Moment) -> Mapping[str, float]:
    """Return the code of HTTP that keeps the circuit open; `no_answer` where there was none."""
    standing = moment.progress.standing
    if standing.kind != "circuit_open":
        return {"": 0.0}
    code = re.match(r"[1-5]\d\d\b", standing.reason)
    return {code[0] if code else "no_answer": 1.0}


def _cost(moment: Moment) -> Mapping[str, float]:
    summary = moment.done
    return {} if summary.cost is None else {summary.currency: summary.cost}


def _success(moment: Moment) -> float | None:
    done = moment.ended and moment.done.state != "stopped"
    ended_well = done and moment.done.exit_code in SUCCESS
    return moment.at if ended_well else moment.about.success


def _next_try(moment: Moment) -> float | None:
    seconds = moment.progress.standing.seconds
    return None if seconds is None else round(moment.at + seconds, 3)


def _memory(_: Moment) -> float:
    """Return the most memory this process had so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _gauge(name: str, told: str, read: Read, *labels: str) -> Metric:
    return Metric(name, "gauge", told, read, labels)


def _counter(name: str, told: str, read: Read, *labels: str) -> Metric:
    return Metric(name, "counter", told, read, labels)


METRICS = (
    _gauge(
        "batchembed_run_info",
        "What runs: provider, model, version of batchembed.",
        _info,
        "provider",
        "model",
        "version",
    ),
    _gauge(
        "batchembed_run_running",
        "1 while the run goes on, 0 once it has ended.",
        _one(lambda m: 0.0 if m.ended else 1.0),
    ),
    _gauge(
        "batchembed_run_phase",
        "The part of the run that it is in.",
        _each(lambda m: {} if m.ended else {m.progress.phase: 1.0}),
        "phase",
    ),
    _gauge(
        "batchembed_run_start_timestamp_seconds",
        "When this execution began.",
        _one(lambda m: m.about.began),
    ),
    _gauge(
        "batchembed_run_updated_timestamp_seconds",
        "When these figures were written.",
        _one(lambda m: m.at),
    ),
    _gauge(
        "batchembed_run_last_success_timestamp_seconds",
        "When an execution last ended with exit code 0 or 3.",
        _one(_success),
    ),
    _gauge(
        "batchembed_run_duration_seconds",
        "How long this execution goes on, or took.",
        _one(lambda m: round(m.done.seconds, 3)),
    ),
    _gauge(
        "batchembed_run_exit_code",
        "How this execution ended; absent while it goes on.",
        _one(lambda m: m.done.exit_code if m.ended else None),
    ),
    _gauge("batchembed_corpus_rows", "Rows of the corpus.", _one(lambda m: m.done.rows)),
    _gauge(
        "batchembed_corpus_texts", "Different texts of the corpus.", _one(lambda m: m.done.distinct)
    ),
    _gauge(
        "batchembed_texts_to_send",
        "Texts that were not paid for when this execution began.",
        _one(lambda m: m.done.to_send),
    ),
    _counter(
        "batchembed_texts_total",
        "Texts of this execution that have their vector, or never will.",
        _each(_results),
        "result",
    ),
    _counter(
        "batchembed_rejects_total",
        "Rows without a vector, by reason.",
        _each(lambda m: m.done.reasons),
        "reason",
    ),
    _counter(
        "batchembed_requests_total", "Requests that were answered.", _one(lambda m: m.done.requests)
    ),
    _counter(
        "batchembed_attempts_failed_total",
        "Attempts that brought no vectors, by what came instead.",
        _each(lambda m: m.done.failures),
        "kind",
    ),
    _counter(
        "batchembed_tokens_total",
        "Tokens that this execution was billed.",
        _one(lambda m: m.done.tokens),
    ),
    _counter(
        "batchembed_cost_total",
        "What all executions of the run directory cost; absent where no price is known.",
        _each(_cost),
        "currency",
    ),
    _gauge(
        "batchembed_time_left_seconds",
        "How long the phase takes on, at the rate of the last half minute; absent if unknown.",
        _one(lambda m: None if m.ended else m.progress.seconds_left),
    ),
    _gauge("batchembed_limit_per_second", "The limit that is kept to.", _each(_limits), "resource"),
    _gauge(
        "batchembed_limit_used_ratio",
        "The share of the limit that was used most in the last half minute.",
        _each(_used),
        "resource",
    ),
    _counter(
        "batchembed_waited_seconds_total",
        "For how long no request could start, by why.",
        _each(lambda m: m.done.pace.get("waited") or {}),
        "cause",
    ),
    _gauge(
        "batchembed_waiting",
        "1 for why nothing is sent now.",
        _each(lambda m: {kind: float(m.progress.standing.kind == kind) for kind in WAITS}),
        "cause",
    ),
    _gauge(
        "batchembed_circuit_open",
        "1 while nothing but probes is sent in an outage; the reason is a code of HTTP.",
        _each(_circuit),
        "reason",
    ),
    _gauge(
        "batchembed_next_try_timestamp_seconds",
        "When the next request or probe may start; absent while all may.",
        _one(_next_try),
    ),
    _gauge("batchembed_memory_max_bytes", "The most memory that the process had.", _one(_memory)),
    _gauge(
        "batchembed_output_bytes",
        "The published parts, all together; 0 until the run is complete.",
        _one(lambda m: m.done.output_bytes),
    ),
)
