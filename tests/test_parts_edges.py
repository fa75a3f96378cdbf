"""Parts at their edges: vectors in several columns, rows by number, and the words of damage."""

import hashlib

import numpy as np
import orjson
import pyarrow as pa
import pytest
from test_parts import D, batch, keys, manifest, note, part, vectors

from batchembed.errors import DamagedError, UsageError
from batchembed.exchange import Reject
from batchembed.extent import Extent
from batchembed.parts import (
    EXTENT,
    FORMAT,
    KEY,
    MANIFEST,
    VOUCHER,
    FileNote,
    PublishedPart,
    RunVectors,
    known_rejects,
    part_batch,
    part_name,
    part_schema,
    read_manifest,
    read_voucher,
    vector_columns,
)
from batchembed.seal import sealed
from batchembed.store import Store

LOST = "delete it and run the job again: it is made anew, from what is paid for"
AGAIN = "delete it and run its job again: what is missing is made anew"
KEPT = pa.schema([pa.field("id", pa.string())])
BOTH = ("embedding_l1", "embedding_l2")


def joined(numbers, dtype="float32", has=None):
    """A batch whose rows have two vectors, that of n and that of n + 100."""
    has = np.array([True] * len(numbers) if has is None else has)
    schema = part_schema(KEPT, D, dtype, {"a": 1}, outputs=("l1", "l2"))
    given = np.hstack([vectors(*numbers), vectors(*(n + 100 for n in numbers))])
    kept = pa.RecordBatch.from_arrays([pa.array([f"id-{n}" for n in numbers])], schema=KEPT)
    return part_batch(schema, kept, given, has, keys(*numbers))


@pytest.mark.parametrize("known", [True, False])
def test_the_extent_of_a_text_that_is_too_long_stands_behind_its_key(known):
    """A row's own, by its key; null for all others."""
    schema = part_schema(KEPT, D, "float32", {}, extents=True)
    kept = pa.RecordBatch.from_arrays([pa.array(["id-1", "id-2"])], schema=KEPT)
    extent = Extent(90, 60, 1)
    extents = {keys(2)[0].tobytes(): extent} if known else None
    made = part_batch(schema, kept, vectors(1, 2), np.ones(2, bool), keys(1, 2), extents=extents)
    assert made.schema.names[-2:] == [KEY, EXTENT]
    told = made.column(EXTENT).to_pylist()
    assert told == [None, extent._asdict() if known else None]
    assert made.column(KEY).to_pylist() == [key.tobytes() for key in keys(1, 2)]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "run")


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_several_outputs_are_as_many_columns(dtype):
    """In the order of the outputs, each null where the row has none, and the key behind them."""
    made = joined([1, 2, 3], dtype, [True, False, True])
    assert made.schema.names == ["id", *BOTH, KEY]
    for column, shift in zip(BOTH, (0, 100), strict=True):
        field = made.schema.field(column).type
        value = pa.float16() if dtype == "float16" else pa.float32()
        assert (field.list_size, field.value_type, field.value_field.name) == (D, value, "item")
        expected = [vectors(1 + shift)[0].tolist(), None, vectors(3 + shift)[0].tolist()]
        assert made.column(column).to_pylist() == expected
    assert made.column(KEY).to_pylist() == [bytes([n] * 16) for n in (1, 2, 3)]
    assert orjson.loads(made.schema.metadata[b"batchembed"]) == {"a": 1}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_part_of_several_columns_tells_where_each_begins(tmp_path, dtype):
    """Places are those of the first column; `splits` has the others, batch by batch."""
    groups = [[1, 2, 3], [], [4], list(range(10, 30))]
    path = part(tmp_path / "p.arrow", *(joined(some, dtype) for some in groups))
    data, width = path.read_bytes(), D * (2 if dtype == "float16" else 4)
    made = PublishedPart(path, width, BOTH)
    splits = made.splits()
    assert (splits.dtype, splits.shape) == (np.int64, (3, 2))

    def at(place):
        return np.frombuffer(data[place : place + width], dtype).astype(np.float32).tolist()

    for starts, some in zip(splits.tolist(), [g for g in groups if g], strict=True):
        for row, number in enumerate(some):
            assert at(starts[0] + row * width) == vectors(number)[0].tolist()
            assert at(starts[1] + row * width) == vectors(number + 100)[0].tolist()
    found = {k.tobytes(): p for some, ps in made.entries() for k, p in zip(some, ps, strict=True)}
    assert found[bytes([2] * 16)] == splits[0, 0] + width
    assert len(found) == 24
    assert PublishedPart(path, width).splits() is None
    empty = part(tmp_path / "e.arrow", joined([]))
    assert PublishedPart(empty, width, BOTH).splits().shape == (0, 2)


