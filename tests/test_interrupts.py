"""Signals: an exception where nothing flies, a drain where something does."""

import asyncio
import os
import signal
import threading

import pytest

from batchembed.errors import InterruptedRunError
from batchembed.interrupts import STOPPING, drain_on_signal, raise_on_signal


def handlers():
    return [signal.getsignal(signum) for signum in STOPPING]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_reading_or_writing_is_an_exception(signum, code):
    """With the exit code that a shell expects; what was before is there again."""
    before = handlers()
    with pytest.raises(InterruptedRunError) as told, raise_on_signal():
        os.kill(os.getpid(), signum)
    assert told.value.exit_code == code
    assert told.value.hint
    assert handlers() == before


class Flying:
    """Something with requests in flight, that notes what it is told."""

    def __init__(self):
        self.told = []
        self._more = asyncio.Event()

    def drain(self, why):
        self.told.append(why.exit_code)
        self._more.set()

    def abandon(self):
        self.told.append("abandon")
        self._more.set()

    async def heard(self, count):
        """Wait until it was told so many times."""
        while len(self.told) < count:
            await self._more.wait()
            self._more.clear()


def test_the_first_signal_drains_and_the_second_lets_go():
    """Also when they are different; afterwards the handlers are those of before."""
    flying = Flying()

    async def main():
        with drain_on_signal(flying):
            for number, signum in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGINT), 1):
                os.kill(os.getpid(), signum)
                await flying.heard(number)

    before = handlers()
    with raise_on_signal():
        inside = handlers()
        asyncio.run(main())
        assert handlers() == inside
    assert handlers() == before
    assert flying.told == [143, "abandon", "abandon"]


def test_outside_the_main_thread_signals_stay_the_callers():
    """Python allows no other thread to handle them, and a caller's loop has its own ways."""
    found = []

    async def main():
        with drain_on_signal(Flying()):
            found.append("drain")

    def work():
        with raise_on_signal():
            found.append("raise")
        asyncio.run(main())

    before = handlers()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["raise", "drain"]
    assert handlers() == before
