"""Rows that lie near each other: `similarity` and `search`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchembed import providers
from batchembed.api.asking import Asked, embed_texts
from batchembed.clock import SystemClock
from batchembed.directory import holder
from batchembed.errors import ActionNeededError, JobError, UsageError
from batchembed.exchange import Role
from batchembed.job import Job, load
from batchembed.lock import Hold
from batchembed.monitor import Monitor
from batchembed.parts import Manifest, RunVectors
from batchembed.prompts import Image, Prompt, Text
from batchembed.similarity import (
    Compared,
    SimilaritySettings,
    compare,
    estimate,
    nearest,
    unless_damaged,
)
from batchembed.similarity import rethreshold as stored_above
from batchembed.spec import unsendable
from batchembed.store import Store, Writer

OTHER_FORMS = frozenset({".csv", ".tsv", ".parquet", ".json", ".jsonl", ".xlsx"})
_FINISHED, _PART = "finished", "part"
_WRITABLE = "give the file to write as `--out`, in a folder where you may write"
_WORTH_TELLING = 5.0
_MINUTE = 60
MATCHING: dict[str, Role] = {"symmetric": "symmetric", "query": "document"}
"""The role to ask in, by the role of the run; "query" for documents and for mixed runs."""


def similarity(
    left: Path | str,
    right: Path | str | None,
    out: Path | str,
    settings: SimilaritySettings,
    *,
    column: str | None = None,
    monitor: Monitor | None = None,
) -> Compared:
    """Compare a run with itself, or with another, into an Arrow file that appears when complete.

    `column` names the vectors of both, where a run has several columns of them. Where `out` is
    the answer to the same question of fewer rows, only what is new is compared. What is done is
    kept beside it, so that the same call goes on after it was killed; while one does, another
    call with the same `out` raises RunHeldError.
    """
    mine = RunVectors(Path(left), column=column)
    theirs = None if right is None else RunVectors(Path(right), column=column)
    if theirs is not None:
        check_same_space(mine.manifest, theirs.manifest)
    monitor = monitor or Monitor("quiet")
    out = Path(out)
    settings.check()
    expected = estimate(mine.rows, theirs.rows if theirs else None, mine.dimensions, settings)
    if expected.seconds > _WORTH_TELLING:
        monitor.say(f"comparing takes about {_duration(expected.seconds)}, unless much is known")
    monitor.phase("comparing", None, "scores")
    check_out(out)
    keep = Store(out.absolute().with_name(f"{out.name}.unfinished"))
    hold = Hold(keep.root, holder(SystemClock()), taken=f"another comparison writes `{out}`")
    keep.sweep(".")

    def made(known: Path | None) -> Compared:
        with _writer(keep, _FINISHED, out, part=_PART if settings.dense else None) as writer:
            compared = compare(
                *(mine, theirs, settings),
                write=writer,
                progress=monitor.reach,
                keep=keep.root,
                known=known,
            )
            writer.commit()
        return compared

    try:
        compared = unless_damaged(made, out)
        beside = Store(keep.root.parent)
        beside.rename(f"{keep.root.name}/{_FINISHED}", out.name)
        beside.delete(keep.root.name)
    finally:
        hold.release(leave_nothing=True)
    monitor.close("compared", 0)
    return compared


def rethreshold(path: Path | str, min_score: float, out: Path | str) -> int:
    """Write the pairs of a stored file that score at least `min_score`; return how many."""
    with arrow_writer(Path(out)) as writer:
        count = stored_above(Path(path), min_score, write=writer)
        writer.commit()
    return count


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 2 * _MINUTE else f"{seconds / _MINUTE:.0f} min"


def arrow_writer(out: Path) -> Writer:
    """Return a file that is written at `out`; raises UsageError where none can be."""
    check_out(out)
    return _writer(Store(out.absolute().parent), out.name, out)


def _writer(store: Store, name: str, out: Path, *, part: str | None = None) -> Writer:
    """Return the file in a store that is to become `out`."""
    try:
        return store.create(name, hashed=False, part=part)
    except OSError as error:
        raise UsageError(f"cannot write `{out}`: {error.strerror}", hint=_WRITABLE) from error


def check_out(out: Path) -> None:
    """Raise UsageError where `out` cannot be the name of an Arrow file."""
    if out.is_dir():
        raise UsageError(f"`{out}` is a folder", hint=_WRITABLE)
    if out.suffix.lower() in OTHER_FORMS:
        raise UsageError(
            f"`{out}` would hold Arrow, whatever its name says",
            hint="name it .arrow; `batchembed neighbors` makes .csv and .parquet of it",
        )


@dataclass(frozen=True, slots=True)
class Hit:
    """A row near to what was searched: its id, its score, and its columns but the vector."""

    row: int
    id: Any
    score: float
    columns: dict[str, Any]


def search(
    path: Path | str,
    text: str,
    k: int = 10,
    *,
    image: Path | str | None = None,
    column: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[Hit]:
    """Return the `k` rows of a run nearest to `text`, best first, by cosine.

    `image` is the file of one to search for, before the text or with "" for none. `column` names
    the vectors, where a run has several columns of them. Raises UsageError for a text that is blank
    or otherwise none to embed.
    """
    if (why := unsendable(text)) and (text or image is None):
        what = "there is no text to search for"
        if text.strip():
            what += f": `{why}`"
        raise UsageError(what, hint='give a few words after the run: "how do planets form"')
    run = RunVectors(Path(path), column=column)
    job = load(Path(path) / "job.toml")
    role: Role = MATCHING.get(run.role, "query")
    instructions = dict(job.spec().instructions)
    if instructions and role not in instructions:
        raise UsageError(
            f"there is no instruction for `{role}`, the role in which this run is searched",
            hint=f'run the job with one: instruction = {{ {role} = "…" }} beside those it has',
        )
    prompt = None if image is None else _prompt(job, Path(image), text)
    vectors = embed_texts(job, [Asked(text, role, prompt=prompt)], environ)
    if vectors[0] is None:
        told = f"`{text or image}`"
        raise ActionNeededError(f"{told} could not be embedded", hint="try something else")
    ids = run.ids
    return [
        Hit(row, ids[row].as_py(), score, run.row(row))
        for row, score in nearest(run, run.part_of(vectors[0]), k)
    ]


def _prompt(job: Job, image: Path, text: str) -> Prompt:
    """Return an image to search for, and the text after it; raises where there can be none."""
    providers.check(job.spec(), pieces=("image",))
    try:
        data = image.read_bytes()
    except OSError as error:
        why = f"the image `{image}` cannot be read: {error.strerror}"
        raise UsageError(why, hint="give the path of an image file") from error
    return (Image(data), Text(text)) if text else (Image(data),)


def check_same_space(left: Manifest, right: Manifest) -> None:
    """Raise JobError when two runs' vectors come from different models: scores mean nothing."""
    if left.identity["fingerprint"] == right.identity["fingerprint"]:
        return
    mine, theirs = left.identity["spec"], right.identity["spec"]
    differing = sorted(n for n in mine | theirs if mine.get(n) != theirs.get(n))
    told = ", ".join(f"{n} `{mine.get(n)}` and `{theirs.get(n)}`" for n in differing)
    raise JobError(
        f"the two runs have vectors of different specs: {told}",
        hint="embed both with the same [model]; only `representation` may differ",
    )
