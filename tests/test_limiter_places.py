"""Where limiters listen and are found: addresses, the job's word and the environment's, folders."""

import asyncio
import hashlib
import os
import re
import socket
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import batchembed
from batchembed.errors import JobError, UsageError
from batchembed.limiter import Place, name_of, of_job, parse, places, usual
from batchembed.limiter.places import LONGEST_PATH, VARIABLE, private_folder


@pytest.fixture
def here(folder, monkeypatch):
    """The usual place, in a folder of the test."""
    path = folder / "limiter.sock"
    monkeypatch.setattr(places, "usual", lambda: Place(str(path)))
    return path


def listening(path):
    """A socket that listens."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen(1)
    return made


# -- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ("unix:/run/be/limiter.sock", Place("/run/be/limiter.sock")),
        ("unix:///run/be/limiter.sock", Place("/run/be/limiter.sock")),
        ("tcp://127.0.0.1:7788", Place(host="127.0.0.1", port=7788)),
        ("tcp://limiter.example:7788/", Place(host="limiter.example", port=7788)),
        ("tcp://[::1]:7788", Place(host="::1", port=7788)),
    ],
)
def test_an_address(told, place):
    """As it is written, and as it is read again."""
    assert parse(told) == place
    assert parse(str(place)) == place


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("tcp://127.0.0.1", "a port from 1 to 65535"),
        ("tcp://127.0.0.1:0", "a port from 1 to 65535"),
        ("tcp://127.0.0.1:99999", "a port from 1 to 65535"),
        ("tcp://127.0.0.1:http", "a port from 1 to 65535"),
        ("tcp:127.0.0.1:7788", "`tcp://host:port`"),
        ("tcp://:7788", "`tcp://host:port`"),
        ("tcp://user:word@host:7788", "`tcp://host:port`"),
        ("tcp://host:7788/path", "`tcp://host:port`"),
        ("tcp://host:7788?key=1", "`tcp://host:port`"),
        ("http://host:7788", "`tcp://host:port`"),
        ("unix:limiter.sock", "`unix:/path/of/a.sock`"),
        ("unix:/run/", "`unix:/path/of/a.sock`"),
        ("unix:////run", "`unix:/path/of/a.sock`"),
        ("unix:/run/\n", "`unix:/path/of/a.sock`"),
        ("unix:/" + "x" * LONGEST_PATH, f"has {LONGEST_PATH} bytes"),
        ("unix:/" + "ü" * 60, f"has {LONGEST_PATH} bytes"),
        ("", "`tcp://host:port`"),
        ("yes", "`tcp://host:port`"),
    ],
)
def test_what_is_no_address(told, says):
    """It says what one looks like."""
    with pytest.raises(ValueError, match=r"must be|must have") as told_so:
        parse(told)
    assert says in str(told_so.value)


@given(st.text(max_size=60), st.sampled_from(["", "unix:", "unix:/", "tcp:", "tcp://", "tcp://h:"]))
def test_whatever_is_told_is_an_address_or_none(told, head):
    """And nothing else happens; one is read again as it was meant."""
    try:
        place = parse(head + told)
    except ValueError:
        return
    assert parse(str(place)) == place


def test_the_longest_path_can_be_listened_at(folder):
    """The system takes what we take, and not one byte more."""
    path = folder / ("x" * (LONGEST_PATH - len(str(folder)) - 1))
    assert len(str(path)) == LONGEST_PATH
    assert parse(f"unix:{path}").path == str(path)
    listening(path).close()


@pytest.mark.parametrize(
    ("told", "only_here"),
    [
        ("unix:/run/x", True),
        ("tcp://localhost:1", True),
        ("tcp://127.8.8.8:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://10.0.0.1:1", False),
        ("tcp://localhost.evil.example:1", False),
    ],
)
def test_who_can_reach_it(told, only_here):
    """Loopback and sockets are of this machine alone."""
    assert parse(told).loopback is only_here


def test_the_usual_place_does_not_hang_on_how_one_logged_in(monkeypatch):
    """A run of cron and one of a terminal find the same; its name tells the user and no key."""
    monkeypatch.setattr("platform.node", lambda: "host-1")
    monkeypatch.setenv("HOME", "/users/ada")
    before = usual()
    for name in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "TMPDIR", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "/elsewhere")
    assert usual() == before
    assert re.fullmatch(r"/users/ada/\.cache/batchembed/limiter-[0-9a-f]{8}\.sock", before.path)


def test_machines_that_share_a_home_have_a_place_each(monkeypatch):
    """A socket on a network file system is of the machine that made it."""
    monkeypatch.setenv("HOME", "/users/ada")
    found = set()
    for machine in ("node-1", "node-2"):
        monkeypatch.setattr("platform.node", lambda machine=machine: machine)
        found.add(usual())
    assert len(found) == 2


def test_a_user_without_a_home(monkeypatch):
    """There is a place all the same, which is no folder of wherever the run was started."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["nobody"])
    assert usual().path.startswith("/~/.cache/batchembed/")


# -- the job's word and the environment's ----------------------------------------------------------

TCP = "tcp://10.0.0.1:7788"
LOCAL = "tcp://127.0.0.1:7788"


