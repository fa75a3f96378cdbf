"""The stand-in server: prepared answers over loopback, in C where there is a compiler.

Run as `python -m benchmarks.server NAME=FILE ...` it is the fallback in Python.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from benchmarks.measuring import ROOT, pinned

SOURCE = Path(__file__).with_name("stand_in.c")
SERVER_CORE = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers POST `url`/NAME/…; `language` says which of the two it is."""

    url: str
    language: str
    process: int

    def cpu(self) -> float:
        """Return the CPU seconds that it has taken so far."""
        stat = Path(f"/proc/{self.process}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(bodies: Mapping[str, bytes], folder: Path) -> Iterator[Running]:
    """Serve each body under its name from the second core, until the block ends."""
    told = []
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
        told.append(f"{name}={folder / name}")
    command, language = _command(folder)
    with (
        pinned(SERVER_CORE),
        subprocess.Popen(
            [*command, *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process,
    ):
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Running(f"http://127.0.0.1:{port}", language, process.pid)


def _command(folder: Path) -> tuple[list[str], str]:
    """Return how to start the server, and its language."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler:
        program = folder / "stand_in"
        made = subprocess.run(
            [compiler, "-O2", "-o", str(program), str(SOURCE)], check=False, capture_output=True
        )
        if made.returncode == 0:
            return [str(program)], "C"
    return [sys.executable, "-m", "benchmarks.server"], "Python"


# -- the answers ------------------------------------------------------------------------------


def aleph_alpha(texts: int | None, dimensions: int) -> bytes:
    """Return an answer of Aleph Alpha: of one text (None), or of a batch."""
    rows = _rows(texts or 1, dimensions)
    name, value = ("embedding", rows[0]) if texts is None else ("embeddings", rows)
    told = {"model_version": "stand-in", name: value, "num_tokens_prompt_total": 90}
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def openai(texts: int, dimensions: int, *, as_base64: bool) -> bytes:
    """Return an answer of the OpenAI API, its vectors as JSON numbers or as base64."""
    rows = _rows(texts, dimensions)
    shown = [base64.b64encode(row.tobytes()).decode() for row in rows] if as_base64 else rows
    data = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(shown)]
    usage = {"prompt_tokens": 90 * texts, "total_tokens": 90 * texts}
    told = {"object": "list", "data": data, "model": "stand-in", "usage": usage}
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def _rows(texts: int, dimensions: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    rows = np.random.default_rng(1).normal(size=(texts, dimensions)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


# -- the fallback -----------------------------------------------------------------------------

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class _Connection(asyncio.Protocol):
    """Answers every request of one connection with the prepared bytes for its path."""

    def __init__(self, answers: Mapping[str, bytes]) -> None:
        self._answers = answers
        self._in = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._in += data
        while (head := self._in.find(b"\r\n\r\n")) >= 0:
            told = _LENGTH.search(self._in, 0, head + 2)
            whole = head + 4 + (int(told[1]) if told else 0)
            if len(self._in) < whole:
                return
            name = self._in[:head].split(b" ", 2)[1].split(b"/")[1].decode()
            self._in = self._in[whole:]
            assert self._transport is not None
            self._transport.write(self._answers[name])


async def _serve(told: list[str]) -> None:
    answers = {}
    for name, path in (word.split("=", 1) for word in told):
        body = Path(path).read_bytes()  # noqa: ASYNC240 - before anything is served
        head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        answers[name] = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1:]))
