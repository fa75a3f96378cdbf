"""Long text files, cut into runs of whole rows of about 1 MB."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from batchembed.corpus.files import CorpusFile, broken

PIECE = 1 << 20
LONGEST_ROW = 1 << 28
_MOST_AT_ONCE = 1 << 24

_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(slots=True)
class Place:
    """How far a file is read: rows done, and the line (from 1) at which the next piece begins."""

    rows: int = 0
    line: int = 1


class Source(Protocol):
    """Anything that gives bytes, fewer than asked for at the end only."""

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; empty at the end."""


class Transcoded:
    """A stream of another encoding, as UTF-8. Raises UnicodeDecodeError."""

    def __init__(self, stream: Any, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        """Return about `size` bytes of UTF-8; empty at the end."""
        while True:
            data = self._stream.read(size)
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                return text.encode()


def pieces(
    source: Source, cut: Callable[[bytes, bool], int], file: CorpusFile, place: Place
) -> Iterator[bytes]:
    """Yield runs of whole rows, about 1 MB each or one longer row; `place.line` follows.

    `cut(held, last)` returns where the last whole row of `held` ends (0: there is none); `held`
    always begins at a row, and `last` says that nothing follows.
    """
    rest = _start(source, file)
    while True:
        fresh = full(source, max(PIECE, len(rest)))
        held = rest + fresh
        if held:
            end = cut(held, not fresh)
            if end:
                yield held[:end]
                place.line += count_lines(held[:end])
            elif len(held) > LONGEST_ROW:
                raise broken(
                    file,
                    f"the row that begins in line {place.line:,} is longer than "
                    f"{LONGEST_ROW >> 20} MB",
                    hint="look for a quote that is opened there and never closed",
                )
            rest = held[end:]
        if not fresh:
            return


def count_lines(text: bytes) -> int:
    r"""Return how many lines end in `text`, by \n, \r\n or a lone \r."""
    ends = text.count(b"\n")
    returns = text.count(b"\r")
    return ends + returns - text.count(b"\r\n") if returns else ends


def bad_utf8(text: bytes) -> tuple[int, str] | None:
    """Return (position, the bytes in words) of the first bytes that are not UTF-8, if any."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.start, " ".join(f"0x{byte:02x}" for byte in text[error.start : error.end])
    return None


def _start(source: Source, file: CorpusFile) -> bytes:
    """Return the first bytes without the byte order mark of UTF-8."""
    first = full(source, 4)
    for mark, encoding in _MARKS:
        if first.startswith(mark):
            raise broken(
                file,
                f"it begins with the byte order mark of {encoding}",
                hint=f'set `encoding = "{encoding}"` under [corpus] if it is CSV, or save the '
                "file as UTF-8",
            )
    return first.removeprefix(codecs.BOM_UTF8)


def full(source: Source, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end."""
    parts = []
    while size > 0:
        data = source.read(min(size, _MOST_AT_ONCE))
        if not data:
            break
        parts.append(data)
        size -= len(data)
    return b"".join(parts)
