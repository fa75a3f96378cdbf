"""The documentation is true: commands, options, settings, exit codes, links, layout."""

import contextlib
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
from fakes.commands import environment
from test_layers import LEVELS

from batchembed import errors
from batchembed.cli import main
from batchembed.job import settings

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text("utf-8")
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
}
README = PAGES["README.md"]
TABLES = {
    "corpus": settings.Corpus,
    "model": settings.Model,
    "limits": settings.Limits,
    "output": settings.Output,
    "similarity": settings.Similarity,
    "access": settings.Access,
    "metrics": settings.Metrics,
}
SHELLS = {"console", "sh", "crontab"}
COMING = {ROOT / "docs" / "benchmarks.md"}  # linked to before it is written


def blocks(text):
    """The fenced blocks of a page: (language, content)."""
    return re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text)


def inline(text):
    """The pieces of a page in code style, outside of fenced blocks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"(?ms)^```.*?^```$", "", text))


# -- commands --------------------------------------------------------------------------------------


def shell_lines(text):
    """Every `batchembed …` that a page shows, up to the next shell operator."""
    shown = [*inline(text)]
    for language, content in blocks(text):
        if language in SHELLS:
            shown += [line.removeprefix("$ ") for line in content.splitlines()]
        elif language == "python":
            shown += re.findall(r'bash_command="([^"]*)"', content)
    for line in shown:
        if found := re.search(r"(?:^|&& )(batchembed (?!\W?$).*)", line):
            yield re.split(r" (?:&&|\|\||\||;|2?>>|>) ", found[1])[0]


def wrong_command(line):
    """Why a `batchembed …` line would not be understood, or None. Nothing is run."""
    words = shlex.split(line.replace("[RIGHT]", "RIGHT").replace("CORPUS…", "CORPUS"))[1:]
    if words[0].startswith("-"):
        command, name = main, "batchembed"
    else:
        command, name = main.commands.get(words[0]), words[0]
        words = words[1:]
    if command is None:
        return f"there is no command {name}"
    if not words:  # the command is only named
        return None
    try:
        with contextlib.suppress(click.exceptions.Exit):  # --help, --version
            command.make_context(name, words)
    except click.UsageError as error:
        return error.format_message()
    return None


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_is_shown_is_understood(page):
    """What a page tells its reader to type has the right words and options."""
    lines = [line for line in shell_lines(PAGES[page]) if "--…" not in line]
    wrong = [(line, why) for line in lines if (why := wrong_command(line))]
    assert wrong == []


def test_commands_are_found_where_they_are_shown():
    """The check above has something to check."""
    lines = list(shell_lines(README))
    assert len(lines) > len(main.commands)
    assert "batchembed run jobs/articles.toml --quiet" in shell_lines(PAGES["docs/operations.md"])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("batchembed fly RUN", "no command fly"),
        ("batchembed run job.toml --fast", "--fast"),
        ("batchembed embed a.csv --text t", "--out"),
        ("batchembed similarity A --top-k many --out F", "many"),
        ("batchembed verify", None),
        ("batchembed plan CORPUS… --text COL", None),
    ],
)
def test_a_wrong_command_is_seen(line, why):
    """An unknown command, option or value, or a missing one, is reported with its reason."""
    found = wrong_command(line)
    assert (found is None) if why is None else (why in found)


def test_every_command_is_in_the_table():
    """The table of commands of the README has each command, and no other."""
    told = re.findall(r"(?m)^\| `batchembed (\w+)", README)
    assert sorted(told) == sorted(main.commands)


def test_every_command_has_an_example_that_works():
    """The example in each command's help is understood."""
    for name, command in main.commands.items():
        example = re.search(r"Example: (batchembed .*)", command.help or "")
        assert example, f"{name} has no example"
        assert wrong_command(example[1]) is None


@pytest.mark.parametrize("page", PAGES)
def test_every_option_that_is_named_exists(page):
    """An option in code style belongs to some command."""
    known = {"--help", "--version", "--auto-truncate", "--url-prefix"}  # the last are of servers
    for command in main.commands.values():
        known |= {name for option in command.params for name in option.opts}
    unknown = {
        option
        for piece in inline(PAGES[page])
        if piece.startswith("--")
        for option in re.findall(r"--[a-z][a-z-]*", piece)
        if option not in known
    }
    assert unknown - {"--probe", "--require-hashes"} == set()


# -- settings and exit codes -----------------------------------------------------------------------


