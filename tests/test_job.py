"""Job files: every setting, overrides, and being written and loaded again."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from batchembed import job as jobs
from batchembed.controls import Pattern
from batchembed.errors import JobError
from batchembed.job import RoleColumn, from_dict, load

ROOT = Path(__file__).parent.parent

LEAST = {
    "corpus": {"path": "a.parquet", "text": "body"},
    "model": {"provider": "local"},
    "output": {"path": "runs/a"},
}

FULL = """
[corpus]
path = ["a.parquet", "more/*.parquet"]
template = "{title}\\n\\n{body}"
id = "number"
keep = ["title", "year"]
controls = "spans"
encoding = "latin-1"
delimiter = ";"
quote = ""

[model]
provider = "aleph-alpha"
name = "luminous-base"
representation = { column = "role" }
dimensions = 128
normalize = false
base_url = "https://inference.example/v1/"
on_long_text = "reject"
endpoint = "semantic_embed"
contextual_control_threshold = 0.5
control_log_additive = false
nice = true
hosting = "aleph-alpha"

[[model.controls]]
match = "play"
factor = 7

[[model.controls]]
regex = '(?i)\\btv\\b'
factor = 0.5

[limits]
requests_per_minute = 600
tokens_per_minute = 1_000_000
concurrency = 8
texts_per_request = 64
tokens_per_request = 8192
max_cost = 25
deadline = "4h"
patience = "1d"
max_rejects = "0.5%"

[output]
path = "runs/articles"
dtype = "float16"
part_rows = 50_000

[similarity]
top_k = 10
metric = "dot"
dtype = "float16"
against = "runs/documents"
force = true

[access]
key_env = "MY_TOKEN"
timeout = "90s"
allow_insecure_http = true
tags = ["nightly"]
device = "cpu"
"""


@pytest.fixture
def written(tmp_path):
    def write(text, name="job.toml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_every_setting_arrives(written):
    """A job file that sets everything gives a job with everything in its place."""
    job = load(written(FULL))
    assert (job.table.path, job.table.template) == (
        ("a.parquet", "more/*.parquet"),
        "{title}\n\n{body}",
    )
    assert (job.table.id, job.table.keep, job.table.controls) == (
        "number",
        ("title", "year"),
        "spans",
    )
    assert (job.table.encoding, job.table.delimiter, job.table.quote) == ("latin-1", ";", "")
    assert job.role == RoleColumn("role")
    assert job.patterns == (
        Pattern(match="play", factor=7),
        Pattern(regex=r"(?i)\btv\b", factor=0.5),
    )
    limits = job.limits
    assert (limits.requests_per_minute, limits.tokens_per_minute) == (600, 1_000_000)
    assert (limits.concurrency, limits.texts_per_request, limits.tokens_per_request) == (
        8,
        64,
        8192,
    )
    assert (limits.max_cost, limits.deadline, limits.patience) == (25, 14_400, 86_400)
    assert limits.max_rejects.rows(1000) == 5
    assert (job.output.path, job.output.dtype, job.output.part_rows) == (
        "runs/articles",
        "float16",
        50_000,
    )
    similarity = job.similarity
    assert (similarity.top_k, similarity.metric, similarity.dtype) == (10, "dot", "float16")
    assert (similarity.against, similarity.force) == ("runs/documents", True)
    access = job.access
    assert (access.key_env, access.timeout, access.tags) == ("MY_TOKEN", 90, ("nightly",))
    assert (access.allow_insecure_http, access.device) == (True, "cpu")


def test_what_changes_the_vector_is_in_the_spec_and_nothing_else(written):
    """The spec has the model's settings; `nice` and `hosting` go to the access instead."""
    job = load(written(FULL))
    spec = job.spec()
    assert (spec.provider, spec.name, spec.dimensions) == ("aleph-alpha", "luminous-base", 128)
    assert (spec.normalize, spec.endpoint) == (False, "semantic_embed")
    assert spec.base_url == "https://inference.example/v1"
    assert (spec.contextual_control_threshold, spec.control_log_additive) == (0.5, False)
    assert (job.access.nice, job.access.hosting) == (True, "aleph-alpha")
    assert not hasattr(spec, "nice")
    other = replace(job, access=replace(job.access, nice=False), limits=jobs.Limits())
    assert other.spec().fingerprint() == spec.fingerprint()


