"""A process that does nothing but encode with the static model: requests in, answers out, by pipe.

A message is its length (8 bytes) and what `marshal` makes of it: both ends are one interpreter. It
goes by pipe and not by shared memory, as a pipe is at its end when the other process is gone.
"""

from __future__ import annotations

import marshal
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
from numpy.typing import NDArray

LENGTH: Final = struct.Struct("=q")


class Encoder(Protocol):
    """The static model, or what stands in for it; see StaticModel.encode."""

    @property
    def name(self) -> str:
        """What the model is called."""

    @property
    def version(self) -> str:
        """Which of its versions this is."""

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""

    @property
    def encode(self) -> Callable[..., tuple[NDArray[np.float32], NDArray[np.int32]]]:
        """Return the vectors of texts, (n, dimensions), and their tokens, (n,)."""


def identity(model: Encoder) -> tuple[str, str, int]:
    """Return what two models must have in common to give the same vectors."""
    return model.name, model.version, model.dimensions


def send(pipe: BinaryIO, message: Any, *arrays: NDArray[Any]) -> None:
    """Write a message, then the bytes of `arrays`. Raises ValueError if it has no wire form."""
    packed = marshal.dumps(message)
    pipe.write(LENGTH.pack(len(packed)))
    pipe.write(packed)
    for array in arrays:
        pipe.write(array.data)
    pipe.flush()


def receive(pipe: BinaryIO) -> Any:
    """Read a message; raises EOFError when the other end is gone."""
    size = pipe.read(LENGTH.size)
    if len(size) < LENGTH.size:
        raise EOFError
    return marshal.loads(pipe.read(LENGTH.unpack(size)[0]))  # noqa: S302 — from ourselves


def receive_array(pipe: BinaryIO, shape: tuple[int, ...], kind: type[np.generic]) -> NDArray[Any]:
    """Read the numbers of an array straight into it; raises EOFError when the other end is gone."""
    array = np.empty(shape, kind)
    if pipe.readinto(array.data) < array.nbytes:  # type: ignore[attr-defined]
        raise EOFError
    return array


def serve(model: Encoder, requests: BinaryIO, answers: BinaryIO) -> None:
    """Say which model this is, then answer requests until there are no more.

    A request is (texts, controls); its answer a message (n, None) and two arrays, or (0, why).
    """
    send(answers, identity(model))
    while True:
        texts, controls = receive(requests)
        try:
            vectors, tokens = model.encode(texts, controls)
        except ValueError as error:
            send(answers, (0, str(error)))
        else:
            send(answers, (len(texts), None), vectors, tokens)


def main() -> None:
    """Serve the embedded model by stdin and stdout; the only argument is its dimensions.

    Signals to stop go to the whole group and mean the parent, which lets what is in flight land.
    """
    for stopping in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stopping, signal.SIG_IGN)
    from batchembed.providers.static_model import StaticModel

    model = StaticModel.load(dimensions=int(sys.argv[-1]))
    with suppress(EOFError, BrokenPipeError):
        serve(model, sys.stdin.buffer, sys.stdout.buffer)
