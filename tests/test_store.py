"""The store: files are there whole and durably, or not at all, whatever fails in between."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fakes.dying import Died, Steps
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed import store as module
from batchembed.errors import NotFinishedError, RunHeldError, UsageError
from batchembed.lock import Hold
from batchembed.store import TEMPORARY, Store, free_bytes

OLD, NEW = b"old content", b"new content, which is longer"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


def files(store):
    return {
        str(path.relative_to(store.root)): path.read_bytes()
        for path in store.root.rglob("*")
        if path.is_file()
    }


# -- put -------------------------------------------------------------------------------------------


def put(store):
    store.put("deep/er/file", NEW)


def calls_of_a_put(tmp_path, monkeypatch, *, old):
    store = Store(tmp_path / "count")
    store.make_folder(".")
    if old:
        store.put("deep/er/file", OLD)
    with monkeypatch.context() as patched:
        steps = Steps(patched)
        put(store)
    return steps


@pytest.mark.parametrize("old", [False, True])
def test_a_put_that_dies_leaves_the_old_content_or_the_new(tmp_path, monkeypatch, old):
    """Die at every call into the system: under the name there is never a mixture or a part."""
    total = calls_of_a_put(tmp_path, monkeypatch, old=old).count
    assert total >= 4
    for at in range(1, total + 1):
        store = Store(tmp_path / f"die-{at}")
        store.make_folder(".")
        if old:
            store.put("deep/er/file", OLD)
        with monkeypatch.context() as patched:
            Steps(patched, at)
            with pytest.raises(Died):
                put(store)
        found = store.path("deep/er/file")
        assert (found.read_bytes() if found.exists() else None) in ((OLD if old else None), NEW), at
        assert set(store.names("deep/er")) <= {"deep/er/file"}
        store.sweep("deep/er")
        assert set(files(store)) <= {"deep/er/file"}
        put(store)
        assert files(store) == {"deep/er/file": NEW}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES])
@pytest.mark.parametrize("old", [False, True])
def test_a_put_that_fails_says_so_and_leaves_nothing_behind(tmp_path, monkeypatch, old, code):
    """Any call may fail once: the error is told, no temporary file takes room on a full disk."""
    steps = calls_of_a_put(tmp_path, monkeypatch, old=old)
    for at in range(1, steps.count + 1):
        store = Store(tmp_path / f"fail-{at}")
        store.make_folder(".")
        if old:
            store.put("deep/er/file", OLD)
        with monkeypatch.context() as patched:
            Steps(patched, at, OSError(code, os.strerror(code)))
            with pytest.raises(OSError, match=os.strerror(code)):
                put(store)
        found = files(store)
        assert set(found) <= {"deep/er/file"}, (at, steps.seen[at - 1])
        assert set(found.values()) <= {OLD, NEW}


def test_a_full_disk_at_the_last_flush_leaves_nothing_behind(store, monkeypatch):
    """Buffered bytes are written by `flush` and again by `close`: both may fail."""

    def fill():
        with store.create("file") as writer:
            writer._file = io.BufferedWriter(_Full(writer._file.detach()))
            writer.write(NEW)
            writer.commit()

    with pytest.raises(OSError, match="No space"):
        fill()
    assert files(store) == {}


class _Full(io.RawIOBase):
    def __init__(self, raw):
        self._raw = raw

    def writable(self):
        return True

    def write(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    def close(self):
        self._raw.close()
        super().close()


def test_the_order_of_a_put_is_write_sync_rename_sync(tmp_path, monkeypatch):
    """A rename before the fsync left 0 bytes under the final name after a power cut."""
    seen = calls_of_a_put(tmp_path, monkeypatch, old=True).seen
    assert seen == ["open", "fsync", "rename", "open", "fsync"]


def test_new_folders_are_made_durable(tmp_path, monkeypatch):
    """A file in a folder that a power cut takes away is not durable."""
    synced = []
    monkeypatch.setattr(module, "sync_folder", lambda path: synced.append(path.resolve()))
    Store(tmp_path / "a" / "b").put("c/d/file", NEW)
    root = tmp_path.resolve()
    assert {root, root / "a", root / "a/b", root / "a/b/c", root / "a/b/c/d"} == set(synced)


def test_relative_directories_work_as_well(tmp_path, monkeypatch):
    """A run directory is often given as `runs/articles`."""
    monkeypatch.chdir(tmp_path)
    Store(Path("runs/x")).put("file", NEW)
    Store(Path("runs/x")).put("folder/file", NEW)
    assert Path("runs/x/folder/file").read_bytes() == NEW


def test_a_writer_knows_the_size_and_the_hash_of_what_it_wrote(store):
    """The manifest is told what was written, not what is read back."""
    with store.create("folder/file") as writer:
        writer.write(b"ab")
        writer.write(memoryview(b"cdef").cast("H"))
        assert writer.size == 6
        writer.commit()
    assert writer.sha256 == "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721"
    assert files(store) == {"folder/file": b"abcdef"}


def test_without_commit_nothing_appears(store):
    """Also when the body raises."""
    with store.create("file") as writer:
        writer.write(NEW)

    def fail():
        with store.create("file") as writer:
            writer.write(NEW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert files(store) == {}


# -- names, rename, delete -------------------------------------------------------------------------


def test_names_are_sorted_and_without_temporary_files_and_folders(store):
    """What is in the making has no name yet."""
    for name in ("b", "a", "folder/inner"):
        store.put(f"x/{name}", b"")
    store.path(f"x/{TEMPORARY}1").write_bytes(b"half")
    assert store.names("x") == ["x/a", "x/b"]
    assert store.names("none") == []


def test_sweeping_removes_temporary_files_alone(store):
    """What a killed process left is removed; the user's files are not."""
    store.put("x/a", b"")
    store.path(f"x/{TEMPORARY}1").write_bytes(b"half")
    store.sweep("x")
    store.sweep("none")
    assert files(store) == {"x/a": b""}


