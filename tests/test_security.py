"""What docs/security.md promises and no other suite holds: sources, terminals, supply chain."""

import ast
import importlib.util
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from fakes.commands import ROOT
from fakes.places import Place
from fakes.runs import texts, write
from packaging.version import Version

SOURCES = sorted((ROOT / "batchembed").rglob("*.py"))
FORBIDDEN = {
    "runs what it reads": r"\bpickle\b|\bdill\b|\bshelve\b|yaml\.(?:unsafe_)?load\b",
    "runs a text": r"(?<![\w.])(?:eval|exec)\(|os\.system|shell=True",
    "unpickles within": r"allow_pickle=True|\.deserialize\(|weights_only=False",
    "trusts any server": r"ssl=False|verify=False|verify_ssl|CERT_NONE|_create_unverified",
    "follows elsewhere": r"allow_redirects=True|trust_env=True",
    "a fixed name in a shared folder": r"[\"']/" + "tmp/",
}
FLOORS = {"pyarrow": "23.0.1", "aiohttp": "3.14.5", "idna": "3.7"}


def offences(name, text):
    """The lines of a source that hold what none may, comments aside."""
    found = []
    for why, pattern in FORBIDDEN.items():
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(pattern, line.partition("#")[0]):
                found.append(f"{name}:{number}: {why}: {line.strip()}")
    return found


def test_no_source_does_what_is_never_safe():
    """No pickle, no evaluation of texts, no unverified TLS, no redirects, no fixed names."""
    assert [o for path in SOURCES for o in offences(path.name, path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "x = eval(text)",
        "np.load(f, allow_pickle=True)",
        "get(url, ssl=False)",
        "get(url, allow_redirects=True)",
        "open('/" + "tmp/lock')",
        "pl.LazyFrame.deserialize(f)",
    ],
)
def test_what_is_never_safe_is_seen(line):
    """Each, planted in a source, is reported."""
    assert len(offences("planted", line)) == 1


def test_no_option_takes_a_key():
    """A key on the command line would stand in the list of processes and in histories."""
    from batchembed.cli import main

    options = {name for c in main.commands.values() for p in c.params for name in p.opts}
    assert not {name for name in options if re.search(r"key|token|secret|password", name)}


def test_no_message_is_built_from_a_request_or_its_headers():
    """aiohttp's errors show headers in their repr: only http/ may know them, by their kind."""
    for path in SOURCES:
        if path.parent.name == "http":
            continue
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        assert "aiohttp" not in names, path


NASTY = "\x1b]0;owned\x07\x1b[31mred\u202egnp.exe\x9b2J"


@pytest.mark.parametrize("argv", [("--set", "corpus.text=nothing"), ()])
def test_a_corpus_cannot_write_to_the_terminal(commands, tmp_path, argv):
    """Names of columns, ids and texts are told in errors and results, without what is obeyed."""
    job = Place(commands, tmp_path / "x", texts(8), similarity={"top_k": 1})
    ids, given = [f"{NASTY}{n}" for n in range(8)], [f"{text} {NASTY}" for text in texts(8)]
    table = pa.table({"id": ids, "text": given, NASTY: ["x"] * 8})
    write(job.corpus, table)
    said = [job.run("run", job.job, *argv, code=None)]
    if not argv:
        said += [job.run("search", "run", "river"), job.run("search", "run", "river", "--json")]
        said += [job.run("status", "run"), job.run("verify", "run")]
    for ended in said:
        assert "Traceback" not in ended.err
        for forbidden in "\x1b\x07\x9b\u202e":
            assert forbidden not in ended.out + ended.err, ended


def test_no_core_is_dumped_by_a_command():
    """It would hold the key, and the texts: their limit is 0."""
    code = (
        "import resource, sys; from batchembed.cli import main\n"
        "try: main(['providers'])\n"
        "except SystemExit: print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.endswith("(0, 0)\n"), done


def locked():
    text = (ROOT / "requirements.lock").read_text("utf-8")
    return dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text))


@pytest.mark.parametrize("name", FLOORS)
def test_pins_are_above_the_versions_with_known_holes(name):
    """Code by reading a file, bombs, keys at redirects, slow host names: mended from here on."""
    assert Version(locked()[name]) >= Version(FLOORS[name])


def audit():
    path = ROOT / "tools" / "audit.py"
    made = importlib.util.spec_from_file_location("audit", path)
    module = importlib.util.module_from_spec(made)
    made.loader.exec_module(module)
    return module


LOCK = "aiohttp==3.14.5 \\\n    --hash=sha256:00\npyarrow[x]==26.0.1 ; python_version > '3'\n"


def test_an_audit_that_reaches_nobody_says_so():
    """A skipped audit is not a clean one."""

    def nobody(_pins):
        raise OSError("no route to host")

    code, words = audit().audit(LOCK, nobody)
    assert code == 2
    assert words.startswith("NOT AUDITED")


def test_an_audit_that_misses_the_planted_pin_proves_nothing():
    """A source that knows nothing answers as politely as one that found nothing."""
    code, words = audit().audit(LOCK, lambda pins: [[] for _ in pins])
    assert (code, words[:11]) == (2, "NOT AUDITED")


@pytest.mark.parametrize("bad", [False, True])
def test_an_audit_that_knows_the_planted_pin_is_believed(bad):
    """Then 0, or 1 with the advisory of each pin that has one."""
    module = audit()

    def source(pins):
        return [
            ["X-1"] if (n, v) == module.PLANTED or (bad and n == "aiohttp") else [] for n, v in pins
        ]

    code, words = module.audit(LOCK, source)
    assert module.pins(LOCK) == [("aiohttp", "3.14.5"), ("pyarrow", "26.0.1")]
    assert code == bad
    assert ("aiohttp==3.14.5: X-1" in words) == bad
