"""A provider of another package: the example of docs/adding-a-provider.md, installed and run."""

import json
import re
import sys

import pytest
from fakes import vector
from fakes.commands import ROOT
from fakes.replay import Said, replaying
from fakes.runs import output, texts

import batchembed
from batchembed.errors import JobError
from batchembed.job import from_dict
from batchembed.providers import Access, catalogue, defaults, info, known, listed
from batchembed.spec import Spec

PAGE = (ROOT / "docs" / "adding-a-provider.md").read_text("utf-8")
(MODULE,) = re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE)
POINTS = re.search(r'(?m)^\[project\.entry-points\."([\w.]+)"\]\n(\w+) = "([\w:]+)"$', PAGE)
GIVEN = texts(120)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install packages as pip would: a module, and a folder that tells of the entry point."""

    def install(module, name=POINTS[2], value=POINTS[3]):
        site = tmp_path / f"site-{len(list(tmp_path.glob('site-*')))}"
        told = site / f"{name}-1.0.dist-info"
        told.mkdir(parents=True)
        (site / f"{value.partition(':')[0]}.py").write_text(module)
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (told / "entry_points.txt").write_text(f"[{POINTS[1]}]\n{name} = {value}\n")
        monkeypatch.syspath_prepend(str(site))
        _forget()

    yield install
    monkeypatch.undo()
    _forget()
    for name in [n for n in sys.modules if n.startswith(("acme_vectors", "other_"))]:
        del sys.modules[name]


def _forget():
    catalogue._points.cache_clear()
    catalogue._offered.cache_clear()


def acme(asked):
    told = asked.json
    if asked.path != "/v2/vectors" or asked.headers["authorization"] != "Bearer a-key":
        return Said(404)
    rows = [vector(text, role=told["kind"]).astype(float).tolist() for text in told["lines"]]
    return Said(body={"vectors": rows, "billed": 7, "engine": told["engine"]})


def test_the_example_is_short_and_its_group_is_ours():
    """The title of the page is true."""
    code = [line for line in MODULE.splitlines() if line.strip()]
    assert len(code) <= 40
    assert POINTS[1] == catalogue.GROUP


def test_the_example_runs_a_job(installed, tmp_path):
    """As a user would have it: installed, named in a job, and the right vectors come out."""
    installed(MODULE)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in GIVEN))
    with replaying(acme) as server:
        model = {"provider": "acme", "name": "m", "representation": "query"}
        job = from_dict(
            {
                "corpus": {"path": str(corpus), "text": "text"},
                "model": model | {"base_url": server.url},
                "output": {"path": str(tmp_path / "run")},
                "access": {"key_env": "ACME_KEY"},
            },
            where="here",
        )
        summary = batchembed.run(job, environ={"ACME_KEY": "a-key"})
        assert [len(asked.json["lines"]) for asked in server.seen] == [50, 50, 20]
    assert (summary.sent, summary.exit_code, summary.tokens) == (120, 0, 21)
    right = [vector(text, role="asked").tolist() for text in GIVEN]
    assert output(tmp_path / "run")["embedding"].to_pylist() == right


def test_it_is_listed_checked_and_told_from_others(installed):
    """Like one of batchembed's own: what it does not take is an error, a slip names it."""
    installed(MODULE)
    assert known()[-1].name == "acme"
    (one,) = listed({"ACME_KEY": "x"}, "acme")
    assert (one.key_set, one.limits.texts_per_request) == (True, 50)
    with pytest.raises(JobError, match="dimensions `8` cannot be had from `acme`"):
        defaults(Spec("acme", "m", dimensions=8))
    with pytest.raises(JobError) as caught:
        info("acmee")
    assert caught.value.hint == "did you mean `acme`?"
    dialect = info("acme").dialect(info("acme"), defaults(Spec("acme", "m")), Access())
    assert dialect.limits.texts_per_request == 50


BROKEN = {
    "raises": ("1 / 0", "ZeroDivisionError"),
    "is none": ("X = 3", "is not a ProviderInfo"),
    "has no such name": ("", "cannot be loaded"),
}


@pytest.mark.parametrize(("module", "word"), BROKEN.values(), ids=BROKEN)
def test_a_package_that_is_broken_hurts_nobody_else(installed, module, word):
    """Its own name says what is wrong; every other provider works."""
    installed(module, "broken", "other_broken:X")
    assert info("openai").name == "openai"
    with pytest.raises(JobError, match=word) as caught:
        info("broken")
    assert "other_broken:X" in caught.value.message
    assert caught.value.hint


def test_a_name_of_ours_cannot_be_taken(installed):
    """A key for OpenAI must not go to a package that calls itself so."""
    installed(MODULE.replace('"acme"', '"openai"'), "openai", "other_openai:ACME")
    assert info("openai").base_url == "https://api.openai.com/v1"
    with pytest.raises(JobError, match="has the name of one"):
        known()
