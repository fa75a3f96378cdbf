"""Running the command line from outside: quickly from a fork server, or as users do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE = 60.0
ALONE = {"BATCHEMBED_LIMITER": "off"}  # one that listens here has no part in tests
# One thread each: the tests run on small machines, several commands at a time.
QUIET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment with nothing of whoever runs the tests, but what starts Python."""
    kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, **QUIET, "POLARS_MAX_THREADS": "2", **ALONE, **(more or {})}


@dataclass(frozen=True)
class Ended:
    """How a command ended: a negative code names the signal that killed it."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        """What it answered, with --json."""
        return json.loads(self.out)


class Command:
    """A command that runs."""

    def __init__(self, connection: socket.socket, out: Path, err: Path) -> None:
        self._connection, self._out, self._err = connection, out, err
        self._heard = b""
        self._code: int | None = None
        told = self._line(PATIENCE)
        assert told is not None, "the fork server did not start the command"
        self.pid = int(told)

    def wait(self, seconds: float = PATIENCE) -> Ended:
        """Return how it ended; fail if that takes longer than `seconds`."""
        if not self.ends_within(seconds):
            self.send(signal.SIGKILL)
            self._connection.close()
            raise AssertionError(f"still running after {seconds} s; it said: {self.said()}")
        return Ended(self._code, self._out.read_text(), self._err.read_text())

    def ends_within(self, seconds: float) -> bool:
        """Wait for the end so long; return whether it came."""
        if self._code is None and (told := self._line(seconds)) is not None:
            self._code = int(told)
            self._connection.close()
        return self._code is not None

    def send(self, signum: int) -> None:
        """Send a signal, if it still runs."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def kill(self) -> Ended:
        """`kill -9`, and return how it ended: it may have ended by itself just before."""
        self.send(signal.SIGKILL)
        return self.wait()

    def _line(self, seconds: float) -> bytes | None:
        """Return the next line that the fork server says, None if there is none so long."""
        last = time.monotonic() + seconds
        while b"\n" not in self._heard:
            self._connection.settimeout(max(last - time.monotonic(), 1e-4))
            try:
                heard = self._connection.recv(64)
            except TimeoutError:
                return None
            assert heard, "the fork server is gone"
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return line

    def left_behind(self) -> list[int]:
        """Return the processes that it started and that still run: all are of its session."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(rest[2]) == self.pid and state != "Z":
                    found.append(int(entry.name))
        return found

    def said(self) -> str:
        """What it has said on stderr so far."""
        return self._err.read_text()

    def answered(self) -> str:
        """What it has answered on stdout so far."""
        return self._out.read_text()


class Commands:
    """Runs batchembed's commands in forks of a process that has imported everything."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._count = 0

    def start(
        self,
        *argv: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        twists: Sequence[Sequence[object]] = (),
    ) -> Command:
        """Start a command; `twists` are done to it from inside, see twists.py."""
        self._count += 1
        out, err = (Path(self._path).with_name(f"{self._count}.{name}") for name in ("out", "err"))
        out.touch()  # a command may be killed before it opens them
        err.touch()
        asked = {
            "argv": [str(word) for word in argv],
            "cwd": str(cwd),
            "env": environment(env),
            "twists": [list(twist) for twist in twists],
            "out": str(out),
            "err": str(err),
        }
        return Command(self._ask(asked), out, err)

    def run(self, *argv: object, seconds: float = PATIENCE, **more: object) -> Ended:
        """Run a command to its end."""
        return self.start(*argv, **more).wait(seconds)

    def end(self) -> None:
        """End the fork server."""
        self._ask(None).close()

    def _ask(self, asked: object) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        connection.sendall(json.dumps(asked).encode() + b"\n")
        return connection


@contextlib.contextmanager
def forking() -> Iterator[Commands]:
    """Yield commands that run in forks; needs a second or two to start, once."""
    with tempfile.TemporaryDirectory(prefix="be-") as folder:  # short: a socket's path must be
        path = f"{folder}/s"
        command = [sys.executable, str(HERE / "forking.py"), path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == b"ready\n"
                commands = Commands(path)
                yield commands
                commands.end()
                server.wait(timeout=10)
            finally:
                server.kill()


def as_users_do(*argv: object, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run a command in a process of its own, from the interpreter's start on."""
    command = [sys.executable, "-m", "batchembed", *map(str, argv)]
    told = environment(env) | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=cwd, env=told, capture_output=True, text=True, timeout=60, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)
