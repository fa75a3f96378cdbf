"""Parts and the manifest: what is written is read back, and what is damaged is told."""

import dataclasses
import hashlib

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pytest

from batchembed.errors import ActionNeededError, DamagedError, UsageError
from batchembed.parts import (
    FORMAT,
    KEY,
    MANIFEST,
    VECTOR,
    FileNote,
    Manifest,
    PublishedPart,
    RunVectors,
    is_part,
    part_batch,
    part_name,
    part_schema,
    read_manifest,
    whole_parts,
)
from batchembed.store import Store

D = 4
KEPT = pa.schema([pa.field("id", pa.string()), pa.field("embedding_of", pa.int32())])


def keys(*numbers):
    return np.array([[n] * 16 for n in numbers], np.uint8).reshape(-1, 16)


def vectors(*numbers):
    return np.array([[n, n + 0.5, -n, 1] for n in numbers], np.float32).reshape(-1, D)


def batch(numbers, has=None, *, dtype="float32", kept=KEPT):
    """A batch of a part; the row of number n has the key and the vector of n, 0 has no key."""
    has = np.array([True] * len(numbers) if has is None else has, bool)
    columns = [pa.array([f"id-{n}" for n in numbers]), pa.array(numbers, pa.int32())]
    some = pa.RecordBatch.from_arrays(columns[: len(kept)], schema=kept)
    given = np.where(has[:, None], vectors(*numbers), 0).astype(np.float32)
    return part_batch(part_schema(kept, D, dtype, {"a": 1}), some, given, has, keys(*numbers))


def part(path, *batches):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_file(str(path), batches[0].schema) as writer:
        for some in batches:
            writer.write_batch(some)
    return path


def note(store, name, rows):
    data = store.read(name)
    return FileNote(name, rows, len(data), hashlib.sha256(data).hexdigest())


def manifest(**more):
    made = {
        "format": FORMAT,
        "batchembed": "0",
        "identity": {"role": "document"},
        "corpus": {"id": "id"},
        "parts": (),
        "rejects": None,
        "similarity": (),
        "compared": None,
        "counts": {"rows": 0},
        "reasons": {},
        "bill": {"requests": 0},
        "dimensions": D,
        "dtype": "float32",
        "model_versions": ("m",),
        "seconds": 1.5,
        "finished": "then",
    }
    return Manifest(**{**made, **more})


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


# -- the manifest ----------------------------------------------------------------------------------


def test_a_manifest_is_read_as_it_was_written(store):
    """With every field, and files of all kinds."""
    some = FileNote("embeddings/part-00000.arrow", 1, 2, "ab")
    whole = manifest(parts=(some, some), rejects=some, similarity=(some,), compared={"top_k": 3})
    store.put(MANIFEST, whole.to_json())
    assert read_manifest(store) == whole
    assert store.read(MANIFEST).endswith(b"}\n")


def test_without_a_manifest_there_is_none(store):
    """The run is not complete."""
    assert read_manifest(store) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b"{}",
        b'{"format":1}',
        b"\xff\xfe",
        orjson.dumps({**dataclasses.asdict(manifest()), "soon": 1}),
        orjson.dumps({**dataclasses.asdict(manifest()), "parts": [{"name": "x"}]}),
        orjson.dumps({**dataclasses.asdict(manifest()), "parts": None}),
        manifest().to_json()[:-40],
    ],
)
def test_a_file_that_is_no_manifest_is_damage(store, data):
    """Named with its path, and with the way out."""
    store.put(MANIFEST, data)
    with pytest.raises(DamagedError) as told:
        read_manifest(store)
    assert str(store.path(MANIFEST)) in told.value.message
    assert told.value.hint


def test_a_newer_format_is_refused(store):
    """It is not damage: another program wrote it."""
    store.put(MANIFEST, orjson.dumps({"format": FORMAT + 1}))
    with pytest.raises(UsageError, match=f"`{FORMAT + 1}`"):
        read_manifest(store)


def test_the_names_of_parts():
    """Numbered in the order of the corpus; what a user puts beside them is not ours."""
    assert part_name(7) == "embeddings/part-00007.arrow"
    assert is_part(part_name(0))
    assert is_part(part_name(123_456))
    for foreign in (
        "embeddings/part-1.arrow",
        "embeddings/mine.arrow",
        "part-00000.arrow",
        "embeddings/part-00000.arrow.bak",
        "embeddings/x/part-00000.arrow",
    ):
        assert not is_part(foreign)


# -- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_part_holds_the_columns_the_vectors_and_the_keys(tmp_path, dtype):
    """Read by polars as well; a row without vector has null, one without text no key either."""
    path = part(
        tmp_path / "p.arrow",
        batch([1, 0, 3], [True, False, False], dtype=dtype),
        batch([4], dtype=dtype),
    )
    found = pl.scan_ipc(path).collect()
    assert found.columns == ["id", "embedding_of", VECTOR, KEY]
    assert found["id"].to_list() == ["id-1", "id-0", "id-3", "id-4"]
    expected = [vectors(1)[0].tolist(), None, None, vectors(4)[0].tolist()]
    assert [None if v is None else list(v) for v in found[VECTOR].to_list()] == expected
    assert found[KEY].to_list() == [b"\1" * 16, None, b"\3" * 16, b"\4" * 16]
    schema = pa.ipc.open_file(str(path)).schema
    value = pa.float16() if dtype == "float16" else pa.float32()
    assert schema.field(VECTOR).type == pa.list_(value, D)
    assert orjson.loads(schema.metadata[b"batchembed"]) == {"a": 1}


