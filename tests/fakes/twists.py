"""What can be done to a command from inside its process: sudden ends, full disks, planted bugs.

Each twist is a function of plain values, applied in the fork before the command starts.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

_AT_END: list[Callable[[], None]] = []
# What changes a file system and tells Python's auditing so: where its path and folder stand.
_AUDITED = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 2, "os.truncate": None}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def apply(twists: Sequence[Sequence[object]]) -> None:
    """Apply twists, each a name and its arguments."""
    for name, *arguments in twists:
        globals()[f"twist_{name}"](*arguments)


def end() -> None:
    """Do what twists want done at the command's end."""
    for last in _AT_END:
        last()


class _Steps:
    """Counts the steps by which a process changes files, and kills it just before one of them."""

    def __init__(self, stop: int | None, *, torn: bool) -> None:
        self.stop, self.torn, self.seen = stop, torn, 0

    def step(self) -> bool:
        """Count one; return whether it is the one to die at."""
        self.seen += 1
        return self.seen == self.stop

    def die_here(self, event: str) -> None:
        if self.step():
            os.kill(os.getpid(), signal.SIGKILL)


class _Failing:
    """Lets one step fail with an error number, or all from it on. EMFILE is for opening alone."""

    torn = False

    def __init__(self, number: int, code: int, *, forever: bool) -> None:
        self.number, self.code, self.forever, self.seen = number, code, forever, 0

    def step(self) -> bool:
        self.die_here("write")
        return False

    def die_here(self, event: str) -> None:
        if self.code == errno.EMFILE and event != "open":
            return
        self.seen += 1
        if self.seen == self.number or (self.forever and self.seen > self.number):
            raise OSError(self.code, os.strerror(self.code))


def _watch(root: str, steps: _Steps) -> None:
    """Tell `steps` of every change to files below `root`."""

    def heard(event: str, told: tuple) -> None:
        writes = event == "open" and isinstance(told[2], int) and told[2] & _WRITING
        if (writes or event in _AUDITED) and _place(event, told).startswith(root):
            steps.die_here(event)

    sys.addaudithook(heard)
    from batchembed import store

    for name in ("fsync", "fdatasync", "writev"):
        setattr(os, name, _counted(getattr(os, name), steps, tears=name == "writev"))
    store.SYNC_DATA = os.fdatasync
    write = store.Writer.write

    def written(self: object, data: object) -> int:
        steps.die_here("write")
        return write(self, data)

    store.Writer.write = written


def _place(event: str, told: tuple) -> str:
    """Return the path that an event is about, with all folders above it."""
    if isinstance(told[0], int):
        return ""
    at = _AUDITED.get(event)
    folder = told[at] if at is not None and isinstance(told[at], int) else -1
    above = f"/proc/self/fd/{folder}" if folder >= 0 else "."
    return str(Path(above).resolve() / os.fspath(told[0]))


