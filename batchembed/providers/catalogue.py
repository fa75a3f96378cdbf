"""Which providers there are, and the name nearest to one that is unknown."""

from __future__ import annotations

import difflib

from batchembed.errors import JobError
from batchembed.providers.entries import ProviderInfo
from batchembed.providers.presets import hosted, own, servers

_BUILT_IN = (own.LOCAL, own.ALEPH_ALPHA, *hosted.PROVIDERS, *servers.PROVIDERS)


def known() -> tuple[ProviderInfo, ...]:
    """Return every provider, the one that needs nothing first."""
    return _BUILT_IN


def info(name: str) -> ProviderInfo:
    """Return what is known of one provider; raises JobError that names the nearest."""
    for provider in known():
        if provider.name == name:
            return provider
    names = [provider.name for provider in known()]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "known are: " + ", ".join(names)
    raise JobError(f"provider `{name}` is not known", hint=hint)
