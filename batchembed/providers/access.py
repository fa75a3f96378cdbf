"""How a provider is reached: what changes no vector, and an address that is safe for a key."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from batchembed.errors import JobError

METADATA = "fd00:ec2::254"  # of AWS; that of others is 169.254.169.254
NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a provider. It changes no vector and holds no secret.

    `timeout` is in seconds and ends a whole attempt; `concurrency`: how many requests are open at
    once at most; `tokenizer`: ask for the model's own one as well; `nice`, `hosting` and `tags` are
    Aleph Alpha's; `device` is for sentence-transformers.
    """

    base_url: str | None = None
    nice: bool = False
    hosting: str | None = None
    tags: tuple[str, ...] = ()
    timeout: float = 300.0
    allow_insecure_http: bool = False
    concurrency: int = 16
    tokenizer: bool = False
    device: str = "auto"


def checked(base_url: str, *, allow_insecure_http: bool = False) -> str:
    """Return the address without a closing slash; raises JobError where a key must not go."""
    try:
        parts = urlsplit(base_url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise _unusable(base_url, "is not an address", "write it as https://host/path") from error
    if parts.username is not None or parts.password is not None:
        raise _unusable("…", "holds a name or password", "give the key by its variable instead")
    if parts.scheme not in {"http", "https"} or not host:
        raise _unusable(base_url, "is not an address", "write it as https://host/path")
    if parts.query or parts.fragment or any(c.isspace() for c in base_url):
        raise _unusable(host, "holds a query, fragment or blank", "give scheme, host and path only")
    if is_link_local(host):
        raise _unusable(base_url, "is a link-local address", "no provider lives there")
    if parts.scheme == "http" and not (_is_loopback(host) or allow_insecure_http):
        raise _unusable(
            base_url,
            "would send texts and key unencrypted",
            "use https://, or set `allow_insecure_http = true` under [access] in a safe network",
        )
    return base_url.rstrip("/")


def _unusable(shown: str, why: str, hint: str) -> JobError:
    return JobError(f"base_url `{shown}` {why}", hint=hint)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address.is_loopback if address else host.rstrip(".").lower() == "localhost"


def is_link_local(host: str) -> bool:
    """Return whether a host is an address of the link, or one where clouds tell their secrets."""
    address = _address(host)
    if address is None:
        return False
    inner = _within(address) if isinstance(address, ipaddress.IPv6Address) else address
    return inner.is_link_local or str(inner) == METADATA


def _within(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IPv4 address that an IPv6 one stands for, mapped, by 6to4 or NAT64; else it."""
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
