"""The limiter as a process: one a place, for its user alone, started and ended, found by runs."""

import asyncio
import json
import os
import random
import signal
import socket
import stat
from pathlib import Path

import pytest
from fakes.commands import as_users_do
from fakes.runs import until

from batchembed.clock import SystemClock
from batchembed.errors import UsageError
from batchembed.limiter import Place, daemon, link_to, look, serve, taking_part
from batchembed.limiter.messages import Hello, No, Stands, from_limiter, line
from batchembed.pacing import Pacer, Rates

NAME = "0" * 32
HELLO = line(Hello(NAME, 600, None, None))


class Talk:
    """A conversation with a limiter, by hand."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def say(self, told):
        self._socket.sendall(told)
        return self

    def hear(self):
        told = self._lines.readline()
        return from_limiter(told) if told else None

    def close(self):
        self._lines.close()
        self._socket.close()


def first_word(path, told=HELLO):
    """What a limiter answers to the first word of a run, which then leaves."""
    talk = Talk(path).say(told)
    answer = talk.hear()
    talk.close()
    return answer


def free_port():
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        return trying.getsockname()[1]


# -- one a place -----------------------------------------------------------------------------------


def test_it_listens_says_where_and_ends_well_when_it_is_told_to(limiter, folder):
    """At once, with connections open: a service manager takes its end for success."""
    for signum in (signal.SIGTERM, signal.SIGINT):
        one = limiter()
        assert one.answered() == f"unix:{folder}/s\n"
        talk = Talk(folder / "s").say(HELLO)
        silent = Talk(folder / "s")
        assert isinstance(talk.hear(), Stands)
        one.send(signum)
        ended = one.wait(2)
        assert (ended.code, ended.err) == (0, "")
        assert talk.hear() is None
        assert not (folder / "s").exists()
        talk.close()
        silent.close()


def test_nobody_else_reaches_it(limiter, folder):
    """Socket, lock and folder are for their owner alone, whatever the umask is."""
    before = os.umask(0)
    try:
        limiter(at=f"unix:{folder}/new/s")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (folder / "new").iterdir()}
    assert modes == {"s": 0o600, "s.lock": 0o600}
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o700


def test_the_second_at_a_place_ends_and_the_first_goes_on(limiter, folder):
    """With 75, as a second run does."""
    limiter()
    ended = limiter().wait()
    assert ended.code == 75
    assert f"another limiter listens at `unix:{folder}/s`" in ended.err
    assert isinstance(first_word(folder / "s"), Stands)


def test_of_many_that_race_for_a_place_one_has_it(commands, folder):
    """Its socket is the one that stays."""
    told = ("limiter", "--listen", f"unix:{folder}/s")
    many = [commands.start(*told, cwd=folder) for _ in range(6)]
    until(lambda: sum(one.ends_within(0) for one in many) == 5)
    [left] = [one for one in many if not one.ends_within(0)]
    until(left.answered)
    assert isinstance(first_word(folder / "s"), Stands)
    left.kill()
    assert {one.wait().code for one in many} == {75, -signal.SIGKILL}


@pytest.mark.parametrize("gone", [["s"], ["s", "s.lock"]])
def test_one_whose_socket_was_deleted_ends_and_leaves_the_next_one_alone(limiter, folder, gone):
    """A cleaned cache does not leave a limiter that nobody finds, or delete the next one's."""
    old = limiter()
    for name in gone:
        (folder / name).unlink()
    new = limiter() if len(gone) > 1 else None
    assert old.wait().code == 0
    if new is None:
        limiter()
    assert isinstance(first_word(folder / "s"), Stands)


def test_it_takes_the_place_of_one_that_died(limiter, folder):
    """`kill -9` leaves the socket there."""
    limiter().kill()
    assert (folder / "s").is_socket()
    limiter()
    assert isinstance(first_word(folder / "s"), Stands)


