"""Checkpoint segments: whole frames come back exactly, damaged ones never come back wrong."""

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed import segments
from batchembed.exchange import Reject
from batchembed.segments import (
    HEAD,
    MAGIC,
    PAYLOAD,
    REJECTS,
    VECTORS,
    Damage,
    read_frames,
    read_sealed,
    rejects_frame,
    sealed,
    vectors_frame,
)


def keys(*numbers):
    return np.array([[n] * 16 for n in numbers], np.uint8).reshape(-1, 16)


def crc32c(data):
    """The checksum as its definition has it, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 * (crc & 1))
    return crc ^ 0xFFFFFFFF


def joined(frame):
    return b"".join(bytes(part) for part in frame)


NOTE = {"tokens": 7, "model_version": "m-1"}
FRAMES = [
    joined(vectors_frame(keys(1, 2), np.array([[1.5, -2.0], [0.25, 3.0]], np.float32), NOTE)),
    joined(rejects_frame([Reject(b"k" * 16, "refused", "no, sorry: ✗", 400, "id-1")])),
    joined(vectors_frame(keys(3), np.array([[7.0, 8.0]], np.float32), {})),
]
WHOLE = b"".join(FRAMES)
ENDS = np.cumsum([len(frame) for frame in FRAMES]).tolist()


def read(data, path):
    """What a segment of these bytes holds, in plain values, and what was passed over."""
    path.write_bytes(data)
    damage, found = Damage(), []
    for frame in read_frames(path, damage):
        if frame.kind == REJECTS:
            found.append(frame.rejects())
        else:
            count = len(frame.keys) * frame.width // 4
            vectors = np.frombuffer(data, "<f4", count, frame.offset)
            found.append((frame.note, frame.keys.tolist(), frame.width, vectors.tolist()))
    return found, damage


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "000001.segment"


def test_what_is_written_is_read(file):
    """Vectors, notes, rejects and places come back as they went in."""
    found, damage = read(WHOLE, file)
    assert found == [
        (NOTE, keys(1, 2).tolist(), 8, [1.5, -2.0, 0.25, 3.0]),
        [Reject(b"k" * 16, "refused", "no, sorry: ✗", 400, "id-1")],
        ({}, keys(3).tolist(), 8, [7.0, 8.0]),
    ]
    assert (damage.frames, damage.bytes) == (0, 0)


def test_the_bytes_of_a_frame_never_change():
    """A reader of another language, or of next year, finds the frame as the format says it is."""
    payload = struct.pack("<BIII", VECTORS, 2, 1, 8) + b"{}" + b"\x03" * 16
    payload += struct.pack("<2f", 7.0, 8.0)
    assert crc32c(b"123456789") == 0xE3069283
    assert FRAMES[2] == b"bE1\n" + struct.pack("<II", len(payload), crc32c(payload)) + payload


@given(
    count=st.integers(0, 5),
    width=st.integers(1, 7),
    seed=st.integers(0, 99),
    version=st.text(st.characters(exclude_categories=["Cs"])),
)
@settings(max_examples=50, deadline=None)
def test_any_vectors_round_trip(tmp_path_factory, count, width, seed, version):
    """Every float32, NaN and infinity too, comes back with its bits."""
    bits = np.random.default_rng(seed).integers(0, 2**32, (count, width), np.uint32)
    vectors = bits.view(np.float32)
    note = {"tokens": seed, "model_version": version}
    path = tmp_path_factory.mktemp("any") / "s"
    path.write_bytes(b"".join([*FRAMES, joined(vectors_frame(keys(*range(count)), vectors, note))]))
    last = list(read_frames(path))[-1]
    raw = path.read_bytes()[last.offset :]
    assert (last.note, last.keys.tolist(), last.width) == (
        note,
        keys(*range(count)).tolist(),
        4 * width,
    )
    assert raw == bits.astype("<u4").tobytes()


def test_a_cut_at_any_byte_keeps_the_frames_before_it(file):
    """A torn tail costs the frame it tears, is counted, and nothing else."""
    whole, _ = read(WHOLE, file)
    for cut in range(len(WHOLE) + 1):
        found, damage = read(WHOLE[:cut], file)
        kept = sum(end <= cut for end in ENDS)
        torn = cut - ([0, *ENDS][kept])
        assert found == whole[:kept], cut
        assert (damage.frames, damage.bytes) == (bool(torn), torn), cut


def flipped(bit):
    data = bytearray(WHOLE)
    data[bit // 8] ^= 1 << (bit % 8)
    return bytes(data)


def wrong_after_flips(file):
    """The flips of one bit after which anything but 'that frame is lost' is read."""
    whole, _ = read(WHOLE, file)
    bad = []
    for bit in range(8 * len(WHOLE)):
        hit = next(n for n, end in enumerate(ENDS) if bit // 8 < end)
        try:
            found, damage = read(flipped(bit), file)
        except Exception as error:  # noqa: BLE001 - any of them is a finding
            bad.append((bit, error))
            continue
        if found != whole[:hit] + whole[hit + 1 :] or not damage.frames:
            bad.append((bit, found))
    return bad


def test_any_flipped_bit_costs_its_frame_alone(file):
    """Damage is never read as content, and the frames after it survive."""
    assert wrong_after_flips(file) == []


def test_without_the_checksum_flipped_bits_are_read(file, monkeypatch):
    """The control: with the checksum taken away, the test above finds silent damage."""
    monkeypatch.setattr(segments.google_crc32c, "value", _any_checksum(file))
    assert len(wrong_after_flips(file)) > 100


def _any_checksum(file):
    """A checksum that always agrees with what stands before the payload it is asked about."""

    def value(payload):
        at = file.read_bytes().find(payload)
        return struct.unpack_from("<I", file.read_bytes(), at - 4)[0] if at >= 4 else 0

    return value


@pytest.mark.parametrize(
    "foreign",
    [
        b"",
        b"\0",
        b"hello",
        b"\0" * 5000,
        MAGIC,
        MAGIC * 3,
        MAGIC + b"\0" * 8,
        MAGIC + b"\0" * 800,
        MAGIC + b"\xff" * 8,
        HEAD.pack(MAGIC, PAYLOAD.size - 1, 0),
        b"x" * ((1 << 20) - 3),
        b"x" * (1 << 20),
        FRAMES[0][:-1],
    ],
    ids=lambda foreign: f"{foreign[:8].hex()}x{len(foreign)}",
)
@pytest.mark.parametrize("where", [0, 1, 2, 3])
def test_foreign_bytes_are_passed_over(file, foreign, where):
    """Whatever stands between frames, the frames are found, and the bytes are counted."""
    whole, _ = read(WHOLE, file)
    data = b"".join([*FRAMES[:where], foreign, *FRAMES[where:]])
    found, damage = read(data, file)
    assert found == whole
    assert damage.bytes == len(foreign)


@pytest.mark.parametrize("off", range(-6, 3))
@pytest.mark.parametrize("mebibytes", [1, 2])
def test_a_magic_is_found_across_the_windows_in_which_it_is_looked_for(file, off, mebibytes):
    """Each window begins with the last bytes of the one before, wherever the magic is cut."""
    foreign = (mebibytes << 20) + off
    found, damage = read(b"x" * foreign + WHOLE, file)
    assert found == read(WHOLE, file)[0]
    assert (damage.frames, damage.bytes) == (1, foreign)


def test_a_sealed_payload_is_read_one_by_one(file):
    """Up to its own end and no further; torn, changed or too short, it is none."""
    some = [joined(sealed(b"front", b"block")), joined(sealed(b"a"))]
    file.write_bytes(b"".join(some))
    with file.open("rb") as opened:
        assert read_sealed(opened) == b"frontblock"
        assert opened.tell() == len(some[0])
        assert read_sealed(opened, 2) is None
        opened.seek(len(some[0]))
        assert read_sealed(opened, 1) == b"a"
        assert read_sealed(opened) is None
    for spoiled in (some[0][:-1], some[0][:-1] + b"X", b"X" + some[0][1:], some[0][:7]):
        file.write_bytes(spoiled)
        with file.open("rb") as opened:
            assert read_sealed(opened) is None


def test_rejects_are_told_with_their_own_keys(file):
    """Each with all that was said of it; and never more of the one than of the other."""
    some = [Reject(bytes([n]) * 16, f"why {n}", f"said {n}", 400 + n, f"id-{n}") for n in range(3)]
    file.write_bytes(joined(rejects_frame(some, {"tokens": 4})))
    (frame,) = read_frames(file)
    assert frame.rejects() == some
    assert (frame.note["tokens"], frame.width, frame.kind) == (4, 0, REJECTS)
    with pytest.raises(ValueError, match="zip"):
        replace(frame, keys=frame.keys[:2]).rejects()


def test_a_magic_inside_a_payload_is_content(file):
    """A key or vector may look like the start of a frame; also when the frame itself is damaged."""
    looks = np.frombuffer(MAGIC * 4, np.uint8).reshape(1, 16)
    inner = np.frombuffer(MAGIC * 4, "<f4").reshape(1, 4)
    odd = joined(vectors_frame(looks, inner, {"model_version": "bE1\n"}))
    found, damage = read(odd + WHOLE, file)
    assert found[0] == ({"model_version": "bE1\n"}, looks.tolist(), 16, inner[0].tolist())
    assert damage.frames == 0
    for broken in (odd[:-1], b"X" + odd[1:], odd[:-1] + b"X"):
        assert read(broken + WHOLE, file)[0] == read(WHOLE, file)[0]


def test_a_length_beyond_the_file_takes_no_memory(file, monkeypatch):
    """A damaged length of 4 GB is not asked of the memory."""
    asked = []
    real = Path.open

    def watched(path, *args, **more):
        opened = real(path, *args, **more)
        reading = opened.read
        return _Watched(opened, lambda size: (asked.append(size), reading(size))[1])

    monkeypatch.setattr(Path, "open", watched)
    file.write_bytes(HEAD.pack(MAGIC, 2**32 - 1, 0) + WHOLE)
    assert len(list(read_frames(file))) == 3
    assert max(asked) <= 1 << 20


class _Watched:
    def __init__(self, opened, read):
        self.read = read
        self._opened = opened

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._opened.close()

    def __getattr__(self, name):
        return getattr(self._opened, name)


@given(data=st.binary(max_size=300), at=st.integers(0, len(WHOLE)))
@settings(max_examples=100, deadline=None)
def test_random_bytes_never_crash_nor_become_content(tmp_path_factory, data, at):
    """Overwrite any stretch with anything: what is read is a subset of what was written."""
    path = tmp_path_factory.mktemp("random") / "s"
    whole, _ = read(WHOLE, path)
    found, _ = read(WHOLE[:at] + data + WHOLE[at + len(data) :], path)
    assert all(frame in whole for frame in found)


def test_an_empty_segment_has_no_frames(file):
    """A process that was killed before its first answer leaves an empty file."""
    assert read(b"", file) == ([], Damage())
