"""Embedding a few texts with the model of a run, outside of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from batchembed.clock import SystemClock
from batchembed.engines import local
from batchembed.exchange import Control, Keys, Reject, Request, Role, Vectors
from batchembed.job import Job
from batchembed.ledger.sections import Sections
from batchembed.monitor import Monitor
from batchembed.preparing import checked_spec, provider_key
from batchembed.prompts import Prompt, sure_tokens

PATIENCE = 20.0
"""How long, in seconds, a server that is down is waited for: nobody sees a run of hours here."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A text to embed, its role and its attention controls; or a prompt, `text` its words."""

    text: str
    role: Role
    controls: tuple[Control, ...] = ()
    prompt: Prompt | None = None


@dataclass(slots=True)
class _Gathered:
    """A ledger for a few texts: vectors by their number."""

    vectors: dict[int, Vectors] = field(default_factory=dict)
    sections: Sections = field(default_factory=Sections)  # of none: each is asked for again

    def append(self, keys: Keys, vectors: Vectors, **_: object) -> None:
        """Keep vectors in memory; what they cost is nobody's business here."""
        numbers = np.ascontiguousarray(keys).view("<u8")[:, 0].tolist()
        self.vectors.update(zip(numbers, vectors, strict=True))

    def reject(self, rejects: list[Reject]) -> None:
        """Leave the number without a vector."""

    def charge(self, tokens: int, unsure: int = 0) -> None:
        """Keep nothing."""

    def risk(self, tokens: int) -> None:
        """Keep nothing."""


def embed_texts(
    job: Job, asked: Sequence[Asked], environ: Mapping[str, str] | None
) -> list[Vectors | None]:
    """Return the vector of each text, shape (d,), None where there is none; each asked alone."""
    spec = checked_spec(job)
    gathered = _Gathered()
    plant = local.Plant(
        spec=spec,
        key=provider_key(job, spec, environ or os.environ),
        ledger=gathered,
        monitor=Monitor("quiet"),
        clock=SystemClock(),
        most_rejects=len(asked),
        # Every request is of one text: there is nothing to fit, but for where long texts are cut.
        ask_about=spec.on_long_text != "reject",
    )
    requests = [_request(number, one) for number, one in enumerate(asked)]
    local.embed(_hurried(job), local.Few(requests), plant)
    return [gathered.vectors.get(number) for number in range(len(asked))]


def _hurried(job: Job) -> Job:
    """Return the job without its bounds, and with a patience that a person has who waits."""
    patience = min(job.limits.patience, PATIENCE)
    limits = replace(job.limits, patience=patience, deadline=None, max_cost=None)
    return replace(job, limits=limits)


def _request(number: int, one: Asked) -> Request:
    """Return a request of one text whose key is its number."""
    key = np.array([[number, 0]], "<u8").view(np.uint8)
    controls = (one.controls,) if one.controls else None
    prompts = (one.prompt,) if one.prompt is not None else None
    tokens = 1 + len(one.text) // 4 + sure_tokens(one.prompt or ())
    return Request(key, (one.text,), one.role, controls, tokens=tokens, prompts=prompts)
