"""What commands say to people about what they found."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchembed.errors import UsageError

if TYPE_CHECKING:
    from batchembed.api import Glance, Hit
    from batchembed.monitor import Summary
    from batchembed.plan import Plan
    from batchembed.providers import ProviderInfo
    from batchembed.similarity import Compared
    from batchembed.verify import Verified

SNIPPET = 88
HALF = 36
# What a terminal obeys in place of showing it: controls, and overrides of the direction.
UNSEEN = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def run_words(summary: Summary, glances: Sequence[Glance] = ()) -> str:
    """Return what a run came to, with a few rows and their nearest to look at."""
    s = summary
    done = f"{s.rows:,} rows, {s.distinct:,} different texts: {s.sent:,} embedded"
    lines = [
        f"{done}, {s.reused:,} already paid for, {s.rejected:,} rejected, in {s.seconds:.1f} s",
        _row(
            "vectors", f"{s.path}/embeddings/  {_count(s.parts, 'part')}, {s.dimensions} dimensions"
        ),
    ]
    lines += [_row("similarity", f"{s.path}/{name}") for name in s.similarity]
    for number, near in enumerate(glances):
        told = f"{near.score:.2f}  {_cut(near.left, HALF)}  ~  {_cut(near.right, HALF)}"
        lines.append(_row("" if number else "nearest", told))
    if s.rejected:
        why = ", ".join(f"{count:,} {reason}" for reason, count in sorted(s.reasons.items()))
        lines.append(_row("rejects", f"{s.path}/rejects.arrow  {why}"))
    cost = "free" if s.cost == 0 else "cost unknown" if s.cost is None else f"{s.cost:.4f}"
    lines.append(_row("paid", f"{_count(s.requests, 'request')}, {s.tokens:,} tokens, {cost}"))
    if s.failures:
        told = ", ".join(f"{count:,} {kind}" for kind, count in sorted(s.failures.items()))
        lines.append(_row("tried again", told))
    lines.append(_row("next", f'batchembed search {shlex.quote(s.path)} "…"'))
    return "\n".join(lines)


def plan_words(plan: Plan) -> str:
    """Return what a run would send and take."""
    p = plan
    lines = [
        f"{p.provider}, {p.model}; nothing was sent",
        _row("rows", f"{p.rows:,}, {p.distinct:,} different texts, {p.duplicates:,} duplicates"),
    ]
    if p.unsendable:
        told = ", ".join(f"{count:,} {why}" for why, count in sorted(p.unsendable.items()))
        lines.append(_row("rejects", f"{told} (no text to embed)"))
    if p.excess:
        told = f"{p.excess:,} more than `limits.max_rejects` allows: a run would send nothing"
        lines.append(_row("", told))
    low, likely, high = p.tokens
    lines += [
        _row("paid for", f"{p.paid:,}"),
        _row("to send", f"{_count(p.to_send, 'text')} in {_count(p.requests, 'request')}"),
        _row("tokens", f"about {likely:,} ({low:,} to {high:,}), estimated from bytes"),
        _row("longest", f"{p.longest:,} characters"),
    ]
    if p.seconds is not None:
        lines.append(_row("time", f"at least {_time(p.seconds)}, bound by {p.bound_by}"))
    else:
        lines.append(_row("time", "no limit is known that would bind"))
    lines.append(_row("cost", "free" if p.cost == 0 else "unknown: no price is known"))
    if p.disk is not None:
        lines.append(_row("disk", f"{_bytes(p.disk)} of {_bytes(p.disk_free)} free"))
    return "\n".join(lines)


def status_words(status: dict[str, Any]) -> str:
    """Return how far a run is."""
    if status["state"] == "complete":
        counts, bill = status["counts"], status["bill"]
        return "\n".join(
            [
                f"{status['path']}: complete since {status['finished']}",
                _row("rows", f"{counts['rows']:,}, {counts['rejected']:,} rejected"),
                _row(
                    "vectors",
                    f"{status['dimensions']} dimensions in {_count(status['parts'], 'part')}",
                ),
                _row("paid", f"{bill['requests']:,} requests, {bill['tokens']:,} tokens"),
            ]
        )
    progress = status["progress"]
    lines = [f"{status['path']}: {status['state']}"]
    if progress:
        lines.append(_row("progress", progress.get("line", "")))
        lines.append(_row("seen", progress.get("at", "")))
    if status["state"] == "stopped":
        lines.append(_row("next", "run the same command again to continue"))
    return "\n".join(lines)


def verify_words(found: Verified) -> str:
    """Return what a verification found."""
    lines = [
        f"{found.files} files, {_bytes(found.bytes)}: "
        + (f"{len(found.problems)} problems" if found.problems else "all as promised"),
        _row("vectors", f"{found.vectors:,} in {found.rows:,} rows"),
        _row("aligned", f"{found.aligned:,} rows have the key of their text in the corpus"),
    ]
    if found.cosine_least is not None:
        told = f"{found.asked} rows again: cosine at least {found.cosine_least:.6f}"
        lines.append(_row("embedded", f"{told}, mean {found.cosine_mean:.6f}"))
    lines += [_row("not looked at", what) for what in found.ignored]
    lines += [_row("problem", what) for what in found.problems]
    if found.problems:
        lines.append(_row("mend", "delete the files named and run the job again"))
    return "\n".join(lines)


def compared_words(found: Compared, out: Path) -> str:
    """Return what a comparison did."""
    left_out = found.left_out.null + found.left_out.zero
    words = f"{found.left_rows:,} x {found.right_rows:,} rows, {found.scores:,} scores"
    return (
        f"{words} in {found.seconds:.1f} s, {left_out:,} rows left out\n{_row('written', str(out))}"
    )


def hit_words(hits: Sequence[Hit]) -> str:
    """Return the rows found, the nearest first."""
    lines = []
    for hit in hits:
        texts = [str(v) for k, v in hit.columns.items() if isinstance(v, str) and v != hit.id]
        lines.append(
            f"{hit.score:.4f}  {_cut(str(hit.id), SNIPPET)}  {_cut(' · '.join(texts), SNIPPET)}"
        )
    return "\n".join(lines)


def provider_words(found: Sequence[ProviderInfo]) -> str:
    """Return the providers, one after the other."""
    blocks = []
    for info in found:
        lines = [f"{info.name}: {info.title}", _row("model", info.model)]
        lines.append(_row("key", info.key_variable or "none needed"))
        if info.base_url:
            lines.append(_row("base_url", info.base_url))
        lines += [
            _row("roles", info.roles),
            _row("controls", "yes" if info.controls else "no"),
            _row("limits", info.limits),
            _row("note", info.note),
        ]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def mistake(error: OSError) -> UsageError:
    """Return what the operating system did not allow as what it mostly is: a wrong path."""
    named = error.filename2 or error.filename
    where = f"`{named}`: " if named else ""
    hint = "is it there, of the right kind, and readable or writable for you?"
    return UsageError(f"{where}{error.strerror or error}", hint=hint)


def json_words(data: Any) -> str:
    """Return data as JSON, whatever values a corpus has: bytes as base64, no NaN but null."""
    return json.dumps(_plain(data), ensure_ascii=False, indent=2, allow_nan=False)


def _plain(value: Any) -> Any:
    """Return what JSON has for a value, and its letters where it has nothing."""
    if value is None or isinstance(value, bool | int | str | float):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return _letters(value)


def _letters(value: Any) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


def _cut(text: str, length: int) -> str:
    """Return `text` on one line of at most `length` characters."""
    line = " ".join(UNSEEN.sub("", text).split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _row(name: str, words: str) -> str:
    return f"  {name:<14}{words}".rstrip()


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}" + ("" if number == 1 else "s")


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - the next unit
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _time(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
