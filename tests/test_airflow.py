"""The Airflow operator, with a stand-in for Airflow: what its exit codes mean, and how it stops.

The real Airflow runs it in tests/airflow, in the slow suite.
"""

import logging
import sys
import threading
import types
from datetime import UTC, datetime
from importlib import import_module
from typing import ClassVar

import pytest
from fakes import running
from fakes.commands import ROOT
from fakes.faults import Fault
from fakes.runs import output, settings, texts, until, write, write_job
from fakes.runs import table as table_of


class TryAgain(Exception):  # noqa: N818 - a stand-in for AirflowException
    """What Airflow retries."""


class GiveUp(TryAgain):
    """What Airflow does not retry."""


class BaseOperator:
    """The little of Airflow's own that the operator uses."""

    def __init__(self, *, task_id, **_):
        self.task_id = task_id
        self.log = logging.getLogger("task")


class BaseHook:
    """Connections by name."""

    passwords: ClassVar = {"embeddings": "a-key", "empty": None}

    @classmethod
    def get_connection(cls, name):
        return types.SimpleNamespace(password=cls.passwords[name])


@pytest.fixture
def operator(monkeypatch):
    """Make an operator: `operator(job=…)`."""
    sdk, failures = types.ModuleType("airflow.sdk"), types.ModuleType("airflow.sdk.exceptions")
    sdk.BaseOperator, sdk.BaseHook = BaseOperator, BaseHook
    failures.AirflowException, failures.AirflowFailException = TryAgain, GiveUp
    for module in (types.ModuleType("airflow"), sdk, failures):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "batchembed.airflow.operator", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = import_module("batchembed.airflow").BatchEmbedOperator
    yield lambda **told: made(task_id="embed", **told)
    sys.modules.pop("batchembed.airflow.operator", None)


def context(when=datetime(2026, 11, 25, 3, tzinfo=UTC), map_index=-1, try_number=1):
    """What Airflow gives `execute`, as far as it is looked at."""
    ti = types.SimpleNamespace(
        dag_id="nightly",
        task_id="group.embed",
        run_id="asset__2026-11-25T03:00:00+00:00",
        map_index=map_index,
        try_number=try_number,
    )
    return {"ti": ti, "logical_date": when}


def corpus(folder, count=40):
    """A corpus in `folder`."""
    return write(folder / "corpus.parquet", table_of(texts(count)))


def asked(folder, server, **more):
    """The tables of a job at the stand-in, with no place for its output."""
    tables = settings(corpus(folder), server, access__key_env="OPENAI_API_KEY", **more)
    del tables["output"]
    return tables


def test_a_job_file_runs_and_the_result_is_small(operator, tmp_path):
    """The path, the counts and the bill come back, and nothing that grows with the corpus."""
    corpus(tmp_path)
    write_job(tmp_path / "job.toml", settings("corpus.parquet"))
    made = operator(job="job.toml", cwd=str(tmp_path), settings=["model.dimensions=64"], out="here")
    told = made.execute(context())
    assert told["path"] == "here"
    assert (told["rows"], told["sent"], told["exit_code"], told["cost"]) == (40, 40, 0, 0)
    assert told["dimensions"] == 64
    assert len(str(told)) < 1000
    assert output(tmp_path / "here").num_rows == 40


def test_every_try_of_a_task_has_one_run_directory(operator, tmp_path):
    """The second try finds what the first one made: nothing is sent."""
    with running() as server:
        made = operator(job=asked(tmp_path, server), cwd=str(tmp_path), conn_id="embeddings")
        first = made.execute(context(try_number=1))
        again = made.execute(context(try_number=2))
        assert server.bill.answered == 40
    assert first["path"] == again["path"] == "runs/nightly/group.embed/20261125T030000"
    assert (first["sent"], again["sent"]) == (40, 0)


@pytest.mark.parametrize(
    ("told", "path"),
    [
        ({"map_index": 3}, "runs/nightly/group.embed/20261125T030000/3"),
        ({"map_index": 0}, "runs/nightly/group.embed/20261125T030000/0"),
        ({"when": None}, "runs/nightly/group.embed/asset__2026-11-25T03_00_00+00_00"),
    ],
)
def test_the_run_directory_is_that_of_the_task(operator, told, path):
    """Mapped tasks have one each; a run without a logical date has its own name."""
    module = sys.modules[type(operator(job={})).__module__]
    assert module.run_directory(context(**told)) == path
    assert module.run_directory(context(**told, try_number=7)) == path


def test_shards_are_tasks_and_one_that_merges(operator, tmp_path):
    """Each sends its share into the one directory; merging before its time is tried again."""
    with running() as server:
        job, cwd = asked(tmp_path, server), str(tmp_path)
        told = {"job": job, "cwd": cwd, "out": "runs/all", "conn_id": "embeddings"}
        shards = [operator(shard=f"{number}/3", **told) for number in range(3)]
        merge = operator(merge=True, job=job, cwd=cwd, out="runs/all")
        ended = [shards[n].execute(context(map_index=n)) for n in (0, 2)]
        with pytest.raises(TryAgain, match="shard 1 of 3 is not done") as early:
            merge.execute(context())
        assert not isinstance(early.value, GiveUp)
        ended.append(shards[1].execute(context(map_index=1)))
        assert sum(one["sent"] for one in ended) == 40
        assert {one["state"] for one in ended} == {"shard done"}
        whole = merge.execute(context())
        assert (whole["sent"], whole["reused"], whole["state"]) == (0, 40, "complete")
        assert server.bill.answered == 40
        assert server.bill.paid_twice == {}
    assert output(tmp_path / "runs/all").num_rows == 40


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"shard": "0/3"}, "none is named"),
        ({"merge": True}, "none is named"),
        ({"merge": True, "shard": "0/3", "out": "x"}, "cannot merge"),
        ({"shard": "3/3", "out": "x"}, "counted from 0"),
    ],
)
def test_shards_that_cannot_be_fail_for_good(operator, tmp_path, told, words):
    """Without a directory in common there would be a run for each of them."""
    made = operator(job=settings(corpus(tmp_path)) | {"output": {}}, cwd=str(tmp_path), **told)
    with pytest.raises(GiveUp, match=words):
        made.execute(context())


