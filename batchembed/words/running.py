"""What the commands say that run a job, plan one, and tell how far a run is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchembed.monitor.telling import span
from batchembed.prices import amount
from batchembed.words.plain import counted, cut, money, row, size

if TYPE_CHECKING:
    from batchembed.api import Glance
    from batchembed.job import FirstJob
    from batchembed.limiter.messages import Seen
    from batchembed.monitor import Summary
    from batchembed.plan import Comparison, Plan

HALF = 36
NEEDS_A_PERSON = (1, 2, 4)
NAMED = 10


def begun_words(job: FirstJob, path: Path) -> str:
    """Return what a first job file says, and what to do with it."""
    lines = [f"{path} is written", row("text", job.text), row("id", job.id or "the row number")]
    lines += [row("provider", job.provider), row("vectors", job.out)]
    lines.append(row("next", f"batchembed plan {shlex.quote(str(path))}"))
    lines.append(row("", f"batchembed run {shlex.quote(str(path))}"))
    return "\n".join(lines)


def run_words(summary: Summary, glances: Sequence[Glance] = ()) -> str:
    """Return what a run came to, with a few rows and their nearest to look at."""
    s = summary
    done = f"{s.rows:,} rows, {s.distinct:,} different texts: {s.sent:,} embedded"
    vectors = f"{s.dimensions} dimensions"
    search = f'batchembed search {shlex.quote(s.path)} "…"'
    if s.columns:
        vectors = f"{counted(len(s.columns), 'column')} of {vectors}"
        search += f" --column {s.columns[0]}"
    lines = [
        f"{done}, {s.reused:,} already paid for, {s.rejected:,} rejected, in {s.seconds:.1f} s",
        row(
            "vectors",
            f"{s.path}/embeddings/  {counted(s.parts, 'part')}, {vectors}",
        ),
    ]
    lines += [row("similarity", f"{s.path}/{name}") for name in s.similarity]
    for number, near in enumerate(glances):
        told = f"{near.score:.2f}  {cut(near.left, HALF)}  ~  {cut(near.right, HALF)}"
        lines.append(row("" if number else "nearest", told))
    if s.rejected:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(s.reasons.items()))
        lines.append(row("rejects", f"{s.path}/rejects.arrow  {why}"))
    lines += _long_words(s)
    if s.server:
        lines.append(row("server", s.server))
    if s.learnt:
        most = [counted(n, name.removesuffix("s_per_request")) for name, n in s.learnt.items()]
        lines.append(row("learnt", f"the server takes at most {', '.join(most)} a request"))
    lines += _paid_lines(s)
    look = f"batchembed report {shlex.quote(s.path)}"
    if s.columns:
        look += f" --column {s.columns[0]}"
    lines += [row("next", search), row("look", look + _outdated(s.outdated))]
    return "\n".join(lines)


def _paid_lines(s: Summary) -> list[str]:
    """Return what was paid, how well limits were used, what was tried again."""
    told = f"{counted(s.requests, 'request')}, {s.tokens:,} tokens"
    paid = money(s.cost, s.currency)
    earlier = s.cost and s.billed_tokens > s.tokens
    more = f"; {paid} for all {s.billed_tokens:,} of this directory" if earlier else f", {paid}"
    lines = [row("paid", told + more)]
    if s.cost and s.unsure_tokens:
        told = f"{s.unsure_tokens:,} more may have been billed: their answers were lost"
        lines.append(row("", told))
    if pace := pace_words(s.pace):
        lines.append(row("pace", pace))
    if s.failures:
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(s.failures.items()))
        lines.append(row("tried again", told))
    return lines


def shard_words(summary: Summary) -> str:
    """Return what a shard came to."""
    s = summary
    if s.parts:
        return f"{s.path} is complete: nothing was sent"
    own = f"{counted(s.distinct, 'text')} of {s.rows:,} rows are of this shard"
    done = f"{s.sent:,} embedded, {s.reused:,} already paid for, {s.rejected:,} rejected"
    lines = [f"{own}: {done}, in {s.seconds:.1f} s", *_paid_lines(s)]
    lines.append(row("next", "batchembed merge JOB.toml, once all shards are done"))
    return "\n".join(lines)


def _long_words(summary: Summary) -> list[str]:
    if not summary.long:
        return []
    how = {"truncate": "by its beginning", "mean": "as the mean of its sections"}
    told = f"{counted(summary.long, 'row')} too long for the model, each embedded"
    return [row("long", f"{told} {how[summary.on_long_text]}: see `embedding_extent`")]


def pace_words(pace: dict[str, Any]) -> str:
    """Return how well limits were used: the one used most, 429s, and what was waited for."""
    limits = pace.get("limits") or {}
    if not limits:
        return ""
    name = max(limits, key=lambda name: limits[name]["used"])
    use = limits[name]
    words = f"{100 * use['used']:.1f} % of {use['limit']:,.0f} {name} ({use['told_by']})"
    if (runs := pace.get("shared_by", 0)) > 1:
        words += f", shared by {runs} runs"
        if (every := use.get("used_by_all")) is not None:
            words += f" that used {100 * every:.1f} % of it"
    words += f", {100 * pace['throttled']:.2f} % 429s"
    waited = max(pace["waited"], key=lambda why: pace["waited"][why], default="")
    if waited and pace["waited"][waited] >= 1.0:
        words += f"; waited {span(pace['waited'][waited])} for {waited}"
    return words


def limiter_words(seen: list[Seen], where: str) -> str:
    """Return how the limits stand that runs share."""
    if not seen:
        return f"{where}: no run takes part"
    lines = [where]
    for one in seen:
        told = one.standing
        rate = "no limit known" if told.rate is None else f"{60 * told.rate:,.0f} requests a minute"
        words = f"{counted(told.workers, 'run')}, {rate}, {one.started:,} started, {one.open} open"
        lines.append(row(one.name, f"{words}; {told.reason}" if told.shut else words))
    return "\n".join(lines)


def plan_words(plan: Plan) -> str:
    """Return what a run would send and take."""
    p = plan
    lines = [
        f"{p.provider}, {p.model}; {_sent_words(p)}",
        row("rows", f"{p.rows:,}, {p.distinct:,} different texts, {p.duplicates:,} duplicates"),
    ]
    if p.unsendable:
        told = ", ".join(f"{count:,} {why}" for why, count in sorted(p.unsendable.items()))
        lines.append(row("rejects", f"{told} (nothing to embed)"))
    if p.excess:
        told = f"{p.excess:,} more than `limits.max_rejects` allows: a run would send nothing"
        lines.append(row("", told))
    low, likely, high = p.tokens
    lines += [
        row("paid for", f"{p.paid:,}"),
        row("to send", f"{counted(p.to_send, 'text')} in {counted(p.requests, 'request')}"),
        row("tokens", f"{likely:,}, counted by the model's own tokenizer")
        if p.exact
        else row("tokens", f"about {likely:,} ({low:,} to {high:,}), {p.tokens_by}"),
        row("longest", f"{p.longest:,} characters"),
    ]
    if p.context is not None:
        told = f"{p.context:,} tokens a text"
        too_long = f"; {counted(p.too_long, 'text')} too long for that" if p.too_long else ""
        lines.append(row("context", told + too_long))
    lines += [row("note", note) for note in p.notes]
    if p.seconds is not None:
        lines.append(row("time", f"at least {span(p.seconds)}, bound by {p.bound_by}"))
        others = [f"{span(t)} by {name}" for name, t in p.times.items() if name != p.bound_by]
        lines += [row("", ", ".join(others))] if others else []
    else:
        lines.append(row("time", "no limit is known that would bind"))
    lines += _cost_lines(p)
    lines += _odd_lines(p)
    if p.disk is not None:
        lines.append(row("disk", f"{size(p.disk)} of {size(p.disk_free)} free"))
    if p.similarity is not None:
        lines.append(row("similarity", _comparison_words(p.similarity)))
    return "\n".join(lines)


def _sent_words(plan: Plan) -> str:
    """Return what was sent for a plan: nothing, or what a probe was."""
    if (told := plan.probe) is None:
        return "nothing was sent"
    took = f"{told.billed:,} tokens, {told.seconds:.2f} s a request, {told.dimensions} dimensions"
    return f"{counted(told.rows, 'row')} were sent to probe, and kept: {took}"


def _comparison_words(told: Comparison) -> str:
    written = f", {size(told.bytes)}" if told.bytes is not None else ""
    return f"{told.scores:,} scores for {told.kind}{written}, about {span(told.seconds)}"


def _odd_lines(plan: Plan) -> list[str]:
    """Return rows to look at: how many, and where the first of them are."""
    lines: list[str] = []
    for name, odd in plan.odd.items():
        label = "" if lines else "odd rows"
        lines.append(row(label, f"{odd.count:,} {name.replace('_', ' ')}, such as"))
        lines += [row("", f"  {x.where}: {cut(x.text, HALF)}".rstrip(": ")) for x in odd.examples]
    return lines


def _bill_words(bill: dict[str, Any]) -> str:
    told = f"{counted(bill['requests'], 'request')}, {bill['tokens']:,} tokens"
    return f"{told}, {money(bill.get('cost'), bill.get('currency', ''))}"


def _cost_lines(plan: Plan) -> list[str]:
    if plan.cost is None:
        why = f"unknown: no price is known for `{plan.model}`; "
        return [row("cost", f"{why}give one with --set price.per_million_tokens=…")]
    low, likely, high = plan.cost
    if not high and plan.price == "free":
        return [row("cost", "free")]
    told = f"about {amount(likely)} {plan.currency} ({amount(low)} to {amount(high)})"
    lines = [row("cost", told), row("price", plan.price)]
    if plan.paid_cost:
        lines[0] += f", {amount(plan.paid_cost)} {plan.currency} are paid"
    if plan.over_budget:
        lines.append(row("", "a run may end before its time: `limits.max_cost` could be passed"))
    return lines


def _outdated(files: Sequence[str]) -> str:
    """Return that files of a report tell of an earlier state, if some do."""
    verb = "tells" if len(files) == 1 else "tell"
    return f"  ({', '.join(files)} {verb} of an earlier state)" if files else ""


def _look_again(status: dict[str, Any]) -> list[str]:
    """Return what makes a report anew, where there is one of an earlier state."""
    if not (files := status.get("outdated")):
        return []
    return [row("look", f"batchembed report {shlex.quote(status['path'])}{_outdated(files)}")]


def _next(code: int) -> str:
    """Return what to do after a run that stopped with such a code, where it left no word."""
    again = "the same command again to continue"
    return f"see its message, act, then {again}" if code in NEEDS_A_PERSON else f"run {again}"


def status_words(status: dict[str, Any]) -> str:
    """Return how far a run is."""
    if status["state"] == "complete":
        counts, bill = status["counts"], status["bill"]
        return "\n".join(
            [
                f"{status['path']}: complete since {status['finished']}",
                row("rows", f"{counts['rows']:,}, {counts['rejected']:,} rejected"),
                row(
                    "vectors",
                    f"{status['dimensions']} dimensions in {counted(status['parts'], 'part')}",
                ),
                row("paid", _bill_words(bill)),
                *([row("pace", pace)] if (pace := pace_words(status.get("pace") or {})) else []),
                *_look_again(status),
            ]
        )
    progress = status["progress"] or {}
    code = progress.get("exit_code") or 0
    stopped = status["state"] == "stopped"
    ended = f", exit code {code}" if stopped and code else ""
    shards = status.get("shards")
    done = shards is not None and len(shards["done"]) == shards["of"]
    lines = [f"{status['path']}: {'to be merged' if done else status['state']}{ended}"]
    if shards:
        lines.append(row("shards", _shards_words(shards)))
    if progress:
        lines.append(row("progress", progress.get("line", "")))
        lines.append(row("seen", progress.get("at", "")))
    if shards and progress["waiting"]:
        lines.append(row("waiting", progress["waiting"]))
    if stopped and progress.get("error"):
        lines.append(row("why", progress["error"]))
    if done:
        lines.append(row("next", "batchembed merge JOB.toml"))
    elif stopped and shards:
        lines.append(row("next", "run the shards that are not done again to continue"))
    elif stopped:
        lines.append(row("next", progress.get("hint") or _next(code)))
    return "\n".join(lines)


def _shards_words(shards: dict[str, Any]) -> str:
    """Return how many shards are how far, and which of them stopped."""
    begun = sum(len(shards[name]) for name in ("done", "running", "stopped"))
    words = [f"{len(shards['done'])} of {shards['of']} are done"]
    if shards["running"]:
        words.append(f"{len(shards['running'])} run")
    if stopped := shards["stopped"]:
        named = ", ".join(map(str, stopped[:NAMED])) + (", …" if len(stopped) > NAMED else "")
        words.append(f"{len(stopped)} stopped ({named})")
    if begun < shards["of"]:
        words.append(f"{shards['of'] - begun} not begun")
    return ", ".join(words)
