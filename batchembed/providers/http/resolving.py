"""Which addresses a name may lead to: what this gives is what is connected to."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from batchembed.providers.access import is_link_local


class ForbiddenAddressError(Exception):
    """A name leads to an address where no provider lives and others' secrets do."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"the host `{host}` leads to `{address}`, a link-local address")


class GuardedResolver(AbstractResolver):
    """Asks another resolver, and takes no answer of its that has a link-local address."""

    def __init__(self, inner: AbstractResolver) -> None:
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raises ForbiddenAddressError, OSError for none."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            if is_link_local(one["host"]):
                raise ForbiddenAddressError(host, one["host"])
        return found

    async def close(self) -> None:
        """Release the other resolver."""
        await self._inner.close()
