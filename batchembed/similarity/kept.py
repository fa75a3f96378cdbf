"""What a comparison has done so far, kept on disk for whoever goes on after it was killed.

Theory of operation. Everything is frames with checksums, as in the ledger's segments: arrays
by name, after a first frame that says of which comparison they are. Nearest rows keep a
snapshot, replaced as a whole: which blocks are done, and the candidates so far. Pairs and dense
scores come in row order, so they keep a log: each finished stretch of rows, once. Whatever is
torn, damaged or of another comparison counts as not there, and is made again. (Dense scores
themselves stay in the file that they are for: `resuming`.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from batchembed.segments import read_sealed, sealed
from batchembed.store import Appender, Store

Arrays = dict[str, NDArray[Any]]

SNAPSHOT = "snapshot"
LOG = "log-"
_TIMES = 20


class Kept:
    """The kept work of one comparison in a folder of its own.

    `about` tells comparisons apart: kept work of another one is not used. A snapshot is due
    `seconds` after the last, and later where making one takes long; always, for 0.
    """

    def __init__(
        self,
        root: Path,
        about: Mapping[str, Any],
        *,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = Store(root)
        self._about = orjson.dumps(about, option=orjson.OPT_SORT_KEYS)
        self._seconds, self._clock = seconds, clock
        self._due = clock() + seconds
        self._log: Appender | None = None

    def due(self) -> bool:
        """Return whether it is time for a snapshot."""
        return self._clock() >= self._due

    def wait(self, began: float | None = None) -> None:
        """Be due again after `seconds`, or later where keeping took long that `began` then."""
        now = self._clock()
        took = 0.0 if began is None else now - began
        self._due = now + (max(self._seconds, _TIMES * took) if self._seconds else 0)

    def snapshot(self, frames: Iterable[Arrays]) -> None:
        """Keep these frames in place of the last snapshot."""
        began = self._clock()
        with self._store.create(SNAPSHOT) as writer:
            for part in sealed(self._about):
                writer.write(part)
            count = 0
            for count, frame in enumerate(frames, 1):  # noqa: B007 - counted
                for part in _packed(frame):
                    writer.write(part)
            for part in _packed({"frames": np.array(count)}):
                writer.write(part)
            writer.commit()
        self.wait(began)

    def snapshot_frames(self) -> list[Arrays]:
        """Return the frames of the last snapshot; [] unless all of them are whole."""
        frames = list(self._frames(SNAPSHOT))
        end = frames.pop() if frames else {}
        return frames if "frames" in end and end["frames"].item() == len(frames) else []

    def append(self, frame: Arrays) -> None:
        """Add a frame to the log, durably."""
        if self._log is None:
            number = len(self._logs())
            self._log = self._store.append(f"{LOG}{number:06}")
            self._log.write(*sealed(self._about))
        self._log.write(*_packed(frame))
        self._log.sync()

    def log_frames(self) -> Iterator[Arrays]:
        """Yield the frames of the log that are whole, in the order in which they came."""
        for name in self._logs():
            yield from self._frames(name)

    def close(self) -> None:
        """Close the log; what is kept stays."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _logs(self) -> list[str]:
        return [n[2:] for n in self._store.names(".") if n.startswith(f"./{LOG}")]

    def _frames(self, name: str) -> Iterator[Arrays]:
        try:
            with self._store.path(name).open("rb") as file:
                if read_sealed(file) != self._about:
                    return
                while (payload := read_sealed(file)) is not None:
                    yield _unpacked(payload)
        except FileNotFoundError:
            return


def _packed(frame: Arrays) -> list[bytes | memoryview]:
    """Return the buffers of a frame: what is in it as JSON, then the numbers."""
    arrays = {name: np.ascontiguousarray(array) for name, array in frame.items()}
    told = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    head = orjson.dumps(told)
    body = b"".join(array.tobytes() for array in arrays.values())
    return sealed(len(head).to_bytes(4, "little") + head, body)


def _unpacked(payload: bytes) -> Arrays:
    size = int.from_bytes(payload[:4], "little")
    frame, offset = {}, 4 + size
    for name, kind, shape in orjson.loads(payload[4:offset]):
        count = int(np.prod(shape, dtype=np.int64))
        frame[name] = np.frombuffer(payload, kind, count, offset).reshape(shape)
        offset += frame[name].nbytes
    return frame
