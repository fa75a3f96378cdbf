"""Files written past the page cache hold what was written, whatever the sizes."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchembed import direct
from batchembed.direct import DirectFile
from batchembed.store import Store

SMALL = 4096 * 4


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=st.lists(st.integers(0, 3 * SMALL), max_size=8))
def test_what_is_written_is_there(sizes, tmp_path_factory, monkeypatch):
    """Pieces of any size, smaller and larger than a room, follow each other."""
    monkeypatch.setattr(direct, "PIECE", SMALL)
    path = tmp_path_factory.mktemp("direct") / "file"
    rng = np.random.default_rng(len(sizes))
    pieces = [rng.bytes(size) for size in sizes]
    file = DirectFile(path)
    assert [file.write(piece) for piece in pieces] == sizes
    file.flush()
    os.fsync(file.fileno())
    file.close()
    assert path.read_bytes() == b"".join(pieces)


def test_where_the_system_knows_no_direct_writes(tmp_path, monkeypatch):
    """A file system that refuses the flag is written to as others are."""
    true_open = os.open

    def refusing(path, flags, *mode):
        if flags & getattr(os, "O_DIRECT", 0):
            raise OSError(22, "Invalid argument")
        return true_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", refusing)
    file = DirectFile(tmp_path / "file")
    file.write(b"some words")
    file.flush()
    file.close()
    assert (tmp_path / "file").read_bytes() == b"some words"


def test_a_failed_write_is_told(tmp_path, monkeypatch):
    """What the thread could not write is an error of a later call, never silence."""
    monkeypatch.setattr(direct, "PIECE", SMALL)
    file = DirectFile(tmp_path / "file")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        file.write(bytes(3 * SMALL))
    file.close()


def test_a_store_writes_past_the_cache_what_needs_no_digest(tmp_path):
    """The file appears whole when it is committed, and not at all without."""
    with Store(tmp_path).create("kept", hashed=False) as writer:
        writer.write(b"a" * 10_000)
        writer.commit()
    with Store(tmp_path).create("dropped", hashed=False) as writer:
        writer.write(b"b" * 10_000)
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}
    assert (tmp_path / "kept").read_bytes() == b"a" * 10_000
