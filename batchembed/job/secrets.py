"""The provider's key: where it comes from, and how it is kept out of job files and messages."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from batchembed.errors import ActionNeededError, JobError
from batchembed.job.settings import Access

_NAMES = re.compile(
    r"(?:^|_)(?:key|apikey|token|secret|password|passwd|passphrase|bearer|authorization|credentials?)$"
)
_KEYS = re.compile(
    r"""(?x)
    ^sk-[\w-]+$                                             # the usual form of most providers
    | (?<![\w/.-]) sk-[\w-]{16,} (?![\w/.-])                # the same within a command
    | (?<![\w/.-]) (?:pa-|gsk_|hf_|jina_|ghp_|xai-|AIza|AKIA)[\w-]{16,} (?![\w/.-])
    | (?<![\w/.-]) eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.             # a JSON web token
    | (?i:\bbearer\s+\S{8,})
    | (?i:[?&](?:api[-_]?key|key|token|sig|signature|code)=[^&\s]{6,})
    | ://[^/?\#@\s]*:[^/?\#@\s]+@                           # user:password@host
    """
)
_RANDOM = re.compile(r"(?=.*[0-9])(?=.*[a-z])[A-Za-z0-9_]{20,}")
_PATIENCE = 60.0
_ELSEWHERE = (
    "put it into the environment, and name the variable in `access.key_env`; "
    "or use `access.key_file` or `access.key_command`"
)


def refuse_keys(settings: Mapping[str, Any], *, where: str) -> None:
    """Raise JobError when `settings` holds something like a key. It is never echoed."""
    for path, name, value in _leaves(settings, ""):
        if isinstance(value, str) and not value.isprintable() and _has_surrogate(value):
            raise JobError(f"{where}: `{path}` holds half a character, which no file can hold")
        named = _NAMES.search(name.lower().replace("-", "_")) and value not in ("", None)
        if (
            named
            or (isinstance(value, str) and looks_like_key(value))
            or _is_key_itself(path, value)
        ):
            raise JobError(
                f"{where}: `{path}` holds something like a key, and a job file is no place for one",
                hint=_ELSEWHERE,
            )


def looks_like_key(text: str) -> bool:
    """Return whether `text` is, or has in it, what looks like a provider's key."""
    return bool(_KEYS.search(text))


def secret(access: Access, variable: str | None, *, environ: Mapping[str, str]) -> str | None:
    """Return the provider's key from a variable, a file or a command, or None if none is needed.

    `variable` is the provider's usual environment variable, None for a provider without a key.
    Raises ActionNeededError when a key is needed or named and is not there.
    """
    if access.key_file is not None:
        return _checked(_from_file(Path(access.key_file)), f"the key file `{access.key_file}`")
    if access.key_command is not None:
        return _checked(_from_command(access.key_command), f"`{access.key_command[0]}`")
    name = access.key_env or variable
    if name is None:
        return None
    if not environ.get(name, "").strip():
        raise ActionNeededError(
            f"no key: the environment variable `{name}` is not set",
            hint=f"export {name}=…, or name another place with `access.key_file` or "
            "`access.key_command`",
        )
    return _checked(environ[name], f"the environment variable `{name}`")


def _from_file(path: Path) -> str:
    try:
        with path.expanduser().open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise ActionNeededError(
                    f"the key file `{path}` can be read by others (mode {mode & 0o777:o})",
                    hint=f"chmod 600 {path}",
                )
            return file.read(1 << 16).decode()
    except UnicodeDecodeError:
        raise ActionNeededError(f"the key file `{path}` is not text") from None
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ActionNeededError(
            f"the key file `{path}` cannot be read: {why}",
            hint="mend `access.key_file`; the file holds nothing but the key",
        ) from None


def _from_command(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(  # noqa: S603 (the user's own command, and no shell reads it)
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PATIENCE, check=True
        )
        return done.stdout.decode()
    except subprocess.CalledProcessError as error:
        why = f"it ended with exit code {error.returncode}"
    except subprocess.TimeoutExpired:
        why = f"it took longer than {_PATIENCE:.0f} s"
    except UnicodeDecodeError:
        why = "what it printed is not text"
    except OSError as error:
        why = error.strerror or "it cannot be started"
    raise ActionNeededError(
        f"no key from `{command[0]}`: {why}",
        hint="run the command of `access.key_command` yourself: it must print the key alone",
    )


def _checked(key: str, source: str) -> str:
    """Return the key without the white space around it, if it could stand in a header."""
    key = key.strip()
    if not key:
        raise ActionNeededError(f"{source} gave an empty key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ActionNeededError(
            f"{source} gave something that is no key: it has spaces, line breaks or accents in it",
            hint="it must give the key and nothing else",
        )
    return key


def _leaves(value: Any, path: str, name: str = "") -> Iterator[tuple[str, str, Any]]:
    """Yield path, last name and value of everything that is no table and no list.

    Names are said as they stand, unless they look like a key themselves.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            said = "…" if looks_like_key(str(key)) else str(key)
            yield from _leaves(inner, f"{path}.{said}" if path else said, str(key))
            if said == "…":
                yield path, name, str(key)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, path, name)
    else:
        yield path, name, value


def _is_key_itself(path: str, value: object) -> bool:
    """Return whether `key_env` holds the key where the name of its variable should stand."""
    if path != "access.key_env":
        return False
    try:
        return bool(_RANDOM.fullmatch(str(value)))
    except ValueError:  # a number of more digits than Python writes down
        return True


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)
