"""Small files that prove themselves: a SHA-256 of all their bytes, told in the file itself.

The last field of a sealed JSON object is `check`: the SHA-256 of the file with 64 zeros in its
place. A sealed TOML file ends with a comment that tells it of all lines before. Files of versions
that sealed nothing have neither, and are taken as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import orjson

_ZEROS = b"0" * 64
_CHECK = re.compile(rb'"check": "([0-9a-f]{64})"\n}\n$')
_LINE = re.compile(rb"# sha256 of the lines above: ([0-9a-f]{64})\n$")


class BrokenSealError(ValueError):
    """The bytes of a file are not those that were written."""


def sealed(told: Mapping[str, Any]) -> bytes:
    """Return a JSON object with its check, as the bytes of a file."""
    form = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    blank = orjson.dumps({**told, "check": _ZEROS.decode()}, option=form)
    return blank[: -len(_ZEROS) - 4] + _digest(blank) + blank[-4:]


def unsealed(raw: bytes) -> Any:
    """Return what a file of JSON holds, without its check.

    Raises BrokenSealError when the check does not hold, orjson.JSONDecodeError for no JSON.
    """
    told = orjson.loads(raw)
    if isinstance(told, dict) and "check" in told:
        if not is_sealed(raw):
            raise BrokenSealError("its bytes are not those that were written (SHA-256)")
        del told["check"]
    return told


def is_sealed(raw: bytes) -> bool:
    """Return whether a file of JSON has a check that holds."""
    found = _CHECK.search(raw)
    if found is None:
        return False
    return _digest(raw[: found.start(1)] + _ZEROS + raw[found.end(1) :]) == found[1]


def sealed_toml(text: str) -> str:
    """Return a TOML file with its check as a last line."""
    return f"{text}# sha256 of the lines above: {_digest(text.encode()).decode()}\n"


def is_sealed_toml(raw: bytes) -> bool:
    """Return whether a TOML file has a check that holds."""
    found = _LINE.search(raw)
    return found is not None and _digest(raw[: found.start()]) == found[1]


def _digest(raw: bytes) -> bytes:
    return hashlib.sha256(raw).hexdigest().encode()