@pytest.mark.parametrize(("status", "code", "failure"), [(401, 4, GiveUp), (503, 75, TryAgain)])
def test_what_failed_is_tried_again_where_that_may_help(operator, tmp_path, status, code, failure):
    """A wrong key fails the task for good; an outage longer than `patience` is tried again."""
    with running(script=lambda _: Fault(status=status)) as server:
        tables = asked(tmp_path, server, limits__patience="1s")
        made = operator(job=tables, cwd=str(tmp_path), conn_id="embeddings")
        with pytest.raises(failure, match=f"exit code {code}: .*{status}") as raised:
            made.execute(context())
    assert type(raised.value) is failure
    assert "a-key" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"job": {"corpus": {"path": "x", "text": "t"}, "model": {"provider": "opneai"}}},
            "openai",
        ),
        ({"job": "missing.toml"}, "missing.toml"),
        ({"settings": ["limits.concurency=4"]}, "concurrency"),
        ({"conn_id": "empty"}, "`empty` has no password"),
    ],
)
def test_a_mistake_fails_the_task_for_good(operator, tmp_path, change, words):
    """What is wrong with the task itself is no matter of trying again."""
    with running() as server:
        told = {"job": asked(tmp_path, server), "conn_id": "embeddings"} | change
        with pytest.raises(GiveUp, match=words):
            operator(cwd=str(tmp_path), **told).execute(context())
        assert server.bill.requests == 0


def test_a_key_for_a_provider_without_keys_is_a_mistake(operator, tmp_path):
    """It would otherwise be left unused without a word."""
    tables = settings(corpus(tmp_path))
    with pytest.raises(GiveUp, match="`local` takes no key"):
        operator(job=tables, cwd=str(tmp_path), conn_id="embeddings").execute(context())


def test_a_corpus_that_is_wrong_fails_the_task_for_good(operator, tmp_path):
    """Exit code 2, as the run itself found it."""
    tables = settings("nowhere.parquet")
    with pytest.raises(GiveUp, match=r"exit code 2: .*nowhere\.parquet"):
        operator(job=tables, cwd=str(tmp_path)).execute(context())


def test_rejects_within_the_tolerance_are_success(operator, tmp_path):
    """Exit code 3 comes back as a result, with their number."""
    write(tmp_path / "corpus.parquet", table_of(["", *texts(9)]))
    tables = settings("corpus.parquet", limits__max_rejects="20%")
    told = operator(job=tables, cwd=str(tmp_path)).execute(context())
    assert (told["exit_code"], told["rejected"]) == (3, 1)


def test_on_kill_drains_and_the_next_try_continues(operator, tmp_path):
    """What was answered is kept; the next try sends the rest, and nothing is paid for twice."""
    released = threading.Event()

    def slowly(seen):
        return None if seen.number < 5 or released.is_set() else Fault(delay=0.5)

    with running(script=slowly) as server:
        limits = {"limits__texts_per_request": 1, "limits__concurrency": 2}
        made = operator(
            job=asked(tmp_path, server, **limits), cwd=str(tmp_path), conn_id="embeddings"
        )
        raised = []

        def first():
            try:
                made.execute(context())
            except TryAgain as error:
                raised.append(error)

        task = threading.Thread(target=first)
        task.start()
        until(lambda: server.bill.answered >= 5)
        made.on_kill()
        task.join(timeout=30)
        assert not task.is_alive()
        assert "exit code 143" in str(raised[0])
        assert not isinstance(raised[0], GiveUp)
        released.set()
        told = made.execute(context(try_number=2))
        assert told["reused"] >= 5
        assert server.bill.paid_twice == {}
        assert server.bill.answered == 40


def test_on_kill_without_a_run_does_nothing(operator):
    """Before the run begins, and after it has ended, there is nobody to tell."""
    operator(job={}).on_kill()


def test_lines_of_the_run_are_lines_of_the_task(operator, tmp_path, caplog):
    """What a run says on stderr is in the log of the task, errors as errors."""
    with running(script=lambda _: Fault(status=401)) as server:
        made = operator(job=asked(tmp_path, server), cwd=str(tmp_path), conn_id="embeddings")
        with caplog.at_level(logging.INFO, "task"), pytest.raises(GiveUp):
            made.execute(context())
    told = [(entry.levelname, entry.message) for entry in caplog.records]
    assert any(level == "ERROR" and "401" in words for level, words in told)
    assert any(level == "INFO" and words.startswith("hint:") for level, words in told)


def test_airflow_is_told_of_the_provider_before_it_can_be_imported():
    """Airflow asks while it reads its settings: nothing of it may be needed for the answer."""
    from batchembed.airflow import get_provider_info
    from batchembed.version import VERSION

    assert get_provider_info()["package-name"] == "batchembed"
    assert get_provider_info()["versions"] == [VERSION]


def test_a_name_that_is_not_there_is_said():
    """The lazy module has the names it says, and no others."""
    with pytest.raises(AttributeError, match="no attribute `BatchEmbedSensor`"):
        import_module("batchembed.airflow").BatchEmbedSensor  # noqa: B018
