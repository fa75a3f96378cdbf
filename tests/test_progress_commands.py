"""What `run` and `status` say, tried as commands: JSON for logs, silence, and why a run stopped."""

import json

import pytest
from fakes import faults, running

from batchembed.cli import running as commands_of
from batchembed.words import status_words

GIVEN = [f"text {number} of some length" for number in range(40)]


def events(ended):
    """Each line of stderr is one object."""
    return [json.loads(line) for line in ended.err.splitlines()]


def test_a_run_in_json(place):
    """Phases and the end on stderr, nothing on stdout."""
    with running() as server:
        job = place(GIVEN, server=server)
        ended = job.run("run", job.job, "--log-format", "json")
    assert ended.out == ""
    found = events(ended)
    assert [one["event"] for one in found][-1] == "end"
    assert [one["phase"] for one in found if one["event"] == "phase"][:2] == [
        "reading",
        "embedding",
    ]
    last = found[-1]
    assert (last["exit_code"], last["run"], last["level"]) == (0, "run", "info")
    assert last["tokens"] == server.bill.tokens
    assert last["requests"] == server.bill.requests


def test_data_still_goes_to_stdout(place):
    """--json is the answer, --log-format is the log."""
    with running() as server:
        job = place(GIVEN, server=server)
        ended = job.run("run", job.job, "--log-format", "json", "--json")
    assert ended.json["state"] == "complete"
    assert events(ended)[-1]["event"] == "end"


@pytest.mark.parametrize("more", [(), ("--quiet",)])
def test_every_error_of_a_run_is_one_object(place, more):
    """A wrong key, and a job file that is not there: the log can be parsed to its last line."""
    with running(key="another") as server:
        job = place(GIVEN, server=server)
        ended = job.run("run", job.job, "--log-format", "json", *more, code=4)
        last = events(ended)[-1]
        assert (last["event"], last["level"], last["exit_code"]) == ("error", "error", 4)
        assert "401" in last["message"]
        absent = job.run("run", "none.toml", "--log-format", "json", *more, code=2)
    (only,) = events(absent)
    assert "none.toml" in only["message"]
    assert only["exit_code"] == 2


def test_quiet_says_nothing_in_json_either(place):
    """On success."""
    with running() as server:
        job = place(GIVEN, server=server)
        ended = job.run("run", job.job, "--log-format", "json", "--quiet")
    assert (ended.out, ended.err) == ("", "")


def test_status_tells_why_a_run_stopped(place):
    """After an exit code of 4, that the same command alone would not mend it."""
    with running(script=lambda _: faults.out_of_money()) as server:
        job = place(GIVEN, server=server)
        ended = job.run(code=4)
        said = ended.err.splitlines()
        told = job.run("status", "run").out
    assert "stopped, exit code 4" in told
    assert said[0].removeprefix("error: ") in told
    assert said[1].removeprefix("hint: ") in told
    assert "run the same command again" not in told


def test_status_of_a_run_that_was_killed_says_to_go_on():
    """It left no word of its own."""
    told = status_words({"state": "stopped", "path": "runs/x", "progress": {"line": "embedding"}})
    assert "next          run the same command again to continue" in told


def test_watching_shows_the_line_of_a_run_until_it_ends(monkeypatch, tmp_path, capsys):
    """Where stderr is no terminal: its lines, and at last what it came to."""
    seen = iter(
        [
            {"state": "running", "path": "r", "progress": {"line": "embedding 1/2"}},
            {"state": "running", "path": "r", "progress": {"line": "embedding 2/2"}},
            {"state": "stopped", "path": "r", "progress": {}},
        ]
    )
    monkeypatch.setattr("batchembed.api.status", lambda _: next(seen))
    monkeypatch.setattr(commands_of.time, "sleep", lambda _: None)
    commands_of.status.callback(run_directory=tmp_path, watch=True, as_json=False)
    told = capsys.readouterr().out
    assert told.startswith("embedding 1/2\n")
    assert "embedding 2/2" not in told  # 30 s have not passed
    assert "r: stopped" in told


def test_watching_on_a_terminal_shows_the_bar_of_the_run(monkeypatch, tmp_path, capsys):
    """Drawn from what the run left, and wiped at the end."""
    progress = {"phase": "embedding", "done": 4210, "total": 10_000, "unit": "texts"}
    seen = iter(
        [
            {"state": "running", "path": "r", "progress": progress},
            {"state": "stopped", "path": "r", "progress": {}},
        ]
    )
    monkeypatch.setattr("batchembed.api.status", lambda _: next(seen))
    monkeypatch.setattr(commands_of.time, "sleep", lambda _: None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    commands_of.status.callback(run_directory=tmp_path, watch=True, as_json=False)
    shown = capsys.readouterr()
    assert "4,210/10,000 texts" in shown.err
    assert shown.err.endswith("\r")
    assert shown.out.startswith("r: stopped")
