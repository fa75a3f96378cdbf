"""How many cores are worth using, by affinity and by the share of a container."""

import os

import pytest

from batchembed.cores import cores


def test_without_a_quota_the_allowed_cores_count(tmp_path):
    """What the scheduler allows is what there is."""
    assert cores(tmp_path / "none") == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("told", "share"), [("100000 100000", 1), ("50000 100000", 1), ("150000 100000", 2)]
)
def test_a_container_has_its_share(tmp_path, monkeypatch, told, share):
    """A pod of one core on a large machine is one core."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    (tmp_path / "cpu.max").write_text(told + "\n")
    assert cores(tmp_path / "cpu.max") == share


@pytest.mark.parametrize("told", ["max 100000\n", "", "junk", "1 0", "a b"])
def test_what_is_no_quota_limits_nothing(tmp_path, monkeypatch, told):
    """An unlimited or unreadable quota leaves the allowed cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)))
    (tmp_path / "cpu.max").write_text(told)
    assert cores(tmp_path / "cpu.max") == 7


def test_a_quota_never_adds_cores(tmp_path, monkeypatch):
    """A share of more than there is changes nothing."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    (tmp_path / "cpu.max").write_text("800000 100000")
    assert cores(tmp_path / "cpu.max") == 2
