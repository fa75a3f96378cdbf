"""Which providers there are, those of other packages included, and the name nearest to another."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from batchembed.errors import JobError
from batchembed.providers.entries import ProviderInfo
from batchembed.providers.presets import hosted, own, servers

GROUP = "batchembed.providers"
"""The group of entry points by which another package offers a provider."""

_BUILT_IN = (own.LOCAL, own.ALEPH_ALPHA, *hosted.PROVIDERS, *servers.PROVIDERS)


def known() -> tuple[ProviderInfo, ...]:
    """Return every provider, the one that needs nothing first, those of other packages last.

    Raises JobError for one of another package that cannot be used.
    """
    return (*_BUILT_IN, *map(_offered, _points()))


def info(name: str) -> ProviderInfo:
    """Return what is known of one provider; raises JobError that names the nearest.

    What another package offers is loaded only when it is asked for by its name.
    """
    for provider in _BUILT_IN:
        if provider.name == name:
            return provider
    for point in _points():
        if point.name == name:
            return _offered(point)
    names = [*(provider.name for provider in _BUILT_IN), *(point.name for point in _points())]
    near = difflib.get_close_matches(name.lower().replace("_", "-"), names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else "known are: " + ", ".join(names)
    raise JobError(f"provider `{name}` is not known", hint=hint)


@cache
def _points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


@cache
def _offered(point: EntryPoint) -> ProviderInfo:
    """Return what an entry point offers; raises JobError when it is not a provider of its name."""
    whose = f"provider `{point.name}` of the entry point `{point.value}`"
    if any(provider.name == point.name for provider in _BUILT_IN):
        raise JobError(
            f"{whose} has the name of one that batchembed has itself",
            hint="give it another name, in its ProviderInfo and in the entry point",
        )
    try:
        found = point.load()
    except Exception as error:  # what a package of others raises is not ours to know
        raise JobError(
            f"{whose} cannot be loaded: {type(error).__name__}: {error}",
            hint="mend or uninstall the package that offers it",
        ) from error
    if not isinstance(found, ProviderInfo) or found.name != point.name or found.dialect is None:
        raise JobError(
            f"{whose} is not a ProviderInfo of that name with a dialect",
            hint="docs/adding-a-provider.md has an example",
        )
    return found
