"""docs/reliability.md and docs/security.md name tests that exist, and every fault has its row."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("reliability.md", "security.md")
NAMED = re.compile(r"`(\w+\.py)::(\w+)`")


def rows():
    """The rows of the catalogue: number, the rest of the line."""
    page = (ROOT / "docs/reliability.md").read_text("utf-8")
    return {int(n): line for n, line in re.findall(r"(?m)^\| (\d+) \| (.*)$", page)}


def missing(page):
    """The tests that a page names and that are not there."""
    found = []
    for file, test in NAMED.findall(page):
        path = ROOT / "tests" / file
        if not path.is_file() or f"def {test}(" not in path.read_text("utf-8"):
            found.append(f"{file}::{test}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page):
    """A promise without its test is only a sentence."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert len(NAMED.findall(text)) > 10
    assert missing(text) == []


def test_a_test_that_is_not_there_is_seen():
    """Planted: a name that nothing has."""
    assert missing("`test_crash.py::test_of_nothing`") == ["test_crash.py::test_of_nothing"]


def test_all_seventy_two_faults_have_a_row_and_a_test():
    """Each has one."""
    assert list(rows()) == list(range(1, 73))
    assert [n for n, line in rows().items() if not NAMED.search(line)] == []


def test_rows_of_tables_are_in_the_tests_that_hold_them():
    """Where many faults share one test, that test has a case with the fault's number."""
    for number, line in rows().items():
        shared = [
            (file, test)
            for file, test in NAMED.findall(line)
            if file.startswith("test_faults_") and not re.match(rf"test_{number}_", test)
        ]
        for file, test in shared:
            source = (ROOT / "tests" / file).read_text("utf-8")
            if test != "test_a_bomb_does_not_fill_the_memory":
                assert re.search(rf'"{number} |f"{number} ', source), (number, file)
