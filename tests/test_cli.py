"""The command line as people and scripts meet it."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from fakes import running, vector
from fakes.commands import ROOT, as_users_do, environment
from fakes.runs import texts

import batchembed.run  # noqa: F401 - so that it can be replaced
from batchembed.cli import main
from batchembed.errors import UsageError

COMMANDS = (
    *("init", "run", "embed", "plan", "status", "verify", "similarity", "rethreshold", "search"),
    *("pairs", "clusters", "neighbors", "report", "providers", "merge", "limiter"),
)
COLOUR = "\x1b["
SLOW = {"polars", "pyarrow", "numpy", "aiohttp", "pydantic", "tqdm", "tokenizers", "orjson"}
GIVEN = texts(30)


@pytest.fixture
def done(place, server):
    """A finished run with a comparison, in the folder of its job."""
    job = place([*GIVEN, ""], server=server, limits__max_rejects=1, similarity={"top_k": 2})
    job.run(code=3)
    return job


def test_the_list_of_commands_is_that_of_the_contract(commands, tmp_path):
    """Each command is there, with one line about it."""
    told = commands.run("--help", cwd=tmp_path).out
    found = re.findall(r"(?m)^  (\w+) {2,}\S", told.split("Commands:")[1])
    assert sorted(found) == sorted(COMMANDS)
    assert "Start here:\n" in told
    assert "\\b" not in told


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example_that_parses(commands, tmp_path, command):
    """Each --help ends its words with an example; what it calls exists, down to the options."""
    told = commands.run(command, "--help", cwd=tmp_path).out
    example = re.search(r"(?m)^  Example: (batchembed .*)$", told)
    assert example, told
    assert "\\b" not in told
    words = example[1].split()
    assert words[1] == command
    for option in (word for word in words if word.startswith("--")):
        if option != "--set" or command == "run":
            assert option in told


def test_help_starts_without_the_slow_libraries():
    """Help, and a mistake in the command, cost no import of what is slow to import."""
    code = (
        "import sys\nfrom batchembed.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "print('|'.join(sys.modules), file=sys.stderr)"
    )
    for argv in (["--help"], ["run", "--help"], ["run", "--nonsense"], ["--version"]):
        command = [sys.executable, "-c", code, *argv]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment()
        )
        modules = set(done.stderr.splitlines()[-1].split("|"))
        assert "click" in modules
        assert modules & SLOW == set()


@pytest.mark.parametrize(
    "argv",
    [
        ("--nonsense",),
        ("rnu", "job.toml"),
        ("run",),
        ("run", "job.toml", "--nonsense"),
        ("run", "there-is-none.toml"),
        ("embed", "corpus.csv"),
        ("verify", "run", "--sample", "many"),
        ("similarity", "run"),
        ("search", "there-is-none", "words"),
        ("status", "there-is-none"),
        ("similarity", "there-is-none", "--out", "x.arrow", "--top-k", "3"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_ends_with_2(commands, tmp_path, argv):
    """What cannot be understood ends with 2, words on stderr, nothing on stdout or disk."""
    ended = commands.run(*argv, cwd=tmp_path)
    assert ended.code == 2
    assert ended.out == ""
    assert "rror:" in ended.err
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_object_on_stdout_and_nothing_else(done):
    """With --json, every command that answers with data prints one JSON value, and no more."""
    calls = [
        ("run", done.job, "--json"),
        ("plan", done.job, "--json"),
        ("status", "run", "--json"),
        ("verify", "run", "--json"),
        ("similarity", "run", "--out", "near.arrow", "--top-k", "2", "--json"),
        ("search", "run", "some words", "--json"),
        ("providers", "--json"),
    ]
    for argv in calls:
        ended = done.run(*argv, code=None)
        assert ended.code == (3 if argv[0] == "run" else 0), ended
        assert isinstance(json.loads(ended.out), dict | list), argv
        assert ended.err == "", argv


def test_embed_writes_the_job_that_it_ran(place, server):
    """`embed` needs no job file, and RUN/job.toml gives the same run again."""
    job = place(GIVEN, server=server)
    argv = ("embed", job.corpus, "--text", "text", "--id", "id", "--provider", "openai")
    model = ("--model", "fake-model", "--base-url", server.openai_url)
    summary = job.run(*argv, *model, "--out", "run", "--json").json
    assert (summary["rows"], summary["sent"]) == (30, 30)
    assert job.wrong() == []
    again = job.run("run", "run/job.toml", "--json").json
    assert (again["sent"], again["reused"]) == (0, 30)


def test_quiet_prints_nothing_on_success(place, server):
    """--quiet is for cron: no output, no mail."""
    job = place(GIVEN, server=server)
    ended = job.run("run", job.job, "--quiet")
    assert (ended.out, ended.err) == ("", "")
    job.fill([*GIVEN, "POISON"] * 2)
    ended = job.run("run", job.job, "--quiet", code=4)
    assert "error:" in ended.err


def test_no_colour_away_from_a_terminal(done):
    """What goes into a file or a pipe has no colours, whatever happened."""
    for argv in (("run", done.job), ("verify", "run"), ("run", "none.toml"), ("providers",)):
        ended = done.run(*argv, code=None)
        assert COLOUR not in ended.out + ended.err


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal_errors_are_red_unless_no_color(commands, tmp_path, env, coloured):
    """NO_COLOR is obeyed on a terminal too."""
    ended = commands.run("run", "none.toml", cwd=tmp_path, env=env, twists=[["terminal"]])
    assert (COLOUR in ended.err) == coloured
    assert "none.toml" in ended.err


def test_plan_sends_and_writes_nothing(place, server):
    """`plan` tells what would be sent, and leaves no trace at server or disk."""
    job = place([*GIVEN, *GIVEN[:10], ""], server=server, limits__texts_per_request=8)
    before = sorted(job.folder.rglob("*"))
    told = job.run("plan", job.job, "--json").json
    assert (told["rows"], told["distinct"], told["to_send"], told["requests"]) == (41, 30, 30, 4)
    assert told["unsendable"] == {"empty_text": 1}
    assert sorted(job.folder.rglob("*")) == before
    assert server.bill.requests == 0
    job.run("run", job.job, "--set", "limits.max_rejects=1", code=3)
    again = job.run("plan", job.job, "--json").json
    assert (again["paid"], again["to_send"]) == (30, 0)
    assert "nothing was sent" in job.run("plan", job.job).out


def test_search_finds_the_text_itself(done):
    """The row whose text is searched for comes first, with a score of 1."""
    for wanted in (GIVEN[3], GIVEN[29]):
        hits = done.run("search", "run", wanted, "--top-k", "3", "--json").json
        assert hits[0]["columns"]["text"] == wanted
        assert hits[0]["score"] == pytest.approx(1, abs=1e-4)
        assert len(hits) == 3
        assert hits[0]["id"] in done.run("search", "run", wanted, "--top-k", "1").out
    second = hits[1]["columns"]["text"]
    assert hits[1]["score"] == pytest.approx(float(vector(wanted) @ vector(second)), abs=1e-4)


def test_search_gives_up_when_the_server_is_down(place):
    """A person waits for the answer: what a run may wait for is too long here."""
    with running() as server:
        job = place(GIVEN, server=server, limits__patience="300ms")
        job.run()
    ended = job.run("search", "run", "words", code=75)
    assert "again" in ended.err
    job.run("verify", "run")


@pytest.mark.slow
def test_search_gives_up_within_half_a_minute(place):
    """However patient the job is."""
    with running() as server:
        job = place(GIVEN, server=server, limits__patience="6h")
        job.run()
    job.run("search", "run", "words", code=75)


def test_verify_embeds_rows_again(done, server):
    """--sample sends so many texts, each alone, and compares."""
    before = server.bill.requests
    told = done.run("verify", "run", "--sample", "5", "--json").json
    assert server.bill.requests == before + 5
    assert told["problems"] == []
    assert told["cosine_least"] > 0.999


def test_status_of_a_finished_run(done):
    """`status` says complete, with rows and bill."""
    told = done.run("status", "run", "--json").json
    assert (told["state"], told["counts"]["rows"]) == ("complete", 31)
    assert told["bill"]["texts"] == 30
    assert "complete" in done.run("status", "run", "--watch").out


def test_python_dash_m_is_the_same_program(tmp_path):
    """`python -m batchembed` is the command, from a cold start."""
    ended = as_users_do("--version", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("batchembed, version ")
    assert as_users_do("providers", cwd=tmp_path).out.startswith("provider ")


@pytest.mark.parametrize(
    "argv",
    [
        ("run", "none.toml"),
        ("embed", "none.csv", "--text", "text", "--out", "run"),
        ("plan", "none.toml"),
        ("status", "none"),
        ("verify", "none"),
        ("search", "none", " "),
        ("status", "a-file"),
    ],
    ids=" ".join,
)
def test_with_json_every_mistake_is_one_object(commands, tmp_path, argv):
    """Scripts read error, hint and exit code from stdout; people read words on stderr."""
    (tmp_path / "a-file").write_text("x")
    ended = commands.run(*argv, "--json", cwd=tmp_path)
    assert ended.code == 2
    assert set(ended.json) >= {"error", "hint", "exit_code"}
    assert ended.json["exit_code"] == 2
    assert ended.json["error"] in ended.err


@pytest.mark.parametrize(
    "argv",
    [
        ("similarity", "run", "--top-k", "2", "--out", "/proc/x.arrow"),
        ("similarity", "run", "--top-k", "2", "--out", "run"),
        ("status", "corpus.parquet"),
        ("verify", "corpus.parquet"),
        ("search", "corpus.parquet", "words"),
        ("plan", "job.toml", "--out", "corpus.parquet"),
        ("status", "x" * 300),
    ],
    ids=" ".join,
)
def test_a_path_of_the_wrong_kind_is_a_mistake_in_the_command(done, argv):
    """Not a traceback: exit code 2, and the path in backticks."""
    ended = done.run(*argv, code=2)
    assert "Traceback" not in ended.err
    assert f"`{argv[-1]}" in ended.err or f"`{argv[1]}" in ended.err
    assert "hint:" in ended.err


def test_search_answers_in_json_whatever_the_columns_hold(place, server):
    """Times, decimals, bytes, and numbers that are none."""
    job = place(GIVEN[:1], server=server)
    more = {
        "when": pa.array([datetime(2024, 5, 6, tzinfo=UTC)]),
        "price": pa.array([Decimal("1.10")]),
        "raw": pa.array([b"\xff"]),
        "not": pa.array([[float("nan")]]),
    }
    for name, column in more.items():
        job.table = job.table.append_column(name, column)
    pq.write_table(job.table, job.corpus)
    job.run()
    told = job.run("search", "run", GIVEN[0], "--json")
    assert "NaN" not in told.out
    columns = told.json[0]["columns"]
    assert columns["when"].startswith("2024-05-06T")
    assert (columns["price"], columns["raw"], columns["not"]) == ("1.10", "/w==", [None])


def test_a_run_that_has_let_go_writes_nothing(place, monkeypatch):
    """What it came to is told, but the directory may be another run's by then."""
    told = []

    def fail(_job, monitor, **_):
        monitor.keep = told.append
        raise UsageError("no")

    monkeypatch.setattr(sys.modules["batchembed.run"], "run", fail)
    job = place(GIVEN)
    ended = CliRunner().invoke(main, ["run", str(job.job), "--quiet"])
    assert (ended.exit_code, told) == (2, [])