@pytest.mark.parametrize(
    ("share", "named", "place"),
    [
        ("off", "", None),
        ("off", TCP, None),
        (TCP, "", parse(TCP)),
        (TCP, "off", parse(TCP)),
        ("auto", TCP, parse(TCP)),
        ("auto", "off", None),
        ("start", "off", None),
        ("start", TCP, parse(TCP)),
        ("start", LOCAL, Place(host="127.0.0.1", port=7788, starts=True)),
        ("auto", LOCAL, Place(host="127.0.0.1", port=7788)),
        ("start", "unix:/run/x", Place("/run/x", starts=True)),
        ("auto", "unix:/run/x", Place("/run/x")),
    ],
)
def test_which_limiter_a_run_takes_part_in(share, named, place):
    """An address or "off" in the job goes before all; the environment before "auto" and "start"."""
    assert of_job(share, {VARIABLE: named}) == place


def test_start_and_auto_at_the_usual_place(here):
    """One may start it; the other takes part where one listens, and not where one did."""
    there = Place(str(here))
    assert of_job("auto", {}) is None
    for share, named in (("start", ""), ("auto", "start"), ("start", "auto")):
        assert of_job(share, {VARIABLE: named}) == Place(str(here), starts=True)
    with listening(here):
        assert of_job("auto", {}) == there
        assert of_job("auto", {VARIABLE: " "}) == there
    assert here.exists()
    assert of_job("auto", {}) is None
    here.unlink()
    here.write_text("no socket")
    assert of_job("auto", {}) is None


def test_a_limiter_of_someone_else_at_the_usual_place_is_none(here, monkeypatch):
    """Someone may have made the folder before: what listens there is not believed."""
    with listening(here):
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert of_job("auto", {}) is None


def test_a_socket_of_someone_else_is_not_connected_to(here, monkeypatch):
    """Whoever may write in a shared folder could have put it there."""
    monkeypatch.setattr(places.os, "lstat", lambda _: SimpleNamespace(st_uid=os.geteuid() + 1))
    with listening(here), pytest.raises(PermissionError, match="someone else's"):
        asyncio.run(places.connect(Place(str(here))))


def test_an_environment_that_names_nothing():
    """It is told by its name, before anything is sent."""
    with pytest.raises(UsageError, match=r"`BATCHEMBED_LIMITER` is `tcp://x`: it must have a port"):
        of_job("auto", {VARIABLE: "tcp://x"})


def test_a_job_that_names_nothing():
    """So is the setting."""
    job = {
        "corpus": {"path": "c.csv", "text": "text"},
        "model": {"provider": "local"},
        "output": {"path": "run"},
    }
    for share, says in (("on", '"auto", "start" or "off"'), ("tcp://h:0", "1 to 65535")):
        with pytest.raises(JobError, match=r"limits\.share") as told:
            batchembed.from_dict({**job, "limits": {"share": share}}, where="here")
        assert says in str(told.value)
        assert share in str(told.value)
    for share in ("auto", "start", "off", TCP, "unix:/run/x"):
        made = batchembed.from_dict({**job, "limits": {"share": share}}, where="here")
        assert made.limits.share == share


# -- names -----------------------------------------------------------------------------------------


def test_a_name_parts_what_has_limits_of_its_own():
    """The same for the same key, server and model; the fields do not run into each other."""
    key = "sk-secret-1234"
    name = name_of(key, "openai", None, "small")
    assert name == name_of(key, "openai", None, "small")
    others = {
        name_of("sk-secret-1235", "openai", None, "small"),
        name_of(key, "openai", "https://other.example", "small"),
        name_of(key, "openai", None, "large"),
        name_of(None, "openai", None, "small"),
        name_of(key, "openais", None, "mall"),
    }
    assert len({name, *others}) == 6


def test_a_name_tells_nothing_of_the_key():
    """32 hexadecimal digits, and a guess costs as much as a slow hash does."""
    name = name_of("sk-secret-1234", "openai", None, "small")
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")
    right = hashlib.scrypt(b"sk-secret-1234", salt=b"openai\0\0small", n=2**14, r=8, p=1, dklen=16)
    assert name == right.hex()


# -- folders ---------------------------------------------------------------------------------------


def test_the_folder_is_made_for_its_owner_alone(folder):
    """Whatever the umask is."""
    before = os.umask(0)
    try:
        private_folder(folder / "a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o700
    private_folder(folder / "a")


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_refused(folder, mode):
    """Anyone could listen in it, or take part."""
    folder.chmod(mode)
    with pytest.raises(UsageError, match="is not yours alone") as told:
        private_folder(folder)
    assert f"`chmod 700 {folder}`" in told.value.hint
    folder.chmod(0o700)


def test_a_folder_of_someone_else_and_a_link_are_refused(folder, monkeypatch):
    """So is what someone else made in time, or let point elsewhere."""
    (folder / "link").symlink_to(folder)
    with pytest.raises(UsageError, match="is not yours alone"):
        private_folder(folder / "link")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(UsageError, match="is not yours alone"):
        private_folder(folder)


def test_a_folder_that_cannot_be_made(folder):
    """It says why, and how to name another."""
    (folder / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot make the folder `.*`: Not a directory") as told:
        private_folder(folder / "file" / "a")
    assert "--listen unix:" in told.value.hint


def test_a_run_that_shares_no_limit_does_not_prepare_what_limiters_say():
    """It takes some 20 ms, and most runs begin without."""
    code = """if True:
        import sys
        import batchembed.engines.local, batchembed.equipping
        from batchembed import limiter
        assert not {name for name in sys.modules if name.startswith("batchembed.limiter.")} - {
            "batchembed.limiter.places"
        }
        assert limiter.Link and "batchembed.limiter.messages" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
