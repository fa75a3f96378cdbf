"""Job files: every setting, every mistake and its message."""

import datetime
import json
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


def settings(**tables):
    """The least job, with tables changed; a setting that is None is taken out."""
    job = {name: dict(table) for name, table in LEAST.items()}
    for name, table in tables.items():
        job[name] = {k: v for k, v in (job.get(name, {}) | table).items() if v is not None}
    return job


def refused(given):
    """The message with which settings are refused."""
    with pytest.raises(JobError) as found:
        from_dict(given, where="job.toml")
    return found.value.message


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
        from_dict(settings(model=openai | {"prefixes": p}), where="x").spec() for p in (one, two)
    ]
    assert specs[0].prefixes == (("document", "d: "), ("query", "q: "))
    assert specs[0].fingerprint() == specs[1].fingerprint()


ALEPH = {"provider": "aleph-alpha", "name": "m"}

MISTAKES = {
    "an unknown table": ({"limit": {"max_cost": 1}}, "`limit` is unknown; did you mean `limits`?"),
    "an unknown setting": (
        settings(limits={"max_costs": 3}),
        "`limits.max_costs` is unknown; did you mean `limits.max_cost`?",
    ),
    "a setting in the wrong table": (
        settings(corpus={"top_k": 3}),
        "`corpus.top_k` is unknown; did you mean `similarity.top_k`?",
    ),
    "a setting like no other": (
        settings(output={"zzz": 3}),
        "`output.zzz` is unknown; there are: path, dtype, part_rows",
    ),
    "a setting of another life": (settings(corpus={"image": "p"}), "images are not available yet"),
    "no corpus": ({k: v for k, v in LEAST.items() if k != "corpus"}, "`corpus` is missing"),
    "no path": (settings(corpus={"path": None}), "`corpus.path` is missing"),
    "no output": (settings(output={"path": None}), "`output.path` is missing"),
    "no provider": (settings(model={"provider": None}), "`model.provider` is missing"),
    "an unknown provider": (settings(model={"provider": "aleph_alfa"}), "provider `aleph_alfa`"),
    "no text": (settings(corpus={"text": None}), "`corpus.text` is missing"),
    "text and template": (settings(corpus={"template": "{a}"}), "takes `text` or `template`"),
    "a table that is none": ({**LEAST, "limits": 3}, "`limits` is `3`: must be a table"),
    "a number for a text": (
        settings(corpus={"id": 3}),
        "`corpus.id` is `3`: must be a text in quotes",
    ),
    "an empty text": (settings(corpus={"id": ""}), '`corpus.id` is `""`: must not be empty'),
    "a path that is none": (settings(corpus={"path": []}), "`corpus.path` is `[]`: must be a file"),
    "a path with a NUL": (settings(corpus={"path": "a\0b"}), "`corpus.path` is"),
    "columns that are none": (
        settings(corpus={"keep": "title"}),
        '`corpus.keep` is `"title"`: must be "all", or a list',
    ),
    "a long delimiter": (settings(corpus={"delimiter": ";;"}), "must be one ASCII character"),
    "a wide quote": (settings(corpus={"quote": "«"}), "must be one ASCII character"),
    "an unknown role": (
        settings(model={"representation": "qury"}),
        '`model.representation` is `"qury"`: must be "symmetric", "document", "query", or',
    ),
    "a role column that is none": (
        settings(model={"representation": {"colum": "r"}}),
        '`model.representation` is `{ colum = "r" }`',
    ),
    "a prefix for no role": (
        settings(model={"prefixes": {"qury": "q: "}}),
        "`model.prefixes.qury`",
    ),
    "no dimensions": (settings(model={"dimensions": 0}), "`model.dimensions` is `0`: must be 1 or"),
    "half a dimension": (settings(model={"dimensions": 1.5}), "must be a whole number"),
    "a flag that is none": (settings(model={"normalize": 1}), "must be true or false"),
    "truncation": (
        settings(model={"on_long_text": "truncate"}),
        '`model.on_long_text` is `"truncate"`: is not available yet; so far only "reject"',
    ),
    "no way for long texts": (settings(model={"on_long_text": "cut"}), 'must be "reject"'),
    "an unknown endpoint": (
        settings(model=ALEPH | {"endpoint": "x"}),
        "`model.endpoint` is `\"x\"`: must be 'auto', 'semantic_embed'",
    ),
    "an unknown pooling": (settings(model={"pooling": ["men"]}), "`model.pooling[0]` is"),
    "a layer that is none": (settings(model={"layers": ["top"]}), "`model.layers[0]` is"),
    "a dimension that the model has not": (
        settings(model=ALEPH | {"dimensions": 64}),
        "[model] dimensions `64`",
    ),
    "an address that is none": (
        settings(model={"provider": "openai", "base_url": "ftp://x"}),
        "[model] base_url `ftp://x`",
    ),
    "an open address": (
        settings(model={"provider": "openai", "base_url": "http://10.0.0.3:8080"}),
        "unencrypted",
    ),
    "a control without a pattern": (
        settings(model={"controls": [{"factor": 1}]}),
        "`model.controls[0]` is `{ factor = 1 }`: must have either `match` or `regex`",
    ),
    "a control without a factor": (
        settings(model={"controls": [{"match": "a"}]}),
        "`model.controls[0].factor` is missing",
    ),
    "a control with a wrong factor": (
        settings(model={"controls": [{"match": "a", "factor": -1}]}),
        "`model.controls[0].factor` is `-1`: must be 0 or more",
    ),
    "a control that cannot be read": (
        settings(model={"controls": [{"regex": "(", "factor": 1}]}),
        "cannot be read: missing ), unterminated subpattern",
    ),
    "controls without a model that knows them": (
        settings(model={"provider": "openai", "controls": [{"match": "a", "factor": 2}]}),
        "attention controls cannot be had from `openai`",
    ),
    "two places to host": (
        settings(model=ALEPH | {"hosting": "a"}, access={"hosting": "b"}),
        "`model.hosting` and `access.hosting` differ",
    ),
    "a rate of nothing": (
        settings(limits={"requests_per_minute": 0}),
        "`limits.requests_per_minute` is `0`: must be more than 0",
    ),
    "an infinite rate": (settings(limits={"tokens_per_minute": float("inf")}), "must be a number"),
    "a cost below nothing": (
        settings(limits={"max_cost": -1}),
        "`limits.max_cost` is `-1`: must be 0 or more",
    ),
    "a cost in words": (
        settings(limits={"max_cost": "25 EUR"}),
        '`limits.max_cost` is `"25 EUR"`: must be a number',
    ),
    "a cost that is not a number": (settings(limits={"max_cost": float("nan")}), "not nan"),
    "no concurrency": (
        settings(limits={"concurrency": 0}),
        '`limits.concurrency` is `0`: must be "auto" or a number of requests',
    ),
    "a flag for a number": (settings(limits={"concurrency": True}), "`limits.concurrency` is"),
    "a duration without a unit": (
        settings(limits={"deadline": 90}),
        '`limits.deadline` is `90`: must be a duration with its unit, such as "90s"',
    ),
    "no duration": (settings(limits={"patience": "0s"}), "longer than nothing"),
    "rejects below nothing": (settings(limits={"max_rejects": -1}), "`limits.max_rejects` is `-1`"),
    "more rejects than rows": (settings(limits={"max_rejects": "101%"}), "must be a count"),
    "rejects as a share": (settings(limits={"max_rejects": 0.01}), "must be a count"),
    "a wrong dtype": (settings(output={"dtype": "float64"}), "must be 'float32' or 'float16'"),
    "parts without rows": (settings(output={"part_rows": 0}), "must be 1 or more"),
    "no way to compare": ({**LEAST, "similarity": {}}, "[similarity] takes one of `top_k`"),
    "two ways to compare": (
        {**LEAST, "similarity": {"top_k": 3, "dense": True}},
        "[similarity] takes one of `top_k`",
    ),
    "a cosine above one": (
        {**LEAST, "similarity": {"min_score": 1.5}},
        "`similarity.min_score` is `1.5`: a cosine lies between -1 and 1",
    ),
    "two places of a key": (
        settings(access={"key_env": "A", "key_file": "b"}),
        "[access] takes only one of",
    ),
    "a variable that is none": (
        settings(access={"key_env": "MY TOKEN"}),
        "`access.key_env` must be the name of an environment variable",
    ),
    "a command that is none": (settings(access={"key_command": "pass 'x"}), "`access.key_command`"),
}


