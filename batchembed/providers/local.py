"""Models that run on this machine: an attempt is one call of a function in a worker thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from batchembed.exchange import Fatal, Limits, Outcome, Refused, Request, Response
from batchembed.spec import Spec

if TYPE_CHECKING:
    from batchembed.providers.static_model import StaticModel

# One thread is fastest (123,000 texts a second against 97,000 with two: they fight for the
# interpreter); the second request is packed and the last one written down meanwhile.
LIMITS = Limits(texts_per_request=1024, bytes_per_request=2 * 1024 * 1024, concurrency=2)
TORCH_LIMITS = Limits(texts_per_request=256, bytes_per_request=1024 * 1024, concurrency=2)
NO_KNOWN_TOKEN = "no_known_token"  # noqa: S105 — a reason, not a secret


class LocalProvider:
    """A provider whose vectors are computed here, off the event loop.

    `encode` takes a request and returns its outcome; it may raise, which ends the run: no
    network can be at fault.
    """

    def __init__(self, encode: Callable[[Request], Outcome], limits: Limits) -> None:
        self._encode = encode
        self._limits = limits
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")

    @property
    def limits(self) -> Limits:
        """What one request may hold."""
        return self._limits

    async def attempt(self, request: Request) -> Outcome:
        """Embed the request once and say what came of it."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._encode, request)
        except Exception as error:  # noqa: BLE001 — one attempt never raises: see Provider
            return Fatal(
                f"the model on this machine failed: {type(error).__name__}",
                hint=" ".join(str(error).split())[:300] or None,
            )

    async def close(self) -> None:
        """Release the thread; the provider is not used afterwards."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def open_static(spec: Spec) -> LocalProvider:
    """Return the embedded model as a provider."""
    from batchembed.providers.static_model import StaticModel

    model = StaticModel.load(dimensions=spec.dimensions)
    return LocalProvider(lambda request: embed(model, request), LIMITS)


def embed(model: StaticModel, request: Request) -> Outcome:
    """Return the vectors of `request`; a text of which the model knows no token is unusable.

    Refused means that some text or control of the request makes no sense to the model.
    """
    controls: Sequence[Sequence[tuple[int, int, float]]] | None = None
    if request.controls is not None:
        controls = [[(c.start, c.length, c.factor) for c in spans] for spans in request.controls]
    try:
        vectors, tokens = model.encode(request.texts, controls)
    except ValueError as error:
        return Refused(str(error)[:300])
    return Response(
        vectors,
        tokens=int(tokens.sum()),
        model_version=f"{model.name} {model.version}",
        unusable={int(i): NO_KNOWN_TOKEN for i in (tokens == 0).nonzero()[0]},
        proven=True,
    )