def test_the_least_job_has_the_documented_defaults():
    """What is not said has the default that docs/job-file.md tells."""
    job = from_dict(LEAST, where="job.toml")
    assert (job.table.keep, job.table.encoding, job.table.quote) == ("all", "utf-8", '"')
    assert (job.role, job.patterns, job.model.normalize) == ("symmetric", (), True)
    assert (job.limits.concurrency, job.limits.patience) == ("auto", 6 * 3600)
    assert job.limits.max_rejects.rows(100) == 1
    assert (job.limits.max_cost, job.limits.deadline) == (None, None)
    assert (job.output.dtype, job.output.part_rows) == ("float32", 100_000)
    assert job.similarity is None
    assert (job.access.timeout, job.access.nice) == (300, False)


def test_a_job_without_a_model_name_has_the_providers_own():
    """The name is written into the job, so that a rerun asks the same model."""
    job = from_dict(LEAST, where="job.toml")
    assert job.model.name == job.spec().name != ""
    assert f'name = "{job.model.name}"' in job.to_toml()


def test_the_corpus_settings_are_those_of_the_corpus_reader(written):
    """Each setting of [corpus], and the column of roles, reaches the reader of the corpus."""
    corpus = load(written(FULL)).corpus
    assert corpus.path == ("a.parquet", "more/*.parquet")
    assert (corpus.text, corpus.template) == (None, "{title}\n\n{body}")
    assert (corpus.id, corpus.keep, corpus.controls) == ("number", ("title", "year"), "spans")
    assert (corpus.role, corpus.encoding, corpus.delimiter) == ("role", "latin-1", ";")
    assert corpus.quote == ""
    least = from_dict(LEAST, where="job.toml").corpus
    assert (least.path, least.text, least.keep, least.role) == (("a.parquet",), "body", None, None)


def test_prefixes_reach_the_spec_in_one_order():
    """Prefixes are part of the spec, whatever order they are written in; empty ones are not."""
    openai = {"provider": "openai", "name": "m", "base_url": "http://localhost:8080/v1"}
    one = {"query": "q: ", "document": "d: ", "symmetric": ""}
    two = {"document": "d: ", "query": "q: "}
    specs = [
        from_dict(LEAST | {"model": openai | {"prefixes": p}}, where="x").spec() for p in (one, two)
    ]
    assert specs[0].prefixes == (("document", "d: "), ("query", "q: "))
    assert specs[0].fingerprint() == specs[1].fingerprint()


def test_a_setting_that_is_none_in_python_is_not_set():
    """Python callers may pass None for what they do not set."""
    given = {**LEAST, "similarity": None, "limits": {"deadline": None, "max_cost": None}}
    assert from_dict(given, where="x") == from_dict(LEAST, where="x")


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("limits.max_cost=5", "limits.max_cost", 5),
        ("limits.max_cost = 5.5", "limits.max_cost", 5.5),
        ("limits.requests_per_minute=1_000", "limits.requests_per_minute", 1000),
        ("limits.deadline=90s", "limits.deadline", 90),
        ('limits.deadline="1h30m"', "limits.deadline", 5400),
        ("limits.concurrency=auto", "limits.concurrency", "auto"),
        ("corpus.path=data/a=b.parquet", "table.path", ("data/a=b.parquet",)),
        ('corpus.path=["a.csv", "b.csv"]', "table.path", ("a.csv", "b.csv")),
        ("corpus.keep=[]", "table.keep", ()),
        ("output.path=2026-11-23", "output.path", "2026-11-23"),
        ("output.path=08:30:00", "output.path", "08:30:00"),
        ("output.path=runs/ä b", "output.path", "runs/ä b"),
        ("model.normalize=true", "model.normalize", True),
        ("similarity.top_k=3", "similarity.top_k", 3),
        ('model.representation={column="r"}', "model.representation", RoleColumn("r")),
        ("model.representation.column=r", "model.representation", RoleColumn("r")),
    ],
)
def test_an_override_is_read_as_toml_and_a_bare_word_as_a_text(written, override, path, value):
    """`--set` takes TOML values; what TOML has no value for, and dates, are texts."""
    text = jobs.from_dict(LEAST, where="x").to_toml()
    text = text.replace('representation = "symmetric"\n', "")
    found = load(written(text), overrides=[override])
    for step in path.split("."):
        found = getattr(found, step)
    assert found == value


@pytest.mark.parametrize(
    "override",
    ["", "limits", "max_cost=3", "limits.=3", "=3", ".a=3", "a..b=3", "corpus.path.x=1",
     "model.controls.0.factor=2", 'corpus.text="a', "corpus.keep=[1", "model.representation={"],
)  # fmt: skip
def test_an_override_that_cannot_be_one_is_refused(written, override):
    """Half a quote, no table, or a table where a value stands: refused with the name alone."""
    job = {**LEAST, "model": {"provider": "local", "controls": [{"match": "a", "factor": 2}]}}
    with pytest.raises(JobError, match=r"--set|not a table"):
        load(written(from_dict(job, where="x").to_toml()), overrides=[override])