def test_the_corpus_own_metadata_is_kept():
    """Ours stands beside it."""
    kept = KEPT.with_metadata({"theirs": "x"})
    assert part_schema(kept, D, "float32", {}).metadata == {b"theirs": b"x", b"batchembed": b"{}"}


def test_a_batch_without_kept_columns_has_its_rows(tmp_path):
    """`keep = []` leaves the vector and its key."""
    path = part(tmp_path / "p.arrow", batch([1, 2], kept=pa.schema([])))
    assert pl.scan_ipc(path).collect().shape == (2, 2)


@pytest.mark.parametrize("number", [65505.0, 7e4, 3e38])
def test_a_number_that_the_dtype_cannot_hold_is_told(number):
    """Infinity is not written silently; 65,504 still fits."""
    schema = part_schema(pa.schema([]), D, "float16", {})
    empty = pa.RecordBatch.from_arrays([], schema=pa.schema([]))

    def written(value):
        made = np.array([[value, 1, 1, 1]], np.float32)
        return part_batch(schema, empty, made, np.array([True]), keys(1))

    assert written(65504.0).column(0).to_pylist()[0][0] == 65504.0
    if number > 65519:  # what rounds to 65,504 is within the precision of the dtype
        with pytest.raises(ActionNeededError, match="float16") as told:
            written(number)
        assert "float32" in told.value.hint


# -- published parts as sources --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_part_tells_where_its_vectors_are(tmp_path, dtype):
    """The bytes at each offset are those of the vector; rows without one are left out."""
    path = part(
        tmp_path / "p.arrow",
        batch([1, 0, 3, 4, 5], [True, False, True, False, True], dtype=dtype),
        batch([6], [False], dtype=dtype),
        batch(list(range(10, 90)), dtype=dtype),
    )
    data, width = path.read_bytes(), D * (2 if dtype == "float16" else 4)
    found = {}
    for some, offsets in PublishedPart(path, width).entries():
        for key, at in zip(some, offsets, strict=True):
            stored = np.frombuffer(data[at : at + width], dtype)
            found[key.tobytes()] = stored.astype(np.float32).tolist()
    wanted = [1, 3, 5, *range(10, 90)]
    assert found == {bytes([n] * 16): vectors(n)[0].tolist() for n in wanted}


def test_damaged_parts_are_told_from_whole_ones(store):
    """One flipped bit, one byte less, or no file at all: each is noticed."""
    notes = []
    for number in range(4):
        part(store.path(part_name(number)), batch([number + 1]))
        notes.append(note(store, part_name(number), 1))
    flipped = bytearray(store.read(part_name(1)))
    flipped[len(flipped) // 2] ^= 1
    store.path(part_name(1)).write_bytes(flipped)
    store.path(part_name(2)).write_bytes(store.read(part_name(2))[:-1])
    store.delete(part_name(3))
    whole, damaged = whole_parts(store, manifest(parts=tuple(notes)))
    assert [one.path for one in whole] == [store.path(part_name(0))]
    assert damaged == notes[1:]
    halves = whole_parts(store, manifest(parts=tuple(notes[:1]), dtype="float16"))[0]
    assert [one.width for one in (*whole, *halves)] == [16, 8]


# -- a run as one side of a comparison -------------------------------------------------------------


@pytest.fixture(params=["float32", "float16"])
def run(request, store):
    """A run of three parts, of which rows 2 and 6 have no vector."""
    rows = [[0, 1], [2, 3, 4], [5, 6, 7, 8]]
    notes = []
    for number, some in enumerate(rows):
        cut = [some[:1], some[1:]]
        batches = [
            batch([n + 1 for n in c], [n not in (2, 6) for n in c], dtype=request.param)
            for c in cut
        ]
        part(store.path(part_name(number)), *batches)
        notes.append(note(store, part_name(number), len(some)))
    store.put(MANIFEST, manifest(parts=tuple(notes), dtype=request.param).to_json())
    found = RunVectors(store.root)
    yield found
    found.close()


def test_any_stretch_of_rows_is_read(run):
    """Across batches and parts, as a slice of the whole would be."""
    whole = vectors(*range(1, 10))
    has = np.array([n not in (2, 6) for n in range(9)])
    for start in range(10):
        for stop in range(start, 10):
            found, which = run.read(start, stop)
            assert which.tolist() == has[start:stop].tolist()
            assert (found[which] == whole[start:stop][which]).all()
            assert not found[~which].any()


def test_rows_and_columns_are_found_by_number(run):
    """Ids in corpus order; a row comes without its vector and key."""
    assert (run.rows, run.dimensions, run.role, run.name) == (9, D, "document", "run")
    assert run.ids.to_pylist() == [f"id-{n}" for n in range(1, 10)]
    assert run.column(None).to_pylist() == list(range(9))
    assert [run.row(n) for n in range(9)] == [
        {"id": f"id-{n}", "embedding_of": n} for n in range(1, 10)
    ]


def test_a_run_that_is_not_complete_is_a_usage_error(tmp_path):
    """There is nothing to compare yet."""
    with pytest.raises(UsageError, match=MANIFEST) as told:
        RunVectors(tmp_path)
    assert told.value.hint


@pytest.mark.parametrize("damage", ["gone", "shorter", "torn"])
def test_a_damaged_part_is_told(run, store, damage):
    """Before its bytes are believed."""
    path = store.path(part_name(1))
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(
            data[:-1]
            if damage == "shorter"
            else data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
        )
    with pytest.raises(DamagedError) as told:
        RunVectors(store.root)
    assert str(path) in told.value.message
    assert told.value.hint
