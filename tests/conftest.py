"""What many suites share: commands that start quickly."""

import pytest
from fakes.commands import forking


@pytest.fixture(scope="session")
def commands():
    """batchembed's commands, each in a fork of a process that has imported everything."""
    with forking() as commands:
        yield commands
