"""A process that does nothing but encode with the static model: requests in, answers out, by pipe.

A message is its length and what `marshal` makes of it: both ends are one interpreter, and nothing
else speaks there. Numbers follow as they lie in memory. This module imports nothing heavy.
"""

from __future__ import annotations

import marshal
import signal
import struct
import sys
from contextlib import suppress
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Spans = list[list[tuple[int, int, float]]]
"""For each text its controls: start and length in characters, factor."""

Answer = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Vectors, (n, dimensions), and how many tokens each text has, (n,)."""

_LENGTH: Final = struct.Struct("=q")


class Encoder(Protocol):
    """The static model, or what stands in for it."""

    name: str
    version: str
    dimensions: int

    def encode(self, texts: tuple[str, ...], controls: Spans | None = None, /) -> Answer:
        """Return vectors and tokens; raises ValueError for what makes no sense to the model."""


def identity(model: Encoder) -> tuple[str, str, int]:
    """Return what two models must have in common to give the same vectors."""
    return model.name, model.version, model.dimensions


def send(pipe: IO[bytes], message: bytes, *arrays: NDArray[Any]) -> None:
    """Write a message that `marshal` made, then the numbers of `arrays`."""
    pipe.write(_LENGTH.pack(len(message)))
    pipe.write(message)
    for array in arrays:
        pipe.write(array.data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> Any:
    """Read a message; raises EOFError when the other end is gone."""
    (length,) = _LENGTH.unpack(_read(pipe, _LENGTH.size))
    message = _read(pipe, length)
    return marshal.loads(message)  # noqa: S302 — from our own process, by a pipe of its own


def receive_into(pipe: Any, array: NDArray[Any]) -> None:
    """Read the numbers of `array`; raises EOFError when the other end is gone."""
    if pipe.readinto(array.data) < array.nbytes:
        raise EOFError


def _read(pipe: IO[bytes], length: int) -> bytes:
    if len(found := pipe.read(length)) < length:
        raise EOFError
    return found


def serve(model: Encoder, requests: IO[bytes], answers: IO[bytes]) -> None:
    """Say which model this is, then answer requests until there are no more.

    A request is (texts, controls). Its answer is None and two arrays, or why it is refused.
    """
    send(answers, marshal.dumps(identity(model)))
    while True:
        texts, controls = receive(requests)
        try:
            vectors, tokens = model.encode(texts, controls)
        except ValueError as error:
            send(answers, marshal.dumps(str(error)))
        else:
            send(answers, marshal.dumps(None), vectors, tokens)


def main() -> None:
    """Serve the embedded model by stdin and stdout; the last argument is its dimensions.

    It ends when its stdin does. Signals to stop go to the whole group and are meant for the
    parent, which lets what is in flight land.
    """
    for stopping in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stopping, signal.SIG_IGN)
    from batchembed.providers.static_model import StaticModel

    model = StaticModel.load(dimensions=int(sys.argv[-1]))
    with suppress(EOFError, BrokenPipeError):
        serve(model, sys.stdin.buffer, sys.stdout.buffer)