def unknown_settings(text):
    """Names such as `limits.max_cost` that are no settings."""
    pattern = rf"(?<![\w./-])({'|'.join(TABLES)})\.([a-z_]+)\b(?!\()"
    files = {"md", "py", "toml", "arrow", "json", "parquet", "csv"}
    return {
        f"{table}.{name}"
        for table, name in re.findall(pattern, text)
        if name not in files and name not in {field.name for field in fields(TABLES[table])}
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_is_named_exists(page):
    """A setting that is renamed or taken away changes every page that names it."""
    assert unknown_settings(PAGES[page]) == set()


def test_an_unknown_setting_is_seen():
    """A setting that there is not is reported, a file name and a known one are not."""
    text = "`limits.max_price`, `limits.max_cost`, `similarity.md` and --set model.nam=x"
    assert unknown_settings(text) == {"limits.max_price", "model.nam"}


def exit_codes():
    """Every code that an error ends with, and the two of a complete run."""
    found, waiting = {0, 3}, [errors.BatchembedError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind is errors.InterruptedRunError:
            found |= {kind(signum).exit_code for signum in (signal.SIGINT, signal.SIGTERM)}
        else:
            found.add(kind.exit_code)
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md"])
def test_the_table_of_exit_codes_is_that_of_the_program(page):
    """Each code has one row, and each row is a code that the program can end with."""
    told = [int(code) for code in re.findall(r"(?m)^\| (\d+) \|", PAGES[page])]
    assert told == sorted(exit_codes())


# -- links and layout ------------------------------------------------------------------------------


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```$", "", text))
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page, text):
    """Links of a page to files or headings that are not there."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"(?ms)^```.*?^```$", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name
        if not file.exists():
            if file not in COMING:
                yield target
            continue
        known = anchors(text if not name else file.read_text("utf-8")) if anchor else {""}
        if anchor not in known:
            yield target


@pytest.mark.parametrize("page", PAGES)
def test_every_link_within_the_repository_leads_somewhere(page):
    """A file that is renamed changes every page that links to it."""
    assert list(broken_links(page, PAGES[page])) == []


def test_a_broken_link_is_seen():
    """A link to no file, and one to no heading, are reported."""
    text = "# A head\n[a](docs/none.md) [b](#a-head) [c](#b) [d](https://example.com) [e](LICENSE)"
    assert list(broken_links("README.md", text)) == ["docs/none.md", "#b"]


def test_every_page_can_be_reached():
    """From the README, link by link, one comes to every page."""
    seen, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for target in re.findall(r"\]\(([^)#\s]+\.md)", PAGES[page]):
            if not target.startswith("http"):
                name = str(((ROOT / page).parent / target).resolve().relative_to(ROOT))
                waiting += [name] if name in PAGES and name not in seen else []
    assert set(PAGES) - seen == {"CHANGELOG.md"}


def test_the_design_draws_every_module():
    """The tree of docs/design.md has each module of the package, none twice, none that is not."""
    tree = next(c for _, c in blocks(PAGES["docs/design.md"]) if c.startswith("doors"))
    drawn = [re.match(r"(?:\w+)? +(\w+)", line)[1] for line in tree.splitlines()]
    real = {p.stem for p in (ROOT / "batchembed").iterdir() if p.suffix == ".py" or p.is_dir()}
    assert sorted(drawn) == sorted(real - {"__pycache__"})


def test_the_design_draws_the_layers_that_are_tested():
    """The groups of the tree are the levels of test_layers, from the ground up."""
    tree = next(c for _, c in blocks(PAGES["docs/design.md"]) if c.startswith("doors"))
    groups = re.split(r"(?m)^(?=[a-z])", tree)[1:]
    drawn = [set(re.findall(r"(?m)^(?:\w+)? +(\w+)", group)) for group in groups]
    levels = [set(names.split()) for names in LEVELS]
    doors, steps, organs, ground = drawn
    assert (ground, organs, steps) == tuple(
        level & group for level, group in zip(levels, (ground, organs, steps), strict=False)
    )
    assert doors <= set().union(*levels[3:])


def test_the_decision_on_dependencies_has_each_of_them():
    """The table gives every dependency of the project its reason."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    page = PAGES["docs/decisions/0001-dependencies.md"]
    assert re.findall(r"(?m)^\| ([\w-]+) \| (?!why)", page) == sorted(needed)


def test_decisions_are_numbered_and_listed():
    """Each page has the number of its file as its heading, and stands in the list in order."""
    pages = sorted(name for name in PAGES if re.search(r"decisions/\d", name))
    for number, name in enumerate(pages, 1):
        assert Path(name).name.startswith(f"{number:04d}-")
        assert PAGES[name].startswith(f"# {number}. ")
    listed = re.findall(r"\((\d{4}-[\w-]+\.md)\)", PAGES["docs/decisions/README.md"])
    assert listed == [Path(name).name for name in pages]


def test_the_changelog_has_the_version():
    """The version of the package is told in the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert version in PAGES["CHANGELOG.md"]


def told_messages():
    """The words of messages that docs/operations.md says what to do about."""
    section = PAGES["docs/operations.md"].split("## What to do when")[1].split("\n## ")[0]
    for row in re.findall(r"(?m)^\| (.*?) \| \d", section):
        for message in re.findall(r"`([^`]+)`", row):
            yield from (part.strip() for part in message.split("…") if part.strip())


def test_what_to_do_when_has_messages_that_exist():
    """A message that is worded anew is worded anew there too."""
    sources = "\n".join(p.read_text("utf-8") for p in (ROOT / "batchembed").rglob("*.py"))
    said = re.sub(r'"\s+f?"', "", sources)  # literals that go on in the next line
    assert len(list(told_messages())) > 12
    assert [message for message in told_messages() if message not in said] == []


@pytest.mark.parametrize("page", ["commands", "messages"])
def test_pages_that_are_made_are_what_the_source_says(page):
    """docs/commands.md is made anew when an option changes, messages.md when a message does."""
    tool = ROOT / f"tools/make_{page}_page.py"
    command = [sys.executable, tool, "--check"]
    done = subprocess.run(command, check=False, env=environment({"PYTHONPATH": str(ROOT)}))
    assert done.returncode == 0, f"run {tool.relative_to(ROOT)}"