def test_a_file_that_is_no_socket_is_left_alone(limiter, folder):
    """A slip of the pen costs nobody a file."""
    (folder / "s").write_text("dear diary")
    ended = limiter().wait()
    assert ended.code == 2
    assert f"cannot listen at `unix:{folder}/s`: a file is there" in ended.err
    assert (folder / "s").read_text() == "dear diary"


def test_a_lock_that_is_a_link_is_not_followed(limiter, folder):
    """Someone else's file is not opened in its place."""
    (folder / "s.lock").symlink_to(folder / "elsewhere")
    ended = limiter().wait()
    assert ended.code == 2
    assert "cannot listen at" in ended.err
    assert not (folder / "elsewhere").exists()


def test_a_port_that_is_taken(limiter):
    """It says so, without a traceback."""
    port = free_port()
    limiter(at=f"tcp://127.0.0.1:{port}")
    ended = limiter(at=f"tcp://127.0.0.1:{port}").wait()
    assert ended.code == 2
    assert f"cannot listen at `tcp://127.0.0.1:{port}`: Address already in use" in ended.err
    assert "hint:" in ended.err
    assert "Traceback" not in ended.err


def test_a_host_that_is_not_here(limiter):
    """Nor one without a name anywhere."""
    ended = limiter("--allow-network", at="tcp://no-such-host.invalid:7788").wait()
    assert ended.code == 2
    assert "cannot listen at `tcp://no-such-host.invalid:7788`: " in ended.err
    assert "Unknown error" not in ended.err


def test_it_ends_when_nobody_took_part_for_long(limiter, folder):
    """And not while someone does."""
    one = limiter("--idle", "200ms")
    talk = Talk(folder / "s").say(HELLO)
    assert isinstance(talk.hear(), Stands)
    assert not one.ends_within(0.5)
    talk.close()
    assert one.wait(5).code == 0
    assert not (folder / "s").exists()


def test_a_mistake_of_ours_is_not_swallowed(folder, monkeypatch):
    """A limiter whose beat has broken does not go on without one; its socket goes."""

    async def broken(_):
        raise ZeroDivisionError

    monkeypatch.setattr(daemon.Limiter, "beat", broken)
    with pytest.raises(ZeroDivisionError):
        serve(Place(f"{folder}/s"), SystemClock(), idle=None, ready=lambda _: None)
    assert not (folder / "s").exists()


# -- the command -----------------------------------------------------------------------------------


