"""A real Airflow runs the nightly DAG, and a run that dies with its worker is continued.

Airflow weighs 300 MB and lives in a venv of its own: `make airflow` makes it, or
BATCHEMBED_AIRFLOW names another folder with one.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from fakes import running
from fakes.commands import ROOT, environment
from fakes.faults import Fault
from fakes.runs import (
    digests,
    manifest,
    output,
    settings,
    table,
    texts,
    until,
    write,
    write_job,
    wrong_rows,
)

pytestmark = pytest.mark.slow
COUNT = 60
PLACED = "batchembed.airflow.operator.BatchEmbedOperator"


@pytest.fixture(scope="session")
def binaries():
    """The folder of the `airflow` command."""
    named = os.environ.get("BATCHEMBED_AIRFLOW")
    found = Path(named or ROOT / ".venv-airflow") / "bin"
    if not (found / "airflow").exists():
        pytest.skip(f"NOT TESTED: no Airflow at {found}; `make airflow` installs it")
    return found


@pytest.fixture(scope="module")
def airflow(binaries, tmp_path_factory):
    """Run the `airflow` command: `airflow("dags", "test", …)`; its DAGs are in `airflow.dags`."""
    home = tmp_path_factory.mktemp("airflow")
    told = {
        "PATH": f"{binaries}:/usr/bin:/bin",
        "HOME": str(home),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "BATCHEMBED_HOME": str(home),
        "OPENAI_API_KEY": "a-key",
    }

    def start(*words):
        with (home / "log").open("w") as log:
            return subprocess.Popen(
                [binaries / "airflow", *words],
                cwd=home,
                env=environment(told),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def call(*words):
        code = start(*words).wait(timeout=600)
        said = (home / "log").read_text()
        assert code == 0, said[-3000:]
        return said

    call.start, call.home, call.dags = start, home, home / "dags"
    call.dags.mkdir()
    (home / "sample_data").symlink_to(ROOT / "sample_data")
    call("db", "migrate")
    return call


def test_the_nightly_dag_embeds_what_is_new(airflow):
    """The first night embeds all articles there are, the next one only what came since."""
    source = ROOT / "jobs" / "nightly_dag.py"
    (airflow.dags / source.name).write_text(source.read_text("utf-8"), "utf-8")
    said = airflow("dags", "test", "nightly_embeddings", "2025-06-30")
    assert "state=success" in said
    run = airflow.home / "runs/nightly"
    first = manifest(run)["counts"]
    assert first["rows"] == first["embedded"] > 400

    day = min(row for row in _dates() if row > "2025-06-30")
    assert "state=success" in airflow("dags", "test", "nightly_embeddings", day)
    second = manifest(run)["counts"]
    assert second["rows"] == first["rows"] + _dates().count(day)
    assert second["embedded"] == _dates().count(day)
    assert second["reused"] == first["rows"]
    with pa.ipc.open_file((airflow.home / "runs/nightly-pairs.arrow").read_bytes()) as pairs:
        assert pairs.schema.names == ["left_id", "right_id", "score"]
    assert (run / "report.html").stat().st_mtime_ns > (run / "manifest.json").stat().st_mtime_ns


def _dates():
    column = pa.parquet.read_table(ROOT / "sample_data/articles.parquet")["date"]
    return [str(day) for day in column.to_pylist()]


def test_a_run_dies_with_its_worker_and_the_next_try_continues(airflow):
    """`kill -9` of all of Airflow ends the run too; afterwards nothing is paid for twice."""
    given = table(texts(COUNT))
    corpus = write(airflow.home / "corpus.parquet", given)
    hasty = False

    def slowly(seen):
        return Fault(delay=0.3) if seen.number >= 10 and not hasty else None

    with running(script=slowly) as server:
        limits = {"limits__texts_per_request": 1, "limits__concurrency": 2}
        tables = settings(corpus, server, access__key_env="OPENAI_API_KEY", **limits)
        del tables["output"]
        (airflow.dags / "killed.py").write_text(DAG_OF.format(job=json.dumps(tables)), "utf-8")
        worker = airflow.start("dags", "test", "killed", "2026-11-25")
        until(lambda: server.bill.answered >= 14, seconds=120)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(timeout=10)
        run = airflow.home / "runs/killed/embed/20261125T000000"
        until(lambda: not _writers(run), seconds=20)
        paid, hasty = server.bill.answered, True
        assert paid < COUNT

        said = airflow("dags", "test", "killed", "2026-11-25")
        assert "state=success" in said
        assert PLACED in said
        # What was in flight at that moment, two requests of one text, may have been billed.
        assert len(server.bill.paid_twice) <= 2
        assert server.bill.answered <= COUNT + 2
    assert output(run).num_rows == COUNT
    assert wrong_rows(run, given) == []


DAG_OF = """
from airflow.sdk import DAG
from batchembed.airflow import BatchEmbedOperator
import json, os
with DAG("killed", schedule=None):
    BatchEmbedOperator(task_id="embed", job=json.loads({job!r}), cwd=os.environ["AIRFLOW_HOME"])
"""


def test_mapped_shards_end_with_the_bytes_of_one_run(airflow):
    """Dynamic mapping over shards, then the task that merges: each text is paid for once."""
    given = table([*texts(COUNT), *texts(COUNT)[:9]])
    corpus = write(airflow.home / "mapped.parquet", given)
    with running() as server:
        tables = settings(corpus, server, access__key_env="OPENAI_API_KEY")
        (airflow.dags / "mapped.py").write_text(MAPPED.format(job=json.dumps(tables)), "utf-8")
        assert "state=success" in airflow("dags", "test", "mapped", "2026-11-25")
        assert server.bill.paid_twice == {}
        assert server.bill.answered == COUNT
        assert server.bill.requests >= 4, "each shard sent what is its own"
        run = airflow.home / "runs/mapped"
        assert wrong_rows(run, given) == []
        assert manifest(run)["counts"]["embedded"] == COUNT

        whole = Path(airflow.home / "whole")
        told = {"PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "a-key"}
        job = write_job(airflow.home / "whole.toml", tables | {"output": {"path": str(whole)}})
        command = [sys.executable, "-m", "batchembed", "run", job]
        subprocess.run(command, check=True, env=environment(told))
        assert digests(whole) == digests(run)


MAPPED = """
from airflow.sdk import DAG
from batchembed.airflow import BatchEmbedOperator
import json, os
told = {{"job": json.loads({job!r}), "out": "runs/mapped", "cwd": os.environ["AIRFLOW_HOME"]}}
with DAG("mapped", schedule=None):
    shards = BatchEmbedOperator.partial(task_id="shard", max_active_tis_per_dagrun=2, **told)
    merge = BatchEmbedOperator(task_id="merge", merge=True, **told)
    shards.expand(shard=[f"{{n}}/4" for n in range(4)]) >> merge
"""


def _writers(run):
    """The processes that hold a file of a run directory open."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.readlink().is_relative_to(run):
                found.add(link.parent.parent.name)
        except OSError:
            continue
    return found


def test_airflow_lists_the_provider(airflow):
    """The entry point is found, and its answer passes Airflow's own schema."""
    assert "batchembed" in airflow("providers", "list")
