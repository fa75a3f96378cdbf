"""Image files that rows name: where they are, how large, and their bytes."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchembed.corpus.files import CorpusFile, facts
from batchembed.corpus.spans import SpanError


class ImageError(Exception):
    """A row's image cannot be had: `reason` is that of the reject."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def load(value: Any, file: CorpusFile) -> bytes:
    """Return the bytes of an image: of itself, or of the file that a row of `file` names.

    Raises ImageError where there is none, and SpanError for what cannot name one.
    """
    told, path = _told(value)
    if told is None:
        place = _place(path, file)
        try:
            facts(place, file.filesystem)  # a regular file: a pipe would be read for ever
            told = _read(place, file)
        except FileNotFoundError:
            raise ImageError("missing_image") from None
        except (OSError, ValueError, pa.ArrowException):
            raise ImageError("unreadable_image") from None
    if not told:
        raise ImageError("unreadable_image")
    return told


def image_size(value: Any, file: CorpusFile) -> int:
    """Return how many bytes an image has; 0 where it cannot be had."""
    try:
        told, path = _told(value)
        return len(told) if told is not None else facts(_place(path, file), file.filesystem)[0]
    except (OSError, ValueError, pa.ArrowException):
        return 0


def image_facts(value: Any, file: CorpusFile) -> list[Any]:
    """Return place, size and time of the file that a value names; [] for bytes and mistakes."""
    try:
        told, path = _told(value)
        if told is not None:
            return []
        place = _place(path, file)
        return [place, *facts(place, file.filesystem)]
    except (OSError, ValueError, pa.ArrowException):
        return []


def _told(value: Any) -> tuple[bytes | None, str]:
    """Return (bytes, path) of an image; bytes come first where a row has both."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        value = data if data is not None else path
    if isinstance(value, bytes):
        return value, ""
    if not isinstance(value, str) or not value:
        raise SpanError(f"image is `{str(value)[:80]}`, neither a path nor bytes")
    if "://" in value:
        raise SpanError(f"image is the address `{value[:80]}`: fetch it first, and name its file")
    return None, value


def _place(path: str, file: CorpusFile) -> str:
    """Return where a file is that a row of `file` names: relative to the folder of that."""
    if file.filesystem is None:
        return str(Path(file.place).parent / path)
    return posixpath.join(posixpath.dirname(file.place), path)


def _read(place: str, file: CorpusFile) -> bytes:
    if file.filesystem is None:
        return Path(place).read_bytes()
    with file.filesystem.open_input_stream(place, compression=None) as source:
        found: bytes = source.read()
        return found
