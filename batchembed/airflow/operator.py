"""An Airflow operator that runs a job, and continues it when Airflow tries the task again."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import BaseHook, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from batchembed.errors import BatchembedError, UsageError

COMPLETE = frozenset({0, 3})
FOR_A_PERSON = frozenset({2, 4})  # trying again mends neither
RESULT = (
    *("path", "state", "exit_code", "rows", "distinct", "sent", "reused", "rejected"),
    *("requests", "tokens", "cost", "dimensions", "parts", "seconds"),
)
LEFT_TO_DRAIN = 12.0
# On Linux the kernel ends the run, as SIGTERM does, when the worker that began it is gone.
PROGRAM = """
import ctypes, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, 15, 0, 0, 0)
from batchembed.cli import main
main(prog_name="batchembed")
"""


class BatchEmbedOperator(BaseOperator):  # type: ignore[misc] # airflow has no types here
    """Run a job in a process of its own; a retry of the task continues the same run directory.

    Args:
        job: A job file, or the tables of one as a dict. Templated.
        settings: Overrides such as `"limits.concurrency=4"`. Templated.
        out: The run directory. By default the job's own `output.path`, and where the job has
            none, `runs/<dag>/<task>/<logical date>`, with the map index for a mapped task.
            Never part of it is the number of the try. Templated.
        shard: The part of the job that this task sends, such as "3/20"; the others are other tasks,
            of a mapping for example, with the same `out`. Templated.
        merge: Publish what the shards have, and send nothing: the task after them.
        conn_id: An Airflow connection whose password is the provider's key. By default the key
            comes from where the job says, or from the worker's environment.
        cwd: The folder that relative paths are relative to. Templated.
        kwargs: What every operator takes.

    The result, for XCom, is the path of the run directory, its counts and its bill, under 1 KB.
    Exit codes 2 and 4 raise AirflowFailException, as no retry will mend them; all others but 0
    and 3 raise AirflowException, so `retries` and `retry_delay` are what they should be.
    """

    template_fields: Sequence[str] = ("job", "settings", "out", "shard", "cwd")
    ui_color = "#d7e8d4"

    def __init__(
        self,
        *,
        job: str | Mapping[str, Any],
        settings: Sequence[str] = (),
        out: str | None = None,
        shard: str | None = None,
        merge: bool = False,
        conn_id: str | None = None,
        cwd: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job = job
        self.settings = settings
        self.out = out
        self.shard = shard
        self.merge = merge
        self.conn_id = conn_id
        self.cwd = cwd
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Mapping[str, Any]) -> dict[str, Any]:
        """Run the job until it ends; return its counts and its bill."""
        with tempfile.TemporaryDirectory(prefix="batchembed-") as folder:
            try:
                job = self._read(context)
                environ = os.environ | self._key(job)
            except BatchembedError as error:
                raise AirflowFailException(str(error)) from error
            path = Path(folder) / "job.toml"
            path.write_text(job.to_toml(), "utf-8")
            with (Path(folder) / "result.json").open("w+", encoding="utf-8") as result:
                code, last = self._run(path, result, environ)
                result.seek(0)
                told = _told(result.read())
        if code not in COMPLETE:
            raise _failure(code, told, last)
        if self.shard is None:
            self.log.info("the vectors are in %s", told.get("path"))
        return {name: told[name] for name in RESULT if name in told}

    def on_kill(self) -> None:
        """Let the run drain: what is answered is kept, and a retry continues from there."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LEFT_TO_DRAIN)
        except subprocess.TimeoutExpired:
            process.kill()  # nothing that was answered is lost by it

    def _read(self, context: Mapping[str, Any]) -> Any:
        """Return the job, with its run directory."""
        from batchembed.job import from_dict, load

        if self.merge and self.shard is not None:
            raise UsageError(
                f"task {self.task_id}: shard `{self.shard}` cannot merge",
                hint="leave `shard` out of the task that merges",
            )
        if isinstance(self.job, str):
            path = Path(self.cwd or ".") / self.job
            return load(path, overrides=tuple(self.settings), out=self.out)
        tables = {name: dict(table) for name, table in self.job.items()}
        output = tables.setdefault("output", {})
        output["path"] = self.out or output.get("path")
        if output["path"] is None and (self.shard is not None or self.merge):
            raise UsageError(
                f"task {self.task_id}: shards have one run directory, and none is named",
                hint="give all of them, and the task that merges, the same `out`",
            )
        output["path"] = output["path"] or run_directory(context)
        return from_dict(tables, where=f"task {self.task_id}", overrides=tuple(self.settings))

    def _key(self, job: Any) -> dict[str, str]:
        """Return the environment variable with the key of the connection, if there is one."""
        if self.conn_id is None:
            return {}
        from batchembed.providers import info

        name = job.access.key_env or info(job.model.provider).key_variable
        if name is None:
            raise UsageError(
                f"provider `{job.model.provider}` takes no key",
                hint="leave `conn_id` out, or name a variable with `access.key_env`",
            )
        password = BaseHook.get_connection(self.conn_id).password
        if not password:
            raise UsageError(
                f"the connection `{self.conn_id}` has no password", hint="put the key there"
            )
        return {name: password}

    def _words(self, path: Path) -> list[str]:
        """Return the command that the task is."""
        if self.merge:
            return ["merge", str(path)]
        shard = [] if self.shard is None else ["--shard", str(self.shard)]
        return ["run", str(path), *shard]

    def _run(self, path: Path, result: Any, environ: Mapping[str, str]) -> tuple[int, str]:
        """Run the job, tell its lines by the task's logger, return its exit code and last line."""
        command = [sys.executable, "-c", PROGRAM, *self._words(path), "--json"]
        last = ""
        with subprocess.Popen(  # noqa: S603 - our own program, its words never pass a shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=subprocess.PIPE,
            cwd=self.cwd,
            env=dict(environ),
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            self._process = process
            for line in process.stderr or ():
                last = line.rstrip()
                say = self.log.error if last.startswith("error:") else self.log.info
                say("%s", last)
        self._process = None
        return process.returncode, last


def run_directory(context: Mapping[str, Any]) -> str:
    """Return the run directory of a task that names none: the same one for every try."""
    ti = context["ti"]
    when = context.get("logical_date")
    moment = when.strftime("%Y%m%dT%H%M%S") if when is not None else ti.run_id
    steps = [ti.dag_id, ti.task_id, moment]
    if ti.map_index is not None and ti.map_index >= 0:
        steps.append(str(ti.map_index))
    return "/".join(["runs", *(re.sub(r"[^\w.+-]", "_", step) for step in steps)])


def _told(words: str) -> dict[str, Any]:
    """Return what the run answered; nothing when it could not."""
    try:
        found = json.loads(words)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _failure(code: int, told: Mapping[str, Any], last: str) -> Exception:
    why = told.get("error") or last or "no word about why"
    hint = f" ({told['hint']})" if told.get("hint") else ""
    message = f"exit code {code}: {why}{hint}"
    kind: type[Exception] = AirflowFailException if code in FOR_A_PERSON else AirflowException
    return kind(message)
