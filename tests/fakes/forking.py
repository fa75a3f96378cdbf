"""A process that has imported batchembed and forks for each command: `python forking.py SOCKET`.

Starting Python and importing Arrow and Polars takes a second or two, a fork 10 ms; a suite that
kills a hundred processes needs the difference. Nothing of batchembed has run before the fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import traceback
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from fakes import twists  # noqa: E402 - the path comes first


def serve(path: str) -> None:
    """Fork a keeper for each connection, until the process that started us is gone."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(16)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while True:
            connection, _ = listening.accept()
            asked = json.loads(_line(connection))
            if asked is None:
                return
            if os.fork() == 0:
                listening.close()
                _keep(connection, asked)
            connection.close()


def _line(connection: socket.socket) -> bytes:
    read = b""
    while not read.endswith(b"\n"):
        read += connection.recv(1 << 16)
    return read


def _keep(connection: socket.socket, asked: dict) -> None:
    """Tell the process id of the command, wait for its end, tell how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        connection.close()
        _command(asked)
    connection.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _command(asked: dict) -> None:
    """Become the command."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    code = 1
    try:
        from batchembed.cli import main

        twists.apply(asked["twists"])
        main(asked["argv"], prog_name="batchembed")
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    twists.end()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def preload() -> None:
    """Import what every command needs."""
    import aiohttp  # noqa: F401
    import numpy as np  # noqa: F401
    import polars as pl  # noqa: F401
    import pyarrow as pa  # noqa: F401

    import batchembed.api
    import batchembed.cli
    import batchembed.job
    import batchembed.providers.http
    import batchembed.run
    import batchembed.words

    told = {"path": "x", "text": "x"}
    model, output = {"provider": "local"}, {"path": "x"}
    batchembed.from_dict({"corpus": told, "model": model, "output": output}, where="here")


if __name__ == "__main__":
    preload()
    serve(sys.argv[1])
