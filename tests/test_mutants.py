"""Mutation testing: what it changes has tests that exist, and what it tells is counted rightly."""

import importlib.util
import sys

import pytest
from fakes.commands import ROOT

SPEC = importlib.util.spec_from_file_location("mutants", ROOT / "tools/mutants.py")
tool = sys.modules["mutants"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tool)


def test_what_is_mutated_has_tests_and_they_exist():
    """Every file of the ledger, segments, parts, the hot loop and packing; nothing else."""
    files = tool.mutated_files(ROOT)
    wanted = ("ledger/", "segments.py", "parts/", "embed/", "packing.py")
    inside = ROOT / "batchembed"
    assert files == sorted(
        name
        for path in inside.rglob("*.py")
        if (name := path.relative_to(inside).as_posix()).startswith(wanted)
    )
    for file in files:
        for test in tool.tests_of(file):
            assert (ROOT / test).is_file(), f"{file}: {test}"
    assert tool.tests_of("run.py") == ()


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("ledger/bill.py", "ledger_edges"),
        ("embed/batch.py", "batch_rules"),
        ("embed/loop.py", "answers"),
    ],
)
def test_the_nearest_line_counts(path, first):
    """A file's own tests come before those of its folder."""
    assert tool.tests_of(path)[0] == f"tests/test_{first}.py"


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [
        (85, 100, 0.7672, 0.9069),  # as statsmodels' proportion_confint(method="wilson") has it
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (344, 400, 0.8226, 0.8906),
    ],
)
def test_the_interval_is_wilsons(hits, of, low, high):
    """Known values."""
    assert tool.interval(hits, of) == pytest.approx((low, high), abs=1e-4)
    assert tool.interval(0, 0) == (0.0, 1.0)


def test_the_table_counts_what_does_not_end_and_leaves_out_what_is_the_same():
    """Of five, one cannot be told apart: three of four were killed, one of them by its time."""
    endings = dict(
        zip(
            [tool.Mutant("packing.py", n) for n in range(3)]
            + [tool.Mutant("segments.py", n) for n in range(2)],
            ["killed", "timeout", "survived", "killed", "equivalent"],
            strict=True,
        )
    )
    lines = [line.split() for line in tool.table(endings).splitlines()]
    assert lines[1][:6] == ["packing.py", "1", "1", "1", "0", "66.7"]
    assert lines[2][:6] == ["segments.py", "1", "0", "0", "1", "100.0"]
    assert lines[3][:8] == ["in", "all", "2", "1", "1", "1", "75.0", "%"]


def test_a_change_is_told_as_the_lines_it_takes_away_and_brings():
    """The form in which changes after which all is the same are named."""
    before, after = "a\n  b = 1\nc\n", "a\n  b = 2\nc\n"
    assert tool._lines(before, after) == ("b = 1", "b = 2")
    assert tool._difference(before, after).splitlines()[1:] == [" a", "-  b = 1", "+  b = 2", " c"]


def test_what_is_named_as_the_same_is_still_in_the_source():
    """A line that was changed since must be judged anew."""
    for (path, gone, _), why in tool.EQUIVALENT.items():
        lines = [line.strip() for line in (ROOT / "batchembed" / path).read_text().splitlines()]
        assert gone in " ".join(lines), f"{path}: {gone}"
        assert len(why) > 10
