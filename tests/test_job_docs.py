"""docs/job-file.md tells every setting of a job file, and nothing that is none."""

import re
import tomllib
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from batchembed.job import described, from_dict, quantities, settings, writing
from batchembed.job.mistakes import TABLES

PAGE = (Path(__file__).parent.parent / "docs" / "job-file.md").read_text("utf-8")
CLASSES = {
    "corpus": settings.Corpus,
    "model": settings.Model,
    "model.controls": settings.Control,
    "model.http": described.Http,
    "limits": settings.Limits,
    "output": settings.Output,
    "similarity": settings.Similarity,
    "price": settings.Price,
    "access": settings.Access,
    "metrics": settings.Metrics,
}


def told(table):
    """The settings that the page tells of one table, each with its default as written there."""
    section = re.search(rf"(?ms)^##+ `\[+{re.escape(table)}\]+`.*?(?=^##|\Z)", PAGE)[0]
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.*?) \|", section)
    assert len({name for name, _ in rows}) == len(rows)
    return dict(rows)


def test_every_table_has_its_section():
    """The page has one section for each table, and the tables are those that exist."""
    found = re.findall(r"(?m)^##+ `\[+([\w.]+)\]+`", PAGE)
    assert sorted(found) == sorted(CLASSES) == sorted(TABLES)


@pytest.mark.parametrize("table", CLASSES)
def test_every_setting_is_told_and_nothing_else(table):
    """A setting that is added, renamed or taken away changes the page."""
    assert told(table).keys() == {field.name for field in fields(CLASSES[table])}


def read(name, text):
    """What the program makes of a default as the page writes it."""
    value = tomllib.loads(f"value = {text}")["value"]
    if name in writing.DURATIONS:
        return quantities.seconds(value)
    if name == "max_rejects":
        return quantities.tolerance(value)
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("table", CLASSES)
def test_the_defaults_are_those_of_the_program(table):
    """A default in code style on the page is the value that the program takes."""
    for field in fields(CLASSES[table]):
        words = told(table)[field.name]
        required = field.default is MISSING and field.default_factory is MISSING
        assert ("needed" in words) >= required, field.name
        default = field.default if field.default is not MISSING else field.default_factory
        default = default() if callable(default) else default
        if found := re.fullmatch(r"`([^`]+)`", words):
            assert read(field.name, found[1]) == default or (not default and "false" in words)
            continue
        assert required or not default or field.name in {"text", "match"}, field.name


def test_the_jobs_of_the_page_are_jobs():
    """What is shown as a job file is one, and the controls that are shown are controls."""
    blocks = re.findall(r"(?ms)^```toml\n(.*?)^```", PAGE)
    whole = tomllib.loads(blocks[0])
    from_dict(whole, where="the page")
    assert sum(map(len, whole.values())) == 4, "the page says that four settings are all"
    for block in blocks[1:]:
        given = tomllib.loads(block)
        from_dict({**whole, "model": whole["model"] | given["model"]}, where="the page")
