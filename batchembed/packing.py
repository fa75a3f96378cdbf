"""Texts become requests within a provider's limits of texts, tokens and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchembed.exchange import ROLES, Control, Keys, Limits, Request, Role, RowNumbers
from batchembed.prompts import Prompt, image_bytes, sure_tokens

BYTES_A_TOKEN = 4
NO_CONTROLS: tuple[Control, ...] = ()


@dataclass(slots=True)
class Batch:
    """Texts on their way into requests: `keys` has shape (n, 16), the rest n entries or None."""

    keys: Keys
    rows: RowNumbers
    texts: list[str]
    roles: Sequence[Role] | Role
    controls: list[tuple[Control, ...]] | None = None
    prompts: list[Prompt] | None = None


@dataclass(slots=True)
class _Waiting:
    """Texts of one role that do not fill a request yet."""

    keys: list[Keys] = field(default_factory=list)
    rows: list[RowNumbers] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    controls: list[tuple[Control, ...]] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)


class Packer:
    """Packs batches into requests, in order. `limits` may be tightened while it packs."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._waiting: dict[Role, _Waiting] = {role: _Waiting() for role in ROLES}

    def tighten(self, texts: int | None = None, size: int | None = None) -> None:
        """Let further requests hold no more texts, and no more bytes, than this."""
        now = self.limits
        fewer = min(texts or now.texts_per_request, now.texts_per_request)
        smaller = min(filter(None, (size, now.bytes_per_request)), default=None)
        self.limits = replace(now, texts_per_request=fewer, bytes_per_request=smaller)

    def add(self, batch: Batch) -> Iterator[Request]:
        """Yield the requests that the texts waiting and those of `batch` fill."""
        if isinstance(batch.roles, str):
            yield from self._add(batch.roles, batch)
            return
        roles = np.asarray(batch.roles)
        for role in ROLES:
            chosen = np.flatnonzero(roles == role)
            if len(chosen):
                yield from self._add(role, _part(batch, role, chosen))

    def flush(self) -> Iterator[Request]:
        """Yield requests of all that still waits."""
        for role in ROLES:
            yield from self._cut(role, last=True)

    def _add(self, role: Role, batch: Batch) -> Iterator[Request]:
        waiting = self._waiting[role]
        waiting.keys.append(batch.keys)
        waiting.rows.append(batch.rows)
        waiting.texts += batch.texts
        waiting.controls += batch.controls or [NO_CONTROLS] * len(batch.texts)
        waiting.prompts += batch.prompts or ()
        yield from self._cut(role, last=False)

    def _cut(self, role: Role, *, last: bool) -> Iterator[Request]:
        """Yield full requests; the rest, or with `last` nothing, goes on waiting."""
        waiting = self._waiting[role]
        if not waiting.texts:
            return
        keys, rows = np.concatenate(waiting.keys), np.concatenate(waiting.rows)
        sizes = text_bytes(waiting.texts)
        tokens = estimate_tokens(sizes)
        if waiting.prompts:
            tokens = np.where(sizes > 0, tokens, 0) + _counts(sure_tokens, waiting.prompts)
            sizes = sizes + _counts(image_bytes, waiting.prompts)
        bytes_so_far, tokens_so_far = np.cumsum(sizes), np.cumsum(tokens)
        told = tokens.tolist()
        start, end = 0, len(waiting.texts)
        while start < end:
            stop = self._stop(start, bytes_so_far, tokens_so_far)
            if stop == end and not last and end - start < self.limits.texts_per_request:
                break
            spans = tuple(waiting.controls[start:stop])
            yield Request(
                keys=keys[start:stop],
                texts=tuple(waiting.texts[start:stop]),
                role=role,
                controls=spans if any(spans) else None,
                tokens=sum(told[start:stop]),
                prompts=tuple(waiting.prompts[start:stop]) or None,
                rows=rows[start:stop],
            )
            start = stop
        self._waiting[role] = _Waiting(
            [keys[start:]],
            [rows[start:]],
            waiting.texts[start:],
            waiting.controls[start:],
            waiting.prompts[start:],
        )

    def _stop(
        self, start: int, bytes_so_far: NDArray[np.int64], tokens_so_far: NDArray[np.int64]
    ) -> int:
        """Return where the request that starts at `start` ends; it has at least one text."""
        stop = min(start + self.limits.texts_per_request, len(bytes_so_far))
        for limit, so_far in (
            (self.limits.bytes_per_request, bytes_so_far),
            (self.limits.tokens_per_request, tokens_so_far),
        ):
            if limit is not None:
                before = int(so_far[start - 1]) if start else 0
                stop = min(stop, int(np.searchsorted(so_far, before + limit, side="right")))
        return max(stop, start + 1)


def text_bytes(texts: list[str]) -> NDArray[np.int64]:
    """Return how many bytes each text takes in UTF-8, shape (n,)."""
    sizes: NDArray[np.int64] = pc.binary_length(pa.array(texts, pa.large_string())).to_numpy()
    return sizes


def estimate_tokens(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return estimated tokens of texts of so many bytes: a quarter, rounded up, at least one."""
    return np.maximum(1, -(-sizes // BYTES_A_TOKEN))


def _part(batch: Batch, role: Role, chosen: NDArray[np.int64]) -> Batch:
    positions = chosen.tolist()
    return Batch(
        keys=batch.keys[chosen],
        rows=batch.rows[chosen],
        texts=[batch.texts[p] for p in positions],
        roles=role,
        controls=None if batch.controls is None else [batch.controls[p] for p in positions],
        prompts=None if batch.prompts is None else [batch.prompts[p] for p in positions],
    )


def _counts(count: Callable[[Prompt], int], prompts: list[Prompt]) -> NDArray[np.int64]:
    return np.fromiter(map(count, prompts), np.int64, len(prompts))