def test_renaming_replaces_and_makes_the_folder(store):
    """A staged file takes its final name."""
    store.put("next/a", NEW)
    store.put("final/a", OLD)
    store.rename("next/a", "final/a")
    store.put("next/b", NEW)
    store.rename("next/b", "other/b")
    assert files(store) == {"final/a": NEW, "other/b": NEW}


def test_deleting_what_is_not_there_is_no_error(store):
    """Deleting is done when it is gone."""
    store.put("folder/deep/file", NEW)
    store.put("file", NEW)
    for name in ("folder", "file", "folder", "file", "never"):
        store.delete(name)
    assert list(store.root.iterdir()) == []


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path):
    """A plan asks before the run directory is made."""
    assert free_bytes(tmp_path / "a" / "b") > 0


# -- append ----------------------------------------------------------------------------------------


@given(
    writes=st.lists(st.lists(st.binary(max_size=9), min_size=1, max_size=3), max_size=5),
    steps=st.lists(st.integers(1, 7), min_size=1, max_size=9),
)
@settings(max_examples=60, deadline=None)
def test_short_writes_are_gone_on_with(tmp_path_factory, writes, steps):
    """The system may take fewer bytes than it was given: none is lost, doubled or moved."""
    store, turn = Store(tmp_path_factory.mktemp("short")), [0]
    real = os.writev

    def short(file, parts):
        turn[0] += 1
        most = steps[turn[0] % len(steps)]
        return real(file, [b"".join(bytes(part) for part in parts)[:most]])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "writev", short)
        appender = store.append("folder/file")
        starts = [appender.write(*map(memoryview, parts)) for parts in writes]
        appender.close()
    whole = [b"".join(parts) for parts in writes]
    assert store.read("folder/file") == b"".join(whole)
    assert starts == [sum(map(len, whole[:n])) for n in range(len(whole))]
    assert appender.size == sum(map(len, whole))


