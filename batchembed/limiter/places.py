"""Where a limiter listens: addresses, the folder that nobody else may enter, who takes part."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from batchembed.errors import UsageError
from batchembed.limiter.messages import MOST_BYTES

VARIABLE = "BATCHEMBED_LIMITER"
WAYS = ("auto", "start", "off")
MOST_UNSENT = 1024 * 1024
FORMS = "`unix:/path/of/a.sock` or `tcp://host:port`"


@dataclass(frozen=True, slots=True)
class Place:
    """An address: the path of a Unix socket, or a host and a port. `starts`: on its own."""

    path: str = ""
    host: str = ""
    port: int = 0
    starts: bool = False

    def __str__(self) -> str:
        """Return it as it is written."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.path}" if self.path else f"tcp://{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


class Limited:
    """What goes out over a connection; one that is not read from is broken off."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes, /) -> None:
        """Send."""
        if self._writer.transport.get_write_buffer_size() > MOST_UNSENT:
            self._writer.transport.abort()
        self._writer.write(data)

    def close(self) -> None:
        """Send what is left, and nothing more."""
        self._writer.close()


def usual(environ: Mapping[str, str]) -> Place:
    """Return where the limiter of this user listens on this machine."""
    folder = environ.get("XDG_RUNTIME_DIR") or environ.get("XDG_CACHE_HOME")
    base = Path(folder) if folder else Path.home() / ".cache"
    return Place(str(base / "batchembed" / "limiter.sock"))


def parse(told: str) -> Place:
    """Return the place of an address; port 0 is any that is free. Raises ValueError."""
    if told.startswith("unix:"):
        path = told.removeprefix("unix:").removeprefix("//")
        if path.startswith("/") and "\0" not in path:
            return Place(path)
    elif told.startswith("tcp:"):
        parts = urlsplit(told)
        rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
        if parts.hostname and parts.port is not None and not any(rest):
            return Place(host=parts.hostname, port=parts.port)
    raise ValueError(f"must be {FORMS}")


def of_job(share: str, environ: Mapping[str, str]) -> Place | None:
    """Return the limiter that a job with this `limits.share` takes part in; None: in none.

    Raises UsageError when the environment names no address.
    """
    if share == "off":
        return None
    if share not in WAYS:
        return parse(share)
    if named := environ.get(VARIABLE, "").strip():
        try:
            return parse(named)
        except ValueError as error:
            raise UsageError(f"`{VARIABLE}` is `{named}`: it {error}") from None
    place = usual(environ)
    if share == "start":
        return Place(place.path, starts=True)
    return place if os.path.exists(place.path) else None  # noqa: PTH110 - False, not an error


def name_of(key: str | None, *what: str | None) -> str:
    """Return by which name a limiter knows an account: of a key, a server, a model.

    The key cannot be found from it: it is a slow hash, of what is mostly random anyway.
    """
    salt = "\0".join(part or "" for part in what).encode()
    told = hashlib.scrypt((key or "").encode(), salt=salt, n=2**14, r=8, p=1, dklen=16)
    return told.hex()


async def connect(place: Place) -> tuple[asyncio.StreamReader, Limited]:
    """Return a way to the limiter at a place. Raises OSError."""
    if place.path:
        reader, writer = await asyncio.open_unix_connection(place.path, limit=MOST_BYTES)
    else:
        reader, writer = await asyncio.open_connection(place.host, place.port, limit=MOST_BYTES)
    return reader, Limited(writer)


def private_folder(path: Path) -> None:
    """Make the folder of a socket, for its owner alone; raises UsageError for one of others."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = path.lstat()
    except OSError as error:
        raise UsageError(
            f"cannot make the folder `{path}`: {error.strerror}",
            hint="name another address with --listen unix:/path/of/a.sock",
        ) from error
    mine = found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode)
    if not mine or stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            f"others may enter `{path}`: anyone could take part, or take the limiter's place",
            hint=f"`chmod 700 {path}`, or a folder of its own with --listen unix:/path/of/a.sock",
        )