def test_what_others_could_reach_needs_a_word(limiter):
    """There is no password: who listens beyond this machine has to say so."""
    for at in ("tcp://0.0.0.0:7788", "tcp://10.1.2.3:7788"):
        ended = limiter(at=at).wait()
        assert ended.code == 2
        assert "can be reached from other machines" in ended.err
        assert "--allow-network" in ended.err
    port = free_port()
    told = limiter("--allow-network", at=f"tcp://0.0.0.0:{port}")
    assert told.answered() == f"tcp://0.0.0.0:{port}\n"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--listen", "here"), "`--listen` is `here`: it must be"),
        (("--listen", "tcp://127.0.0.1:0"), "it must have a port from 1 to 65535"),
        (("--idle", "soon"), "`--idle` is `soon`: it must be"),
        (("--status", "--listen", "unix:/nowhere/s"), "no limiter answers at `unix:/nowhere/s`"),
    ],
)
def test_a_command_that_is_wrong(commands, folder, argv, says):
    """It names the word and how it is mended; nothing is made."""
    ended = commands.run("limiter", *argv, cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert list(folder.iterdir()) == []


def test_status_in_words_and_as_data(limiter, commands, folder):
    """Who takes part, at what rate; a look is no part."""
    limiter()
    status = ("limiter", "--status", "--listen", f"unix:{folder}/s")
    assert commands.run(*status, cwd=folder).out == f"unix:{folder}/s: no run takes part\n"
    talk = Talk(folder / "s").say(HELLO)
    assert isinstance(talk.hear(), Stands)
    told = commands.run(*status, cwd=folder).out
    assert told.splitlines()[0] == f"unix:{folder}/s"
    assert "1 run, 588 requests a minute, 0 started, 0 open" in told
    [seen] = commands.run(*status, "--json", cwd=folder).json
    assert (seen["name"], seen["standing"]["workers"]) == (NAME[:8], 1)
    named = {"BATCHEMBED_LIMITER": f"unix:{folder}/s"}
    assert commands.run("limiter", "--status", cwd=folder, env=named).out == told
    talk.close()


def test_where_it_listens_as_data(limiter, folder):
    """One JSON object, at once."""
    assert json.loads(limiter("--json").answered()) == {"address": f"unix:{folder}/s"}


def test_a_look_at_what_is_no_limiter(folder):
    """Something listens and says nothing, or nonsense."""

    async def main(answer):
        async def other(reader, writer):
            await reader.readline()
            writer.write(answer)
            writer.close()

        async with await asyncio.start_unix_server(other, f"{folder}/s"):
            await asyncio.to_thread(look, Place(f"{folder}/s"))

    with pytest.raises(UsageError, match="no limiter answers"):
        asyncio.run(main(b"HTTP/1.1 400 Bad Request\r\n"))


def test_a_run_of_another_version_is_told_so(limiter, folder):
    """In words that name both."""
    limiter()
    told = first_word(folder / "s", b'{"say":"hello","version":9,"more":true}\n')
    assert told == No("it speaks version 1, and you 9: install the same", for_good=True)


# -- started by a run ------------------------------------------------------------------------------


def joining(place, said, then=lambda _: asyncio.sleep(0)):
    """Take part at a place, do something, and leave; return whether it took part."""

    async def main():
        clock, rng = SystemClock(), random.Random(1)
        link = link_to(place, NAME, Rates(600), clock=clock, rng=rng, say=said.append)
        pacer = Pacer(Rates(600), clock, rng=rng, link=link)
        async with taking_part(link, pacer):
            await then(pacer)
            return link.up

    return asyncio.run(main())


@pytest.fixture
def ours(monkeypatch):
    """Let limiters that are started for us end with the test; gives their processes."""
    started, start = [], daemon.start
    monkeypatch.setattr(daemon, "start", lambda place: started.append(start(place)) or started[-1])
    yield started
    for one in started:
        one.terminate()
        one.wait(10)
        daemon._STARTED.remove(one)


def test_a_run_starts_one_where_there_is_none(folder, ours, monkeypatch):
    """It knows nothing of the run's key, has no terminal, and stays for the next run."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-4711")
    monkeypatch.chdir(folder)
    said = []
    place = Place(f"{folder}/s", starts=True)
    assert joining(place, said)
    [process] = ours
    there = Path(f"/proc/{process.pid}")
    if there.exists():  # Linux
        assert b"sk-canary-4711" not in (there / "environ").read_bytes()
        assert b"sk-canary-4711" not in (there / "cmdline").read_bytes()
        assert (there / "cwd").resolve() != folder.resolve()
        assert {(there / f"fd/{n}").readlink() for n in range(3)} == {Path(os.devnull)}
        assert os.getsid(process.pid) == process.pid
    assert joining(place, said)
    assert len(ours) == 1
    assert said == []
    assert process.poll() is None
    process.terminate()
    assert process.wait(5) == 0


def test_one_that_cannot_be_started_is_told_of_and_not_tried_for_ever(folder, ours):
    """The run goes on, and says how to see why."""
    (folder / "s").write_text("a file")
    said = []
    place = Place(f"{folder}/s", starts=True)

    async def others(_):
        await asyncio.to_thread(until, lambda: len(ours) == 3)

    assert not joining(place, said, others)
    [told] = said
    assert f"none could be started, see `batchembed limiter --listen unix:{folder}/s`" in told
    assert "this run paces itself" in told
    assert all(one.wait() == 2 for one in ours)


def test_the_command_that_a_start_names_is_one(folder):
    """`python -m batchembed limiter --listen … --idle …`, from the interpreter's start on."""
    ended = as_users_do("limiter", "--listen", f"unix:{folder}/s", "--idle", "1ms", cwd=folder)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"unix:{folder}/s\n"
