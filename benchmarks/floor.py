"""The least that a durable job has to do, in one straight line and without a single rule.

It reads the corpus, makes keys, asks with aiohttp, looks at the length of the vectors, appends each
answer with its checksum, fsyncs once, and writes corpus and vectors as one Arrow file with its
SHA-256. No retries, pacing, limits, duplicates, rejects or resuming. Arguments as of `clients`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batchembed.spec import Keyer, Spec
from benchmarks.clients import WAYS, Rows, Way, opened, post

ROWS_A_BATCH = 2048
UNIT = (0.998, 1.002)


class Sink:
    """A file for pyarrow that hashes what it writes."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, path.open("wb")
        self.hash = hashlib.sha256()
        self.closed = False

    def write(self, data: bytes) -> int:
        """Write and hash."""
        self.hash.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        """Make it durable."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


Found = list[tuple[int, int]]
"""(First text, offset of its vector) of each answer."""


async def ask(way: Way, url: str, texts: list[str], workers: int, log: int) -> Found:
    """Append every answer to `log`; return where they are, in order."""
    keys = Keyer(Spec("floor", "floor")).keys(texts, "symmetric")
    upcoming = iter(range(0, len(texts), way.texts))
    found: Found = []
    offset = 0
    async with opened(workers) as session:

        async def work() -> None:
            nonlocal offset
            for start in upcoming:
                some = texts[start : start + way.texts]
                body = await post(session, f"{url}/{way.path}", way.build(some))
                vectors: Rows = way.read(body, len(some))
                squares = np.einsum("ij,ij->i", vectors, vectors)
                assert UNIT[0] < squares.min()
                assert squares.max() < UNIT[1]
                head = keys[start : start + way.texts].tobytes()
                data = vectors.tobytes()
                crc = google_crc32c.extend(google_crc32c.value(head), data)
                head += crc.to_bytes(4, "little")
                found.append((start, offset + len(head)))
                offset += os.writev(log, [head, data])

        await asyncio.gather(*(work() for _ in range(workers)))
    os.fsync(log)
    return sorted(found)


def read(log: int, found: Found, texts: int, width: int) -> Iterator[Rows]:
    """Yield the vectors in order, `ROWS_A_BATCH` at a time."""
    out, filled = np.empty((ROWS_A_BATCH, width), np.float32), 0
    for at, (start, first) in enumerate(found):
        offset, count = first, (found[at + 1][0] if at + 1 < len(found) else texts) - start
        while count:
            step = min(count, ROWS_A_BATCH - filled)
            os.preadv(log, [out[filled : filled + step].data.cast("B")], offset)
            filled, count, offset = filled + step, count - step, offset + 4 * step * width
            if filled == ROWS_A_BATCH:
                yield out
                filled = 0
    yield out[:filled]


def main(name: str, url: str, corpus: str, workers: str) -> None:
    """Do it all, in a folder that is removed."""
    way, texts = WAYS[name], pq.read_table(corpus)["text"].to_pylist()
    with tempfile.TemporaryDirectory(dir=Path(corpus).parent) as folder:
        log = os.open(Path(folder) / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
        found = asyncio.run(ask(way, url, texts, int(workers), log))
        width = 128 if name in {"single", "batch"} else 1024
        sink = Sink(Path(folder) / "part")
        vectors, writer = read(log, found, len(texts), width), None
        for rows in pq.ParquetFile(corpus).iter_batches(ROWS_A_BATCH):
            column = pa.FixedSizeListArray.from_arrays(pa.array(next(vectors).reshape(-1)), width)
            table = pa.RecordBatch.from_arrays([*rows.columns, column], [*rows.schema.names, "v"])
            writer = writer or pa.ipc.new_file(sink, table.schema)
            writer.write_batch(table)
        assert writer is not None
        writer.close()
        sink.flush()
        sink.close()
        os.close(log)
        print(sink.hash.hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
