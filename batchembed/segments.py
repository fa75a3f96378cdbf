r"""One checkpoint file: frames of vectors or rejects, each with its length and checksum.

Theory of operation. A segment is only ever appended to, by one process; a new process starts
a new segment, so a torn tail is never written over. A frame is::

    magic   4 bytes  b"bE1\n"
    length  u32      bytes of the payload, little-endian like all numbers here
    crc     u32      CRC-32C of the payload
    payload

and its payload::

    kind    u8       1 vectors, 2 rejects
    note    u32      bytes of the note: JSON, what else is known (tokens, model version)
    count   u32      how many keys
    width   u32      bytes of one vector (0 for rejects)
    note, then count keys of 16 bytes, then count vectors

A frame whose checksum does not hold is passed over: the next magic whose frame holds is where
reading goes on. What a damaged frame held counts as never paid for, and is asked for again.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
import orjson

from batchembed.exchange import Keys, Reject, Vectors
from batchembed.spec import KEY_BYTES

MAGIC = b"bE1\n"
HEAD = struct.Struct("<4sII")
PAYLOAD = struct.Struct("<BIII")
VECTORS, REJECTS = 1, 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One answer as it was kept. `offset` is where in the file its first vector starts."""

    kind: int
    note: dict[str, Any]
    keys: Keys
    width: int
    offset: int

    def rejects(self) -> list[Reject]:
        """Return the rejects of a frame of that kind."""
        return [
            Reject(key.tobytes(), **told)
            for key, told in zip(self.keys, self.note["rejects"], strict=True)
        ]


@dataclass(slots=True)
class Damage:
    """Counts what reading a segment had to pass over."""

    frames: int = 0
    bytes: int = 0


def vectors_frame(keys: Keys, vectors: Vectors, note: dict[str, Any]) -> list[bytes | memoryview]:
    """Return the buffers of a frame that holds `vectors`, shape (n, d), under `keys`, (n, 16)."""
    block = np.ascontiguousarray(vectors, dtype="<f4")
    return _frame(VECTORS, note, keys, (block.shape[1] * 4, block.tobytes()))


def rejects_frame(
    rejects: list[Reject], note: Mapping[str, Any] | None = None
) -> list[bytes | memoryview]:
    """Return the buffers of a frame that holds rejects, with none a `note` alone."""
    joined = b"".join(reject.key for reject in rejects)
    keys = np.frombuffer(joined, dtype=np.uint8).reshape(-1, KEY_BYTES)
    told = [
        {"reason": r.reason, "message": r.message, "status": r.status, "request_id": r.request_id}
        for r in rejects
    ]
    return _frame(REJECTS, {"rejects": told, **(note or {})}, keys, (0, b""))


def _frame(
    kind: int, note: dict[str, Any], keys: Keys, vectors: tuple[int, bytes]
) -> list[bytes | memoryview]:
    width, block = vectors
    noted = orjson.dumps(note)
    front = PAYLOAD.pack(kind, len(noted), len(keys), width) + noted + keys.tobytes()
    return sealed(front, block)


def sealed(front: bytes, block: bytes = b"") -> list[bytes | memoryview]:
    """Return the buffers of a frame whose payload is `front` and `block`."""
    crc = google_crc32c.extend(google_crc32c.value(front), block)
    return [HEAD.pack(MAGIC, len(front) + len(block), crc) + front, memoryview(block)]


def read_sealed(file: BinaryIO, least: int = 1) -> bytes | None:
    """Return the payload of the frame that starts here; None unless it is whole."""
    left = os.fstat(file.fileno()).st_size - file.tell() - HEAD.size
    return _payload(file, file.read(HEAD.size), left, least)


def read_frames(path: Path, damage: Damage | None = None) -> Iterator[Frame]:
    """Yield the frames of a segment that are whole, in file order."""
    damage = damage or Damage()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        position = 0
        while head := file.read(HEAD.size):
            payload = _payload(file, head, size - position - HEAD.size, PAYLOAD.size)
            if payload is None:
                found = _next_magic(file, position + 1)
                damage.frames += 1
                damage.bytes += found - position
                position = found
                file.seek(position)
                continue
            yield _parsed(payload, position + HEAD.size)
            position = file.tell()


def _payload(file: BinaryIO, head: bytes, left: int, least: int) -> bytes | None:
    """Return the payload if it is whole; no more is read than the `left` bytes of the file.

    The checksum of no bytes is 0: zeros after a magic must not pass as a frame.
    """
    if len(head) < HEAD.size:
        return None
    magic, length, crc = HEAD.unpack(head)
    if magic != MAGIC or not least <= length <= left:
        return None
    payload = file.read(length)
    if len(payload) != length or google_crc32c.value(payload) != crc:
        return None
    return payload


def _parsed(payload: bytes, start: int) -> Frame:
    kind, noted, count, width = PAYLOAD.unpack_from(payload)
    keys_at = PAYLOAD.size + noted
    vectors_at = keys_at + count * KEY_BYTES
    return Frame(
        kind=kind,
        note=orjson.loads(payload[PAYLOAD.size : keys_at]),
        keys=np.frombuffer(payload, np.uint8, count * KEY_BYTES, keys_at).reshape(-1, KEY_BYTES),
        width=width,
        offset=start + vectors_at,
    )


def _next_magic(file: BinaryIO, position: int) -> int:
    """Return where the next magic starts at or after `position`, else where the file ends."""
    step = 1 << 20
    while True:
        file.seek(position)
        window = file.read(step)
        found = window.find(MAGIC)
        if found >= 0:
            return position + found
        if len(window) < step:
            return position + len(window)
        position += step - len(MAGIC) + 1
