"""Errors of commands without a job file name the options that a user typed, not settings."""

import re

import pytest
from test_docs import ROOT

from batchembed.cli import main
from batchembed.errors import UsageError
from batchembed.words.options import OPTIONS, in_options


def said(message, hint=None):
    error = in_options(UsageError(message, hint=hint))
    return error.message, error.hint


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("the command: `corpus.text` is missing", "`--text` is missing"),
        ("no column `x`, which `corpus.id` names", "no column `x`, which `--id` names"),
        ("the command: [model] provider `x` is not known", "`--provider` `x` is not known"),
        ("the command: [corpus] takes `text` or `template`, not both",
         "give `--text` or `--template`, not both"),
        ("set `name` under [model] to what it is called", "give `--model` to what it is called"),
        ("set `a = true` under [access] here", "give `--set access.a=true` here"),
        ("the command has 2 mistakes:\n  `model.dimensions` is `0`\n  `corpus.text` is missing",
         "the command has 2 mistakes:\n  `--dimensions` is `0`\n  `--text` is missing"),
        ("`limits.max_cost` is `x`", "`limits.max_cost` is `x`"),
        ("[other] stays", "[other] stays"),
    ],
)  # fmt: skip
def test_settings_become_options(message, told):
    """Those that have one; others stay settings, as --set takes them."""
    assert said(message)[0] == told


def test_the_hint_about_job_files_is_for_settings_alone():
    """Where only options were wrong, --help is the place to look."""
    about = "docs/job-file.md tells every setting"
    assert said("the command: `corpus.text` is missing", about)[1] == "--help tells every option"
    assert said("the command: `limits.max_costs` is unknown", about)[1] == about
    assert said("x")[1] is None


def test_the_options_are_those_of_the_command():
    """Each one exists for `embed`."""
    known = {name for option in main.commands["embed"].params for name in option.opts}
    assert set(OPTIONS.values()) <= known


DATA = ROOT / "sample_data" / "articles.csv"
TEXT = ("--text", "text", "--out", "run")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("embed", DATA, "--out", "run"), "`--text` is missing"),
        (("embed", DATA, "--text", "nope", "--out", "run"), "which `--text` names"),
        (("embed", DATA, *TEXT, "--id", "nope"), "which `--id` names"),
        (("embed", DATA, *TEXT, "--provider", "openaii"), "did you mean `openai`?"),
        (("embed", DATA, *TEXT, "--provider", "vllm"), "give `--model`"),
        (("embed", DATA, *TEXT, "--dimensions", "999"), "`--dimensions` `999`"),
        (("plan", DATA), "`--text` is missing"),
    ],
)
def test_a_command_tells_of_its_options(commands, tmp_path, argv, words):
    """No table of a job file is named where there is no job file."""
    ended = commands.run(*argv, cwd=tmp_path)
    assert ended.code == 2
    assert words in ended.err
    assert not re.search(r"corpus\.|model\.|\[corpus\]|\[model\]|the command:", ended.err)


def test_a_job_file_keeps_its_settings(commands, tmp_path):
    """`plan JOB.toml` speaks of the file."""
    (tmp_path / "job.toml").write_text('[corpus]\npath = "a.csv"\n[model]\nprovider = "local"\n')
    ended = commands.run("plan", "job.toml", cwd=tmp_path)
    assert "`corpus.text` is missing" in ended.err


@pytest.mark.parametrize(("mark", "told"), [(";", "`;`"), ("|", "`|`"), ("\t", "tabs")])
def test_another_delimiter_is_told(commands, tmp_path, mark, told):
    """As an option that works when it is copied."""
    (tmp_path / "a.csv").write_text(f"id{mark}text\n1{mark}hello there\n")
    ended = commands.run("embed", "a.csv", *TEXT, cwd=tmp_path)
    assert told in ended.err
    setting = re.search(r"--set '(.*)'", ended.err)[1]
    again = commands.run("embed", "a.csv", *TEXT, "--set", setting, cwd=tmp_path)
    assert again.code == 0, again


def test_the_columns_of_a_usual_file_are_told_as_before(commands, tmp_path):
    """A header of one word has no other delimiter."""
    (tmp_path / "a.csv").write_text("body\nhello\n")
    ended = commands.run("embed", "a.csv", *TEXT, cwd=tmp_path)
    assert "corpus.delimiter" not in ended.err


@pytest.mark.parametrize(
    "argv",
    [
        ("similarity", "a.csv", "--top-k", "3", "--out", "b.arrow"),
        ("search", "a.csv", "words"),
        ("report", "a.csv"),
        ("verify", "a.csv"),
        ("status", "a.csv"),
    ],
    ids=" ".join,
)
def test_a_corpus_in_the_place_of_a_run(commands, tmp_path, argv):
    """Is told to be a file, with the command that makes a run of it."""
    (tmp_path / "a.csv").write_text("text\nhello\n")
    ended = commands.run(*argv, cwd=tmp_path)
    assert ended.code == 2
    assert "`a.csv` is a file, not the directory of a run" in ended.err
    assert "batchembed embed a.csv --text COL --out runs/a" in ended.err


def test_one_row_has_no_pairs_and_no_text_no_code_word(commands, tmp_path):
    """Neither an empty line nor a word of the program's own."""
    (tmp_path / "a.csv").write_text("text\nhello\n")
    commands.run("embed", "a.csv", *TEXT, cwd=tmp_path)
    pairs = commands.run("pairs", "run", cwd=tmp_path)
    assert (pairs.code, pairs.out) == (0, "no pairs: fewer than two rows have a vector\n")
    search = commands.run("search", "run", cwd=tmp_path)
    assert search.code == 2
    assert "empty_text" not in search.err


def test_a_deadline_in_an_outage_tells_of_the_outage(commands, tmp_path):
    """The last reason, and not only that time is over."""
    told = ("--provider", "ollama", "--model", "m", "--base-url", "http://127.0.0.1:9")
    ended = commands.run(
        "embed", DATA, *TEXT, *told, "--set", "limits.deadline=700ms", cwd=tmp_path
    )
    assert ended.code == 75
    assert "the deadline of" in ended.err
    assert "no connection" in ended.err
