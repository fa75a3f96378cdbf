"""Where vectors come from: which providers there are, what each can do, and opening one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from batchembed.clock import Clock
from batchembed.errors import ActionNeededError
from batchembed.exchange import Limits, Provider
from batchembed.providers.abilities import check, defaults
from batchembed.providers.access import Access, checked
from batchembed.providers.catalogue import info, known
from batchembed.providers.entries import ProviderInfo
from batchembed.providers.listing import Listed, listed
from batchembed.providers.presets.own import STATIC_DIMENSIONS, STATIC_MODEL
from batchembed.spec import Spec

if TYPE_CHECKING:
    from batchembed.providers.batches import Batches
    from batchembed.providers.counter import HttpCounter
    from batchembed.providers.local import Early

__all__ = [
    "Access",
    "Listed",
    "ProviderInfo",
    "batch_dialect",
    "check",
    "defaults",
    "early",
    "info",
    "known",
    "limits",
    "listed",
    "open_counter",
    "open_provider",
]


def limits(spec: Spec) -> Limits:
    """Return what one request to the provider may hold, as far as it is known beforehand."""
    spec = defaults(spec)
    return info(spec.provider).limits_of(spec)


def early(spec: Spec, rows: int, concurrency: int) -> Early | None:
    """Begin what takes time to start, for a corpus of so many rows; give it to `open_provider`.

    Close it in any case. None where nothing can be begun.
    """
    spec = defaults(spec)
    if spec.provider != "local" or spec.name != STATIC_MODEL:
        return None
    from batchembed.providers import local

    return local.Early(spec.dimensions or STATIC_DIMENSIONS, rows, concurrency)


def open_provider(
    spec: Spec,
    access: Access,
    *,
    key: str | None,
    clock: Clock | None = None,
    renew: Callable[[], str | None] | None = None,
    begun: Early | None = None,
    retires: Callable[[str], None] | None = None,
) -> Provider:
    """Return the provider that `spec` names, ready for attempts; `renew` reads the key anew.

    `begun` is what `early` gave; `retires` hears once that the server says that it is to go.

    The address is the one of `access`, else of `spec`. Must be called inside a running event
    loop. Raises JobError for what cannot work, ActionNeededError for a key that is missing.
    """
    spec = defaults(spec)
    provider = info(spec.provider)
    if provider.dialect is None:
        return _open_local(spec, access, begun)
    from batchembed.providers.http import HttpProvider

    address = checked(
        access.base_url or spec.base_url or "", allow_insecure_http=access.allow_insecure_http
    )
    if not key and provider.key_needed and address == provider.base_url:
        raise ActionNeededError(
            f"provider `{spec.provider}` needs a key", hint=f"set {provider.key_variable}"
        )
    return HttpProvider(
        provider.dialect(provider, spec, access),
        address,
        key=key,
        access=access,
        clock=clock,
        renew=renew,
        key_header=spec.http.key_header if spec.http else provider.key_header,
        retires=retires,
    )


def batch_dialect(spec: Spec) -> Batches:
    """Return the dialect of the provider's batch lane."""
    from batchembed.providers.batches import Batches

    spec = defaults(spec)
    provider = info(spec.provider)
    assert provider.dialect is not None
    assert provider.jobs is not None  # see job.agreement
    return Batches(provider.dialect(provider, spec, Access()), provider.jobs(), spec.dimensions)


def open_counter(
    spec: Spec,
    access: Access,
    batches: Batches,
    *,
    key: str | None,
    clock: Clock | None = None,
    retires: Callable[[str], None] | None = None,
) -> HttpCounter:
    """Return the provider's side of the batch lane; see `open_provider`."""
    from batchembed.providers.counter import HttpCounter
    from batchembed.providers.http import HttpProvider

    provider = open_provider(spec, access, key=key, clock=clock, retires=retires)
    assert isinstance(provider, HttpProvider)
    return HttpCounter(provider, batches)


def _open_local(spec: Spec, access: Access, begun: Early | None) -> Provider:
    from batchembed.providers import local

    if spec.name == STATIC_MODEL:
        workers = begun.workers if begun is not None else ()
        return local.open_static(spec, concurrency=access.concurrency, early=workers)
    from batchembed.providers import sentence_transformers

    return sentence_transformers.open_model(spec, device=access.device)