def _counted(real: Callable, steps: _Steps, *, tears: bool) -> Callable:
    def counted(file: int, *rest: object) -> object:
        if steps.step():
            if tears and steps.torn:
                whole = b"".join(rest[0])
                os.write(file, whole[: len(whole) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(file, *rest)

    return counted


def twist_count_steps(root: str, told: str) -> None:
    """Write the number of steps that change files below `root` to the file `told`."""
    steps = _Steps(None, torn=False)
    _watch(root, steps)
    _AT_END.append(lambda: Path(told).write_text(str(steps.seen)))


def twist_die_at_step(root: str, number: int, torn: bool = False) -> None:
    """`kill -9` just before a step; `torn`: a write is half done by then."""
    _watch(root, _Steps(number, torn=torn))


def twist_fail_at_step(root: str, number: int, code: int, forever: bool) -> None:
    """Let a step fail with an error number: once, or it and all that follow."""
    _watch(root, _Failing(number, code, forever=forever))


def twist_sync_often(seconds: float) -> None:
    """Let the ledger make its answers durable after so many seconds."""
    from batchembed.ledger import checkpoint

    checkpoint.SYNC_SECONDS = seconds


def twist_power(root: str, shadow: str) -> None:
    """Note below `shadow` what of the files below `root` would survive a power cut."""
    from fakes import power

    power.watch(Path(root), Path(shadow))


def twist_small_files(most: int) -> None:
    """Let no file grow beyond so many bytes: what a full disk or a quota is to a process."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def twist_time_flies(factor: float) -> None:
    """Let time pass `factor` times faster for the run: for its timers, time-outs and clock."""
    import asyncio
    import selectors
    import time

    from batchembed.clock import SystemClock

    seconds = asyncio.BaseEventLoop.time
    select = selectors.EpollSelector.select

    def hurried(self: object, timeout: float | None = None) -> object:
        return select(self, timeout / factor if timeout and timeout > 0 else timeout)

    asyncio.BaseEventLoop.time = lambda self: seconds(self) * factor
    selectors.EpollSelector.select = hurried
    SystemClock.monotonic = lambda _: time.monotonic() * factor


def twist_peak_memory(told: str) -> None:
    """Write the memory in use, in bytes, at an attempt's start and the most since then."""
    from batchembed.providers.http import HttpProvider

    def begin() -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before.append(now("VmRSS"))

    def now(name: str) -> int:
        status = Path("/proc/self/status").read_text()
        return int(status.partition(name + ":")[2].split()[0]) << 10

    real, before = HttpProvider.attempt, []

    async def attempt(self: HttpProvider, request: object) -> object:
        if not before:
            begin()
        return await real(self, request)

    HttpProvider.attempt = attempt
    _AT_END.append(lambda: Path(told).write_text(f"{before[0]} {now('VmHWM')}"))


def twist_disk_free(told: str) -> None:
    """Let the disk have as much room as a number in the file `told` says."""
    from batchembed import guarding

    guarding.disk_usage = lambda _: (int(Path(told).read_text()), 1 << 40)


def twist_no_such_host(told: str) -> None:
    """Let no host name be found; how often one was asked for is written to the file `told`."""
    from aiohttp import DefaultResolver

    asked = []

    async def resolve(_: object, host: str, *__: object, **___: object) -> object:
        asked.append(host)
        raise OSError(None, "Name or service not known")

    DefaultResolver.resolve = resolve
    _AT_END.append(lambda: Path(told).write_text(str(len(asked))))


def twist_leads_to(name: str, *addresses: str) -> None:
    """Let a host name lead to these addresses."""
    import socket

    from aiohttp import DefaultResolver

    async def resolve(_: object, host: str, port: int = 0, family: int = 0) -> object:
        assert host == name, host
        families = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in addresses]
        return [
            {"hostname": host, "host": one, "port": port, "family": kind, "proto": 6, "flags": 4}
            for one, kind in zip(addresses, families, strict=True)
        ]

    DefaultResolver.resolve = resolve


# -- planted bugs: the suites must see them ------------------------------------------------------


def twist_forget_sections() -> None:
    """Plant a bug: sections of long texts that are paid for are not known when a run goes on."""
    from batchembed.ledger.sections import Sections

    Sections.get = lambda *_: None


def twist_forget_cuts() -> None:
    """Plant a bug: how texts under way were cut is not known when a run goes on."""
    from batchembed.ledger.sections import Sections

    Sections.room = lambda *_: None


def twist_model_reads(tokens_per_text: int | None) -> None:
    """Let a run know how many tokens the model reads, or not."""
    from dataclasses import replace

    from batchembed.embed.loop import Loop

    facts = Loop._facts
    Loop._facts = lambda self: replace(facts(self), tokens_per_text=tokens_per_text)


def twist_forgetful_ledger() -> None:
    """Plant a bug: what is paid for is not asked for when a run goes on."""
    from batchembed.ledger import Ledger

    real = Ledger.missing

    def missing(self: Ledger, *given: object, **more: object) -> object:
        known, self.entries = self.entries, lambda: iter(())
        try:
            return real(self, *given, **more)
        finally:
            self.entries = known

    Ledger.missing = missing


def twist_greedy_shards() -> None:
    """Plant a bug: a shard takes all texts for its own."""
    from batchembed.shard import Shard

    Shard.own = lambda _, keys: keys
    Shard.owns = lambda _, keys: keys.any(axis=1)


def twist_lonely_ledger() -> None:
    """Plant a bug: the run of the whole does not look at what its shards have."""
    from batchembed.ledger import Ledger, checkpoint

    Ledger._paths = lambda self: checkpoint.segments(self._store)


def twist_buffered_frames(most: int = 1 << 20) -> None:
    """Plant a bug: answers are kept in memory and written later."""
    from batchembed.store import Appender

    real = Appender.write

    def write(self: Appender, *buffers: object) -> int:
        waiting = self.__dict__.setdefault("waiting", [])
        waiting += [bytes(buffer) for buffer in buffers]
        if sum(map(len, waiting)) < most:
            return 0
        written, self.waiting = real(self, *waiting), []
        return written

    Appender.write = write


def twist_few_inputs(most: int) -> None:
    """Let a file of the batch lane hold so few inputs."""
    from batchembed.providers.batches import Batches

    Batches.most_inputs = property(lambda _: most)


def twist_blind_lane() -> None:
    """Plant a bug: nobody looks whether the provider has a submission already."""
    from batchembed.providers.counter import HttpCounter

    async def find(self: HttpCounter, identity: str) -> None:
        return None

    HttpCounter.find = find


def twist_silent_risk() -> None:
    """Plant a bug: nobody writes down what is in flight."""
    from batchembed.ledger import Ledger

    Ledger.risk = lambda *_: None


def twist_stage_at_once() -> None:
    """Let parts be staged as soon as few rows are settled, while others are still embedded."""
    from batchembed.ledger import places

    places.NOTED = 4


def twist_signal_in_phase(phase: str, signum: int) -> None:
    """Send a signal to the process itself when a phase of the run begins."""
    from batchembed.monitor import Monitor

    real = Monitor.phase

    def begin(self: Monitor, name: str, *rest: object) -> None:
        real(self, name, *rest)
        if name == phase:
            os.kill(os.getpid(), signum)

    Monitor.phase = begin


def twist_no_memory_in_phase(phase: str) -> None:
    """Let there be no memory when a phase of the run begins."""
    from batchembed.monitor import Monitor

    real = Monitor.phase

    def begin(self: Monitor, name: str, *rest: object) -> None:
        real(self, name, *rest)
        if name == phase:
            raise MemoryError

    Monitor.phase = begin


def twist_slow_sync(seconds: float, told: str) -> None:
    """Let every sync of a checkpoint's bytes take so long; their number is written to `told`."""
    import time

    from batchembed import store

    real, seen = store.SYNC_DATA, []

    def sync(file: int) -> None:
        seen.append(1)
        time.sleep(seconds)
        real(file)

    store.SYNC_DATA = sync
    _AT_END.append(lambda: Path(told).write_text(str(len(seen))))


def twist_clock_steps(seconds: float) -> None:
    """Let the time of day step by so many seconds each time it is looked at."""
    from datetime import timedelta

    from batchembed.clock import SystemClock

    real, seen = SystemClock.now, []

    def now(self: SystemClock) -> object:
        seen.append(1)
        return real(self) + timedelta(seconds=seconds) * (len(seen) % 2)

    SystemClock.now = now


def twist_replace_in_phase(phase: str, path: str, how: str, other: str) -> None:
    """Change a file when a phase of the run begins."""
    from batchembed.monitor import Monitor

    real = Monitor.phase

    def begin(self: Monitor, name: str, *rest: object) -> None:
        real(self, name, *rest)
        if name == phase and how == "touched":
            os.utime(path, (1, 1))
        elif name == phase and how == "longer":
            Path(path).write_bytes(Path(other).read_bytes())
        elif name == phase:
            Path(path).unlink()

    Monitor.phase = begin


def twist_break_packing() -> None:
    """Plant a bug: packing raises what nobody expects."""
    from batchembed.packing import Packer

    def add(self: Packer, batch: object) -> object:
        raise ZeroDivisionError("planted")

    Packer.add = add


def twist_terminal() -> None:
    """Let stderr say that it is a terminal."""
    sys.stderr.isatty = lambda: True


def twist_blind_canaries() -> None:
    """Plant a bug: canary texts are asked for and not compared."""
    from batchembed.embed import canaries

    canaries._least_cosine = lambda *_: 1.0


def twist_rename_before_fsync() -> None:
    """Plant a bug: files take their names before their bytes are durable."""
    from batchembed.store import Writer, sync_folder

    def commit(self: Writer) -> None:
        self._file.flush()
        self._file.close()
        self._temporary.rename(self._final)
        self._committed = True
        sync_folder(self._final.parent)

    Writer.commit = commit


def twist_deaf_to_errors() -> None:
    """Plant a bug: what the disk does not take is taken for written."""
    from batchembed.store import Appender

    real = Appender.write

    def write(self: Appender, *buffers: object) -> int:
        try:
            return real(self, *buffers)
        except OSError:
            return 0

    Appender.write = write
