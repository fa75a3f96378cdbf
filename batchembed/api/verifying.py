"""Whether a run is as promised: `verify`."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from batchembed import corpus
from batchembed.api.asking import Asked, embed_texts
from batchembed.directory import CANARIES, IDENTITY, JOB
from batchembed.errors import CorpusError, UsageError
from batchembed.exchange import Vectors
from batchembed.job import Job, load
from batchembed.parts import VOUCHER, Manifest, RunVectors, read_manifest
from batchembed.preparing import checked_spec, reading
from batchembed.prompts import words
from batchembed.spec import Keyer, unsendable, unsendable_prompt
from batchembed.store import Store
from batchembed.survey import Sent, Survey
from batchembed.verify import (
    SAME,
    Verified,
    check_alignment,
    check_files,
    check_papers,
    check_part,
    cosines,
)

PAPERS = (JOB, IDENTITY, VOUCHER, CANARIES)

Environ: TypeAlias = Mapping[str, str] | None


def verify(path: Path, *, sample: int = 0, seed: int = 0, environ: Environ = None) -> Verified:
    """Re-read a complete run and name what is not as promised.

    With `sample`, so many random rows are embedded again, each alone, and compared.
    """
    store = Store(Path(path))
    manifest = _complete(store)
    found = Verified()
    whole = check_files(store, manifest, found)
    for note in whole:
        check_part(store, note, manifest, found)
    check_papers(store, PAPERS, found)
    if any(problem.startswith(JOB) for problem in found.problems):
        return found  # where the corpus is, and with what to embed again, cannot be known
    job = load(store.path(JOB))
    if len(whole) == len(manifest.parts):
        _compare_keys(job, store, manifest, found)
        if sample:
            runs = [RunVectors(store.root, column=name) for name in manifest.columns]
            _embed_again(job, runs, sample, found, rng=random.Random(seed), environ=environ)  # noqa: S311 - repeatable, no secret
    return found


def _complete(store: Store) -> Manifest:
    manifest = read_manifest(store)
    if manifest is None:
        raise UsageError(
            f"`{store.root}` is not a complete run: it has no manifest.json",
            hint="finish it with `batchembed run`",
        )
    return manifest


def _compare_keys(job: Job, store: Store, manifest: Manifest, found: Verified) -> None:
    """Compare every row's key with the corpus, if the corpus is still what was embedded."""
    with tempfile.TemporaryDirectory(prefix="batchembed-") as folder:
        try:
            rows = corpus.scan(job.corpus, scratch=Path(folder))
        except CorpusError as error:
            found.ignored.append(f"the corpus, which cannot be read: {error.message}")
            return
        if rows.fingerprint() != manifest.corpus["fingerprint"]:
            found.ignored.append("the corpus, which changed since")
            return
        survey = Survey(Path(folder))
        survey.take(rows, Keyer(checked_spec(job)), reading(job), lambda _: None)
        check_alignment(_batches(store, manifest), survey.keys(), found, rows.where)


def _batches(store: Store, manifest: Manifest) -> Iterator[pa.RecordBatch]:
    for note in manifest.parts:
        with pa.memory_map(str(store.path(note.name))) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)


def _embed_again(
    job: Job,
    runs: list[RunVectors],
    sample: int,
    found: Verified,
    *,
    rng: random.Random,
    environ: Environ,
) -> None:
    """Embed random rows again, each alone, and compare them with what was kept.

    `runs` is one run, once for each of its columns of vectors.
    """
    run = runs[0]
    wanted = set(rng.sample(range(run.rows), min(sample, run.rows)))
    chosen = list(_asked(job, wanted))
    again = embed_texts(job, [asked for _, asked in chosen], environ)
    pairs = []
    for (row, _), vector in zip(chosen, again, strict=True):
        has = run.read(row, row + 1)[1]
        if has[0] and vector is not None:
            pairs += [(one.read(row, row + 1)[0][0], one.part_of(vector)) for one in runs]
        elif has[0]:
            found.problems.append(f"row {row + 1} could not be embedded again")
    found.asked = len(pairs) // len(runs)
    _note_cosines(pairs, found)


def _asked(job: Job, wanted: set[int]) -> Iterator[tuple[int, Asked]]:
    """Yield (row, what was asked for it) for the rows wanted that have a text."""
    how = reading(job)
    for rows in corpus.scan(job.corpus).texts():
        here = sorted(wanted & set(range(rows.first, rows.first + len(rows.texts))))
        sent = how.sent(rows) if here else Sent()
        for row in here:
            at = row - rows.first
            role = rows.roles[at] if rows.roles else how.role
            text, prompt = rows.texts[at], sent.prompts[at] if sent.prompts else None
            if isinstance(prompt, tuple):
                if unsendable_prompt(prompt) is None:
                    yield row, Asked(words(prompt), role, prompt=prompt)
            elif prompt is None and unsendable(text) is None and text is not None:
                yield row, Asked(text, role, sent.controls[at] if sent.controls else ())


def _note_cosines(pairs: list[tuple[Vectors, Vectors]], found: Verified) -> None:
    if not pairs:
        return
    kept, again = (np.stack(side) for side in zip(*pairs, strict=True))
    found_cosines = cosines(kept, again)
    found.cosine_least, found.cosine_mean = float(found_cosines.min()), float(found_cosines.mean())
    if found.cosine_least < SAME:
        found.problems.append(
            f"a row embedded again has a cosine of {found.cosine_least:.4f} to what was kept"
        )