def test_a_write_is_one_call_and_at_once_visible(store, monkeypatch):
    """`kill -9` after `write` loses nothing."""
    calls = []
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda f, parts: calls.append(1) or real(f, parts))
    appender = store.append("file")
    appender.write(b"head", memoryview(b"body"))
    assert store.read("file") == b"headbody"
    assert calls == [1]
    appender.close()


def test_a_file_is_never_appended_to_by_two(store):
    """A new process starts a new file."""
    store.append("file").close()
    with pytest.raises(FileExistsError):
        store.append("file")


def test_the_first_sync_makes_the_name_durable_too(store, monkeypatch):
    """Data without a name is lost in a power cut; the name is synced once."""
    synced = []
    real = module.sync_folder
    monkeypatch.setattr(module, "sync_folder", lambda path: (synced.append(path), real(path)))
    appender = store.append("file")
    synced.clear()
    appender.sync()
    appender.sync()
    appender.close()
    assert synced == [store.root]


# -- hold ------------------------------------------------------------------------------------------

HOLDER = {"process": 4711, "on": "host-a", "since": "2026-01-01T00:00:00+00:00"}


def test_a_second_run_is_told_at_once_who_holds_the_directory(tmp_path):
    """Process, host and time are named; the directory is free again after the release."""
    hold = Hold(tmp_path / "run", HOLDER)
    with pytest.raises(RunHeldError) as told:
        Hold(tmp_path / "run", HOLDER)
    assert told.value.exit_code == 75
    for word in (str(tmp_path / "run"), "process 4711", "on host-a", "since 2026-01-01"):
        assert word in told.value.message
    hold.release()
    Hold(tmp_path / "run", HOLDER).release()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_holder_that_told_nothing_yet_is_still_a_holder(tmp_path, content):
    """Between taking the lock and writing the name there is a moment."""
    hold = Hold(tmp_path, HOLDER)
    (tmp_path / ".lock").write_bytes(content)
    with pytest.raises(RunHeldError, match="has not told its name"):
        Hold(tmp_path, HOLDER)
    hold.release()


def test_the_name_of_an_earlier_holder_does_not_stay(tmp_path):
    """A shorter name leaves no rest of a longer one."""
    Hold(tmp_path, {"process": 10**15}).release()
    hold = Hold(tmp_path, {"process": 1})
    assert json.loads((tmp_path / ".lock").read_bytes()) == {"process": 1}
    hold.release()
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_killed_process_holds_nothing(tmp_path):
    """The operating system gives the directory back, whatever the end."""
    program = (
        "import sys, pathlib; from batchembed.lock import Hold\n"
        "Hold(pathlib.Path(sys.argv[1]), {'process': 1}); print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(RunHeldError, match="process 1"):
            Hold(tmp_path, HOLDER)
        process.send_signal(signal.SIGKILL)
        process.wait()
    Hold(tmp_path, HOLDER).release()


def test_a_child_does_not_inherit_the_hold(tmp_path):
    """A key command that outlives the run must not keep the directory."""
    hold = Hold(tmp_path, HOLDER)
    assert not os.get_inheritable(hold._locks[0]._file)
    hold.release()


def test_a_directory_that_cannot_be_made_is_a_usage_error(tmp_path):
    """A file stands where the run directory should be."""
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UsageError) as told:
            Hold(path, HOLDER)
        assert f"`{path}`" in told.value.message
        assert told.value.hint


def test_a_lock_file_that_is_a_link_is_not_followed(tmp_path):
    """Nobody else's file is emptied."""
    (tmp_path / "precious").write_bytes(OLD)
    (tmp_path / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(NotFinishedError, match="lock"):
        Hold(tmp_path, HOLDER)
    assert (tmp_path / "precious").read_bytes() == OLD