def test_one_output_needs_no_name():
    """The column is `embedding` whether it is named or not."""
    assert vector_columns(()) == vector_columns(("l1",)) == ("embedding",)
    assert vector_columns(("l1", "l2")) == BOTH
    assert manifest(outputs=("l1", "l2")).numbers == 2 * D
    assert manifest().numbers == D


# -- a run as one side of a comparison ------------------------------------------------------------


def kept_run(store, *groups, outputs=(), **more):
    """A run of these batches, each a part, and its manifest."""
    notes = []
    for number, some in enumerate(groups):
        part(store.path(part_name(number)), *some)
        notes.append(note(store, part_name(number), sum(map(len, some))))
    made = manifest(parts=tuple(notes), outputs=outputs, **more)
    store.put(MANIFEST, made.to_json())
    return made


def test_whole_rows_are_taken_by_number(store):
    """Vectors and keys included, across batches and parts, and nothing of other parts."""
    kept_run(store, [batch([1, 2]), batch([3, 4, 5])], [batch([6])], [batch([7, 8])])
    run = RunVectors(store.root)
    found = run.take(np.array([0, 2, 4, 6, 7]))
    assert found["id"].to_pylist() == [f"id-{n}" for n in (1, 3, 5, 7, 8)]
    assert found["embedding"].to_pylist() == [vectors(n)[0].tolist() for n in (1, 3, 5, 7, 8)]
    assert found[KEY].to_pylist() == [bytes([n] * 16) for n in (1, 3, 5, 7, 8)]
    assert [run.row(n)["embedding_of"] for n in range(8)] == list(range(1, 9))
    assert run.names == ["id", "embedding_of"]
    assert run.column("embedding_of").to_pylist() == list(range(1, 9))
    assert run.column(None).type == pa.int64()
    run.close()


def test_what_is_read_is_float32_whatever_is_stored(store):
    """A row without a vector is zeros."""
    kept_run(store, [batch([1, 2], [True, False], dtype="float16")], dtype="float16")
    found, has = RunVectors(store.root).read(0, 2)
    assert (found.dtype, has.dtype) == (np.float32, np.bool_)
    assert found.tolist() == [vectors(1)[0].tolist(), [0.0] * D]
    assert has.tolist() == [True, False]
    assert RunVectors(store.root).read(1, 1)[0].shape == (0, D)


def test_a_run_without_rows_has_no_ids_and_no_names(store):
    """It can be compared with nothing, and does not fail for it."""
    kept_run(store)
    run = RunVectors(store.root, name="other")
    assert (run.rows, run.names, run.name, len(run.ids)) == (0, [], "other", 0)


def test_of_several_columns_one_must_be_named(store):
    """And it must be there; what a text has is cut as the columns are."""
    kept_run(store, [joined([1, 2])], outputs=("l1", "l2"))
    there = "name one as `column`: `embedding_l1`, `embedding_l2`"
    for given, why in (
        (None, "has several columns of vectors"),
        ("embedding", "has no vectors in a column `embedding`"),
    ):
        with pytest.raises(UsageError) as told:
            RunVectors(store.root, column=given)
        assert told.value.message == f"`{store.root}` {why}"
        assert told.value.hint == there
    whole = np.arange(2 * D)
    for at, name in enumerate(BOTH):
        run = RunVectors(store.root, column=name)
        assert run.read(0, 2)[0].tolist() == vectors(1 + 100 * at, 2 + 100 * at).tolist()
        assert run.part_of(whole).tolist() == whole[at * D : (at + 1) * D].tolist()
        assert run.row(1) == {"id": "id-2"}
        assert run.names == ["id"]


