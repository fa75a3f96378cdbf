"""Draw the pictures of sample_data/pictures: small PNG files, the same bytes every time.

python tools/make_sample_pictures.py
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

SIZE = 48
FOLDER = Path(__file__).parent.parent / "sample_data" / "pictures"

Colour = tuple[int, int, int]
SKY, SEA, SAND = (150, 200, 245), (30, 90, 160), (235, 210, 150)
YELLOW, RED, WHITE, BLACK = (250, 210, 40), (200, 40, 40), (245, 245, 245), (40, 40, 40)


def sun(x: int, y: int) -> Colour:
    """A sun above a beach."""
    if (x - 24) ** 2 + (y - 18) ** 2 < 100:
        return YELLOW
    return SKY if y < 36 else SAND


def boat(x: int, y: int) -> Colour:
    """A red boat with a white sail on the sea."""
    if 10 <= y < 30 and 24 <= x < 24 + (y - 10) * 3 // 4:
        return WHITE
    if 32 <= y < 38 and 8 + (y - 32) <= x < 40 - (y - 32):
        return RED
    return SKY if y < 35 else SEA


def board(x: int, y: int) -> Colour:
    """A chess board."""
    return WHITE if (x // 6 + y // 6) % 2 == 0 else BLACK


def png(colour: Callable[[int, int], Colour]) -> bytes:
    """Return a PNG file of a picture."""
    lines = (b"\0" + b"".join(bytes(colour(x, y)) for x in range(SIZE)) for y in range(SIZE))
    head = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 2, 0, 0, 0)
    blocks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"".join(lines), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in blocks
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for draw in (sun, boat, board):
        (FOLDER / f"{draw.__name__}.png").write_bytes(png(draw))
