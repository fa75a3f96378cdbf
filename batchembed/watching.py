"""When a run looks at canary texts, and the baseline that a run directory keeps of them."""

from __future__ import annotations

import base64
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np

from batchembed.directory import CANARIES
from batchembed.embed import Baseline, Watching
from batchembed.embed.canaries import MANY, TEXTS, texts_hash
from batchembed.exchange import Role
from batchembed.lock import turn
from batchembed.preparing import Run
from batchembed.seal import sealed, unsealed
from batchembed.store import Store


def watching(run: Run, role: Role, to_send: int) -> Watching | None:
    """Return how a run watches its model, None where nothing is to be seen or it costs too much.

    A model on this machine does not change under way. "auto" looks where that costs less than
    a thousandth, and where an earlier run looked.
    """
    limits = run.job.limits
    if limits.canaries == "never" or run.job.model.provider == "local":
        return None
    baseline = read_baseline(run.store, role)
    if limits.canaries == "auto" and baseline is None and to_send < MANY:
        return None
    return Watching(
        role=role,
        baseline=baseline,
        keep=lambda found: keep_baseline(run.store, role, found),
        say=run.monitor.say,
        clock=run.clock,
        stop=limits.on_model_change == "stop",
        always=limits.canaries == "always",
        kept=lambda: read_baseline(run.store, role),
        turn=partial(turn, run.store.root) if run.shard else nullcontext,
    )


def keep_baseline(store: Store, role: Role, baseline: Baseline) -> None:
    """Keep what the canary texts had for vectors."""
    raw = np.ascontiguousarray(baseline.vectors, "<f4").tobytes()
    told = {
        "format": 1,
        "asked": baseline.asked.isoformat(timespec="seconds"),
        "role": role,
        "texts": texts_hash(),
        "vectors": base64.b64encode(raw).decode(),
    }
    store.put(CANARIES, sealed(told))


def read_baseline(store: Store, role: Role) -> Baseline | None:
    """Return the baseline of these texts in this role; None when there is none that is whole."""
    try:
        told: dict[str, Any] = unsealed(store.read(CANARIES))
        raw = base64.b64decode(told["vectors"], validate=True)
        asked = datetime.fromisoformat(told["asked"])
        if (told["texts"], told["role"]) != (texts_hash(), role) or asked.tzinfo is None:
            return None
        return Baseline(np.frombuffer(raw, "<f4").reshape(len(TEXTS), -1), asked)
    except (OSError, ValueError, KeyError, TypeError):
        return None
