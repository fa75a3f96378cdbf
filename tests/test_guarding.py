"""The look at lock and disk while texts are bought: often enough, and not for every request."""

from types import SimpleNamespace

import pytest

from batchembed import guarding
from batchembed.errors import NotFinishedError, RunHeldError
from batchembed.guarding import LOOK_SECONDS, RESERVE, Guard
from batchembed.monitor import Summary


class World:
    """A run whose disk, lock and clock are told."""

    def __init__(self, monkeypatch, tmp_path):
        self.free, self.total, self.now, self.lost, self.looks = 10**12, 10**13, 5.0, False, 0
        self.summary = Summary(to_send=1000, sent=0)
        self.store = SimpleNamespace(root=tmp_path)
        self.job = SimpleNamespace(output=SimpleNamespace(dtype="float32"))
        self.clock = SimpleNamespace(monotonic=lambda: self.now)
        self.staged = 0
        monkeypatch.setattr(guarding, "disk_usage", lambda _: (self.free, self.total))

    def still_ours(self):
        self.looks += 1
        if self.lost:
            raise RunHeldError("taken", hint="")

    def guard(self):
        return Guard(self, lambda: 1000 - self.staged)


@pytest.fixture
def world(monkeypatch, tmp_path):
    return World(monkeypatch, tmp_path)


def test_it_is_looked_at_ten_times_a_second_at_most(world):
    """However many requests leave; and the first one is never let through unseen."""
    guard = world.guard()
    for _ in range(1000):
        assert guard.objection(None) is None
        world.now += LOOK_SECONDS / 100
    assert 9 <= world.looks <= 11


def test_a_lock_that_is_gone_is_seen_at_the_next_look(world):
    """Also after a freeze, which the clock counts."""
    guard = world.guard()
    assert guard.objection(None) is None
    world.lost = True
    world.now += 2 * LOOK_SECONDS
    assert isinstance(guard.objection(None), RunHeldError)


def test_the_first_answer_is_looked_at_at_once(world):
    """Only then it is known what a row takes."""
    world.free = RESERVE + 1000 * 2 * 16
    guard = world.guard()
    assert guard.objection(None) is None
    assert isinstance(guard.objection(8), NotFinishedError)


def test_what_is_staged_needs_no_more_room(world):
    """Parts are made meanwhile: what they took is not asked for a second time."""
    guard, row = world.guard(), 8 * 4 + 16
    world.free = RESERVE + 1000 * row + 400 * row
    assert isinstance(guard.objection(8), NotFinishedError)
    world.staged, world.now = 600, world.now + 2 * LOOK_SECONDS
    assert guard.objection(8) is None