def test_an_override_cannot_smuggle_in_a_second_setting(written):
    """A line break in a value is part of a text, not the start of another setting."""
    path = written(from_dict(LEAST, where="x").to_toml())
    job = load(path, overrides=["corpus.text=1\nextra = 2"])
    assert job.table.text == "1\nextra = 2"


def test_overrides_of_a_dict_leave_the_callers_dict_alone():
    """Python callers may run one dict several times, changed each time."""
    given = {name: dict(table) for name, table in LEAST.items()}
    job = from_dict(given, where="x", overrides=["corpus.text=title", "limits.max_cost=2"])
    assert (job.table.text, job.limits.max_cost) == ("title", 2)
    assert given == LEAST


def test_later_overrides_win_and_out_wins_over_all(written):
    """Overrides apply in order; --out stands for the run directory whatever else is said."""
    path = written(from_dict(LEAST, where="x").to_toml())
    job = load(path, overrides=["output.path=one", "output.path=two", "limits.max_cost=1"])
    assert (job.output.path, job.limits.max_cost) == ("two", 1)
    assert load(path, overrides=["output.path=one"], out="three").output.path == "three"


def test_out_stands_in_for_a_missing_output_table(written):
    """A job file without [output] can be run with --out, and is incomplete without."""
    text = '[corpus]\npath = "a.csv"\ntext = "t"\n[model]\nprovider = "local"\n'
    assert load(written(text), out="runs/x").output.path == "runs/x"
    with pytest.raises(JobError, match="`output` is missing"):
        load(written(text))


def test_the_environment_is_not_looked_at(written, monkeypatch):
    """A job is what its file and the overrides say, and `$HOME` in a path is no variable."""
    monkeypatch.setenv("BATCHEMBED_LIMITS_MAX_COST", "1")
    text = '[corpus]\npath = "$HOME/a.csv"\ntext = "t"\n[model]\nprovider = "local"\n'
    job = load(written(text), out="x")
    assert (job.table.path, job.limits.max_cost) == (("$HOME/a.csv",), None)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[corpus\n", "is not TOML"),
        ("a = 1\na = 2", "is not TOML"),
        (b"\xff\xfe", "is not UTF-8"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("a = 1" + "0" * 5000, "is not TOML"),
        ("", "`corpus` is missing"),
    ],
)
def test_a_file_that_is_no_job_is_refused(written, content, says):
    """Broken TOML, another encoding, absurd nesting and nothing at all are JobErrors."""
    with pytest.raises(JobError, match=says):
        load(written(content))


def test_a_job_file_may_begin_with_a_byte_order_mark(written):
    """Windows editors write one; it is no mistake of the user's."""
    text = from_dict(LEAST, where="x").to_toml()
    assert load(written(b"\xef\xbb\xbf" + text.encode())) == from_dict(LEAST, where="x")


def test_a_missing_file_names_the_nearest_one(written, tmp_path):
    """A misspelt path is answered with what lies there."""
    written(FULL, "quickstart.toml")
    with pytest.raises(JobError, match=r"did you mean .*quickstart\.toml") as found:
        load(tmp_path / "quikstart.toml")
    assert found.value.exit_code == 2
    with pytest.raises(JobError, match="there is no job file"):
        load(tmp_path / "other" / "x.toml")
    with pytest.raises(JobError, match="cannot be read"):
        load(tmp_path)


def test_what_is_written_can_be_run_again(written):
    """A job survives being written and loaded, and is written the same each time."""
    job = load(written(FULL))
    text = job.to_toml()
    again = load(written(text, "again.toml"))
    assert again == job
    assert again.to_toml() == text
    assert again.spec().fingerprint() == job.spec().fingerprint()


def test_loading_a_job_does_not_wait_for_slow_libraries():
    """A wrong job file is refused at once: nothing that reads tables or networks is imported."""
    code = "import sys, batchembed.job; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert not {"polars", "pyarrow", "aiohttp", "tokenizers", "tqdm"} & set(done.stdout.split())


def test_the_schema_for_editors_is_current():
    """docs/job.schema.json is what this version checks; rewrite it by running this file."""
    told = json.loads((ROOT / "docs" / "job.schema.json").read_text("utf-8"))
    assert told == json.loads(schema_text())


def schema_text():
    return json.dumps(jobs.schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "job.schema.json").write_text(schema_text(), "utf-8")
