"""Mistakes in a job file: each is named with its path, its value and what is allowed."""

import datetime as dt

import pytest

from batchembed.errors import JobError
from batchembed.job import from_dict

LEAST = {
    "corpus": {"path": "a.parquet", "text": "body"},
    "model": {"provider": "local"},
    "output": {"path": "runs/a"},
}


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
    "an instruction for no role": (
        settings(model={"provider": "aleph-alpha", "instruction": {"querry": "x"}}),
        '`model.instruction` is `{ querry = "x" }`: must be a text, or one for each role',
    ),
    "images without a model that sees": (settings(corpus={"image": "p"}), "`corpus.image` cannot"),
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
    "no way for long texts": (settings(model={"on_long_text": "cut"}), 'must be "reject"'),
    "an unknown endpoint": (
        settings(model=ALEPH | {"endpoint": "x"}),
        '`model.endpoint` is `"x"`: must be "auto", "semantic_embed"',
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
        "`model.controls[0]` is `{ factor = 1 }`: must have one of `match`, `regex` and `column`",
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
    "a wrong dtype": (settings(output={"dtype": "float64"}), 'must be "float32" or "float16"'),
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


def test_dates_in_place_of_settings_are_mistakes_like_any_other():
    """TOML has dates, settings have none."""
    assert "`corpus.id` is `2026-11-23`" in refused(settings(corpus={"id": dt.date(2026, 11, 23)}))
    assert "`08:00:00`" in refused(settings(corpus={"id": dt.time(8)}))
