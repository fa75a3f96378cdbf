"""Where vectors come from: which providers there are, what each can do, and opening one."""

from __future__ import annotations

from collections.abc import Callable

from batchembed.clock import Clock
from batchembed.errors import ActionNeededError
from batchembed.exchange import Dialect, Limits, Provider
from batchembed.providers.abilities import check, defaults
from batchembed.providers.access import Access, checked
from batchembed.providers.catalogue import STATIC_MODEL, ProviderInfo, info, known
from batchembed.spec import Spec

__all__ = [
    "Access",
    "ProviderInfo",
    "check",
    "defaults",
    "info",
    "known",
    "limits",
    "open_provider",
]


def limits(spec: Spec) -> Limits:
    """Return what one request to the provider may hold, as far as it is known beforehand."""
    spec = defaults(spec)
    if spec.provider == "aleph-alpha":
        from batchembed.providers.aleph_alpha import dialect

        return dialect.limits(spec)
    if spec.provider == "openai":
        from batchembed.providers import openai

        return openai.limits(spec)
    from batchembed.providers import local

    return local.LIMITS if spec.name == STATIC_MODEL else local.TORCH_LIMITS


def open_provider(
    spec: Spec,
    access: Access,
    *,
    key: str | None,
    clock: Clock | None = None,
    renew: Callable[[], str | None] | None = None,
) -> Provider:
    """Return the provider that `spec` names, ready for attempts; `renew` reads the key anew.

    The address is the one of `access`, else of `spec`. Must be called inside a running event
    loop. Raises JobError for what cannot work, ActionNeededError for a key that is missing.
    """
    spec = defaults(spec)
    if spec.provider == "local":
        return _open_local(spec, access)
    from batchembed.providers.http import HttpProvider

    address = checked(
        access.base_url or spec.base_url or "", allow_insecure_http=access.allow_insecure_http
    )
    provider = info(spec.provider)
    if not key and address == provider.base_url:
        raise ActionNeededError(
            f"provider `{spec.provider}` needs a key", hint=f"set {provider.key_variable}"
        )
    return HttpProvider(
        _dialect(spec, access), address, key=key, access=access, clock=clock, renew=renew
    )


def _dialect(spec: Spec, access: Access) -> Dialect:
    if spec.provider == "aleph-alpha":
        from batchembed.providers.aleph_alpha.dialect import AlephAlpha

        return AlephAlpha(
            spec,
            limits(spec),
            nice=access.nice,
            hosting=access.hosting,
            tags=access.tags,
            tokenizer=access.tokenizer,
        )
    from batchembed.providers.openai import OpenAI

    return OpenAI(spec, limits(spec))


def _open_local(spec: Spec, access: Access) -> Provider:
    from batchembed.providers import local

    if spec.name == STATIC_MODEL:
        return local.open_static(spec, concurrency=access.concurrency)
    from batchembed.providers import sentence_transformers

    return sentence_transformers.open_model(spec, device=access.device)
