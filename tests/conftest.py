"""What many suites share: commands that start quickly."""

import os
import tempfile
from pathlib import Path

import pytest
from fakes import running
from fakes.commands import ALONE, forking
from fakes.places import Place
from fakes.runs import until
from hypothesis import Phase, settings

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("batchembed", deadline=None)
# What fails is to fail the same way each time, and need not be made small: see tools/mutants.py.
settings.register_profile(
    "mutants", deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("batchembed")
os.environ |= ALONE


@pytest.fixture(scope="session")
def commands():
    """batchembed's commands, each in a fork of a process that has imported everything."""
    with forking() as commands:
        yield commands


@pytest.fixture
def server():
    """A stand-in for an embedding API, without faults."""
    with running() as server:
        yield server


@pytest.fixture
def place(commands, tmp_path):
    """Make a folder with a corpus and a job: `place(texts, server=…, limits__concurrency=2)`."""

    def make(given, *, name="place", **more):
        return Place(commands, tmp_path / name, given, **more)

    return make


@pytest.fixture
def folder():
    """A folder of our own with a short path, as sockets need one."""
    with tempfile.TemporaryDirectory(prefix="be-") as made:
        yield Path(made)


@pytest.fixture
def limiter(commands, folder):
    """Start a limiter, `limiter(*options)`, that listens when it is returned; all end at last."""
    started = []

    def start(*options, at=f"unix:{folder}/s", **more):
        told = commands.start("limiter", "--listen", at, *options, cwd=folder, **more)
        started.append(told)
        until(lambda: told.answered() or told.ends_within(0))
        return told

    yield start
    for one in started:
        one.kill()
