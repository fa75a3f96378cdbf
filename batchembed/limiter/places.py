"""Where a limiter listens: addresses, the folder that nobody else may enter, who takes part."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import ipaddress
import os
import platform
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from batchembed.errors import UsageError

VARIABLE = "BATCHEMBED_LIMITER"
WAYS = ("auto", "start", "off")
MOST_BYTES = 4096  # of a message
MOST_UNSENT = 1024 * 1024
LONGEST_PATH = 103  # bytes: what systems allow a socket's path, without the zero at its end
A_MOMENT = 1.0
ELSEWHERE = "name another folder, as in --listen unix:/path/of/a/folder/limiter.sock"


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


def usual() -> Place:
    """Return where the limiter of this user listens on this machine.

    A run of cron finds that of a terminal, so there is nothing in it that a login sets; and
    machines may share a home, so it names the machine.
    """
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - it raises nothing where there is no home
    machine = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
    return Place(str(Path("/") / home / ".cache" / "batchembed" / f"limiter-{machine}.sock"))


def parse(told: str) -> Place:
    """Return the place of an address. Raises ValueError."""
    if told.startswith("unix:"):
        path = told.removeprefix("unix:").removeprefix("//")
        absolute = path.startswith("/") and not path.startswith("//")
        if absolute and path.isprintable() and not path.endswith("/"):
            if len(os.fsencode(path)) > LONGEST_PATH:
                raise ValueError(f"must be a shorter path: a socket's has {LONGEST_PATH} bytes")
            return Place(path)
    elif told.startswith("tcp://"):
        parts = urlsplit(told)
        try:
            port = parts.port
        except ValueError:
            port = None
        rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
        if parts.hostname and not any(rest):
            if port:
                return Place(host=parts.hostname, port=port)
            raise ValueError("must have a port from 1 to 65535: `tcp://host:port`")
    raise ValueError("must be `unix:/path/of/a.sock` or `tcp://host:port`")


def of_job(share: str, environ: Mapping[str, str]) -> Place | None:
    """Return the limiter that a job with this `limits.share` takes part in; None: in none.

    What the environment names comes before "auto" and "start". Raises UsageError when that is
    nothing.
    """
    named = environ.get(VARIABLE, "").strip() if share in ("auto", "start") else ""
    told = share if named in ("", "auto") else named
    if told == "off":
        return None
    if told in WAYS:
        place = usual()
    else:
        try:
            place = parse(told)
        except ValueError as error:
            raise UsageError(f"`{VARIABLE}` is `{named}`: it {error}") from None
    if "start" in (share, told):
        return replace(place, starts=place.loopback)
    return None if told == "auto" and not _listens(place.path) else place


def _listens(path: str) -> bool:
    """Return whether a limiter of this user listens at a path; what one left behind does not."""
    try:
        if os.lstat(path).st_uid != os.geteuid():
            return False
        with socket.socket(socket.AF_UNIX) as trying:
            trying.settimeout(A_MOMENT)
            trying.connect(path)
    except OSError:
        return False
    return True


def name_of(key: str | None, *what: str | None) -> str:
    """Return by which name a limiter knows an account: of a key, a server, a model.

    The key cannot be found from it: it is a slow hash, of what is mostly random anyway.
    """
    salt = "\0".join(part or "" for part in what).encode()
    told = hashlib.scrypt((key or "").encode(), salt=salt, n=2**14, r=8, p=1, dklen=16)
    return told.hex()


def reason(error: OSError) -> str:
    """Return why there is no way, in the system's words."""
    number = error.errno or 0
    return os.strerror(number) if number > 0 else error.strerror or str(error)


async def connect(place: Place) -> tuple[asyncio.StreamReader, Limited]:
    """Return a way to the limiter at a place. Raises OSError."""
    if place.path:
        if os.lstat(place.path).st_uid not in (os.geteuid(), 0):
            raise PermissionError(errno.EACCES, "it is someone else's")
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
            f"cannot make the folder `{path}`: {error.strerror}", hint=ELSEWHERE
        ) from error
    mine = found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode)
    if not mine or stat.S_IMODE(found.st_mode) & 0o077:
        raise UsageError(
            f"`{path}` is not yours alone: others could take part, or take the limiter's place",
            hint=f"`chmod 700 {path}` if nothing else is in it, or {ELSEWHERE}",
        )