def test_what_is_not_a_run_is_told_word_for_word(store, tmp_path):
    """A folder without a manifest, and a file."""
    with pytest.raises(UsageError) as told:
        RunVectors(tmp_path)
    assert told.value.message == f"`{tmp_path}` is not a complete run: it has no manifest.json"
    assert told.value.hint == (
        "finish it with `batchembed run`, or give the folder of a finished run"
    )
    file = tmp_path / "texts.csv"
    file.write_text("text\na\n")
    with pytest.raises(UsageError) as told:
        read_manifest(Store(file))
    assert told.value.message == f"`{file}` is a file, not the directory of a run"
    assert told.value.hint == (
        f"embed it first, and give the run: batchembed embed {file} --text COL --out runs/texts"
    )


def test_a_part_that_is_damaged_says_how(store):
    """Its path, what is wrong with it, and the way on."""
    kept_run(store, [batch([1, 2])])
    path = store.path(part_name(0))
    whole = path.read_bytes()
    for data, why in (
        (whole[:-1], f"has {len(whole) - 1} bytes, not {len(whole)}"),
        (bytes(len(whole)), "cannot be read: "),
        (None, "is missing"),
    ):
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(DamagedError) as told:
            RunVectors(store.root)
        assert told.value.message.startswith(f"`{path}` {why}")
        assert told.value.hint == AGAIN


# -- the manifest and the rejects -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "is not JSON: "),
        (sealed({"a": 1}).replace(b"1", b"2", 1), "is damaged: "),
        (b"[]", "is not a manifest, but JSON of another kind"),
        (b"{}", "is not a manifest: 'parts'"),
        (orjson.dumps({"format": "x", "parts": 7}), "is not a manifest: "),
    ],
)
def test_a_manifest_that_is_none_says_why(store, data, why):
    """Its path, what is wrong with it, and the way on; as a voucher it says nothing."""
    for name in (MANIFEST, VOUCHER):
        store.put(name, data)
        with pytest.raises(DamagedError) as told:
            read_manifest(store, name)
        assert told.value.message.startswith(f"`{store.path(name)}` {why}")
        assert told.value.hint == LOST
    assert read_voucher(store) is None


def test_the_voucher_is_the_last_manifest(store):
    """A copy by which parts stay paid for; none is none."""
    assert read_voucher(store) is None
    store.put(VOUCHER, manifest(seconds=9.0).to_json())
    assert read_voucher(store).seconds == 9.0
    assert read_manifest(store) is None


def test_a_newer_format_says_which_is_known(store):
    """And which program to use."""
    for found in (FORMAT + 1, FORMAT + 10):
        store.put(MANIFEST, orjson.dumps({"format": found}))
        with pytest.raises(UsageError) as told:
            read_manifest(store)
        assert told.value.message == (
            f"`{store.path(MANIFEST)}` has format `{found}`, "
            f"and this batchembed knows up to `{FORMAT}`"
        )
        assert told.value.hint == "use the batchembed that wrote it, or a newer one"


def test_published_rejects_are_known_unless_their_file_is_damaged(store):
    """One without a key, such as an empty text, is of no text; without a status it has 0."""
    table = pa.table(
        {
            "row": [3, 5, 8],
            "embedding_key": pa.array([b"k" * 16, None, b"l" * 16], pa.binary(16)),
            "reason": ["refused", "empty", "too_long"],
            "message": ["no", "", "long"],
            "status": pa.array([400, None, None], pa.int32()),
            "request_id": ["id-1", "", ""],
        }
    )
    path = store.path("rejects.arrow")
    path.parent.mkdir(parents=True)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    data = path.read_bytes()
    told = FileNote("rejects.arrow", 3, len(data), hashlib.sha256(data).hexdigest())
    assert known_rejects(store, manifest(rejects=told)) == [
        Reject(b"k" * 16, "refused", "no", 400, "id-1"),
        Reject(b"l" * 16, "too_long", "long", 0, ""),
    ]
    assert known_rejects(store, manifest()) == []
    path.write_bytes(data.replace(b"refused", b"refuted"))
    assert known_rejects(store, manifest(rejects=told)) == []
    path.unlink()
    assert known_rejects(store, manifest(rejects=told)) == []