@pytest.mark.parametrize(("given", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_path_its_value_and_what_is_allowed(given, says):
    """Each mistake has its own line."""
    assert says in refused(given)


def test_all_mistakes_are_listed_at_once():
    """A job with four mistakes in four tables is refused once, with four lines."""
    message = refused(
        settings(
            corpus={"id": 3},
            model={"dimensions": -1},
            limits={"deadline": "soon"},
            similarity={"top_k": 0},
        )
    )
    assert message.startswith("job.toml has 4 mistakes:")
    for path in ("corpus.id", "model.dimensions", "limits.deadline", "similarity.top_k"):
        assert f"\n  `{path}` is" in message


def test_a_misspelt_name_is_one_mistake_and_not_two():
    """What a misspelt setting was meant to give is not said to be missing as well."""
    message = refused(settings(corpus={"text": None, "txt": "body"}))
    assert message == "job.toml: `corpus.txt` is unknown; did you mean `corpus.text`?"
    misspelt = {**LEAST, "outptu": LEAST["output"]}
    del misspelt["output"]
    assert refused(misspelt) == "job.toml: `outptu` is unknown; did you mean `output`?"


def test_long_and_unprintable_values_are_shown_in_one_short_line():
    """A value of a thousand characters and an escape sequence cannot fill or fool a terminal."""
    message = refused(
        settings(model={"provider": "local", "representation": "\x1b[2J" + "x" * 999})
    )
    assert message.isprintable()
    assert len(message) < 250


def test_a_job_that_is_no_table_is_refused():
    """A list in place of a job is a JobError like any other."""
    assert refused([LEAST]) == "job.toml: a job is a table of tables, not a list"


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


def test_dates_in_place_of_settings_are_mistakes_like_any_other(written):
    """TOML has dates, settings have none."""
    with pytest.raises(JobError, match=r"`corpus.id` is `2026-11-23`"):
        load(written(FULL.replace('id = "number"', "id = 2026-11-23")))
    assert "`2026-11-23T08:00:00`" in refused(
        settings(corpus={"id": datetime.datetime(2026, 11, 23, 8)})
    )


def test_the_schema_for_editors_is_current():
    """docs/job.schema.json is what this version checks; rewrite it by running this file."""
    told = json.loads((ROOT / "docs" / "job.schema.json").read_text("utf-8"))
    assert told == json.loads(schema_text())


def schema_text():
    return json.dumps(jobs.schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    (ROOT / "docs" / "job.schema.json").write_text(schema_text(), "utf-8")
