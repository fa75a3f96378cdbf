"""A corpus gives every row, in order, under its own types, whatever the files are."""

import datetime as dt
import decimal
import time

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import EXTENSIONS, arrow, corpus, kept, parquet, read, refused, stream, texts, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchembed.corpus import Corpus, CorpusSettings, Rows, scan
from batchembed.corpus.formats import BATCH_BYTES, BATCH_ROWS, cuts

TABLE = pa.table(
    {
        "id": ["a", "b", "c", "d"],
        "text": ["one", 'two, "quoted"', "three\nlines\r\n", "fünf 🙂"],
        "note": ["x", "y", "z", "w"],
    }
)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_format_gives_the_same_rows(tmp_path, extension):
    """Texts, ids and kept columns are the same whichever format holds them."""
    path = write(tmp_path / f"corpus.{extension}", TABLE)
    found, ids, rows = read(path, id="id")
    assert found == TABLE["text"].to_pylist()
    assert ids == ["a", "b", "c", "d"]
    assert rows == TABLE.to_pylist()


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_without_an_id_column_the_row_number_is_the_id(tmp_path, extension):
    """Row numbers count from 0 over the whole corpus, as int64 named `row`."""
    path = write(tmp_path / f"corpus.{extension}", TABLE)
    found = corpus(path)
    assert found.id_field == pa.field("row", pa.int64(), nullable=False)
    assert kept(found)[0] == [0, 1, 2, 3]
    assert "row" not in found.kept_schema.names


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_corpus_of_no_rows_is_legal(tmp_path, extension):
    """No rows are read as no rows, with the columns that are named."""
    path = write(tmp_path / f"corpus.{extension}", TABLE.slice(0, 0))
    found = corpus(path, id="id")
    assert texts(found) == []
    assert kept(found) == ([], [])
    assert found.id_field.name == "id"
    assert {"id", "text"} <= set(found.kept_schema.names)


@pytest.mark.parametrize(
    ("extension", "known"), [("parquet", 8), ("arrow", 8), ("arrows", None), ("csv", None)]
)
def test_rows_known_is_the_total_where_all_files_tell(tmp_path, extension, known):
    """Parquet and Arrow files tell how many rows they have; streams and text do not."""
    write(tmp_path / f"1.{extension}", TABLE)
    write(tmp_path / f"2.{extension}", TABLE)
    assert corpus(tmp_path).rows_known == known


def test_rows_of_several_files_are_numbered_through(tmp_path):
    """The second file goes on where the first one ends, empty files in between or not."""
    for name, rows in (("p1", 3), ("p2", 0), ("p10", 2)):
        write(tmp_path / f"{name}.parquet", TABLE.slice(0, rows))
    found = corpus(tmp_path)
    assert texts(found) == [*TABLE["text"].to_pylist()[:3], *TABLE["text"].to_pylist()[:2]]
    assert kept(found)[0] == [0, 1, 2, 3, 4]
    assert found.where(2) == f"`{tmp_path / 'p1.parquet'}`, row 3"
    assert found.where(3) == f"`{tmp_path / 'p10.parquet'}`, row 1"
    assert found.where(4) == f"`{tmp_path / 'p10.parquet'}`, row 2"


TYPES = {
    "date": pa.array([dt.date(2020, 1, 2), None]),
    "time": pa.array([1, None], pa.time64("us")),
    "zoned": pa.array([10**18 + 1, None], pa.timestamp("ns", "Europe/Berlin")),
    "span": pa.array([5, None], pa.duration("ms")),
    "decimal": pa.array([decimal.Decimal("1.10"), None], pa.decimal128(20, 2)),
    "small": pa.array([255, None], pa.uint8()),
    "big": pa.array([2**64 - 1, None], pa.uint64()),
    "half": pa.array(np.array([1.5, 2], np.float16)),
    "flag": pa.array([True, None]),
    "bytes": pa.array([b"\xff\x00", None]),
    "fixed": pa.array([b"0123456789abcdef", None], pa.binary(16)),
    "large": pa.array(["l", None], pa.large_string()),
    "category": pa.array(["red", None]).dictionary_encode(),
    "list": pa.array([[1, None], None]),
    "floats": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
    "struct": pa.array([{"a": 1, "b": ["x"]}, None]),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
    "nothing": pa.nulls(2),
}
ALL_TYPES = pa.table({"text": ["one", None], **TYPES})


@pytest.mark.parametrize("write_as", [parquet, arrow, stream])
def test_kept_columns_have_their_own_types_and_values(tmp_path, write_as):
    """No type is touched: dates, zones, decimals, nested, maps, dictionaries, nulls."""
    extension = {parquet: "parquet", arrow: "arrow", stream: "arrows"}[write_as]
    path = tmp_path / f"all.{extension}"
    path.write_bytes(write_as(ALL_TYPES))
    found = corpus(path)
    assert texts(found) == ["one", None]
    batches = [batch for _, batch in found.metadata()]
    whole = pa.Table.from_batches(batches, schema=found.kept_schema)
    assert whole.schema.equals(ALL_TYPES.schema)
    assert whole.equals(ALL_TYPES)


@pytest.mark.parametrize("kind", [pa.string_view(), pa.large_string(), pa.string()])
def test_every_arrow_type_of_text_is_text(tmp_path, kind):
    """Views, large strings and dictionaries of strings give the same texts."""
    values = pa.array(["a", None, "long enough to stand outside of a view"], pa.string())
    table = pa.table({"plain": values.cast(kind), "category": values.dictionary_encode()})
    (tmp_path / "t.arrow").write_bytes(arrow(table))
    for column in ("plain", "category"):
        assert texts(corpus(tmp_path / "t.arrow", text=column)) == values.to_pylist()


def test_polars_files_are_read_with_their_string_views(tmp_path):
    """An Arrow file that polars wrote keeps its view type."""
    frame = pl.DataFrame({"text": ["a", "b" * 100, None], "n": [1, 2, 3]})
    frame.write_ipc(tmp_path / "p.arrow")
    found = corpus(tmp_path / "p.arrow")
    assert texts(found) == frame["text"].to_list()
    assert found.kept_schema.field("text").type == pa.string_view()


def test_field_metadata_and_nullability_are_kept(tmp_path):
    """A field's own metadata goes along; a field that may be null anywhere may be null."""
    strict = pa.schema([pa.field("text", pa.string(), nullable=False, metadata={"k": "v"})])
    loose = pa.schema([pa.field("text", pa.string())])
    (tmp_path / "1.arrow").write_bytes(arrow(pa.table({"text": ["a"]}, schema=strict)))
    assert corpus(tmp_path).kept_schema.field("text").equals(strict.field("text"), True)
    (tmp_path / "2.arrow").write_bytes(arrow(pa.table({"text": [None]}, schema=loose)))
    found = corpus(tmp_path)
    assert found.kept_schema.field("text").metadata == {b"k": b"v"}
    assert found.kept_schema.field("text").nullable
    assert texts(found) == ["a", None]


def test_a_corpus_of_no_kept_column_still_has_ids(tmp_path):
    """With `keep` empty and no id the metadata is row numbers only."""
    path = write(tmp_path / "c.parquet", TABLE)
    found = corpus(path, keep=())
    assert found.kept_schema.names == []
    assert [ids.to_pylist() for ids, _ in found.metadata()] == [[0, 1, 2, 3]]


@given(st.lists(st.integers(0, 3 * BATCH_BYTES), max_size=50), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_cuts_cover_all_rows_and_stay_small(sizes, extra):
    """Runs follow each other, hold at most 8,192 rows, and 8 MB unless they are one row."""
    sizes = np.array(sizes + [1] * (extra * 5000), np.int64)
    spans = list(cuts(sizes))
    assert [row for start, stop in spans for row in range(start, stop)] == list(range(len(sizes)))
    for start, stop in spans:
        assert stop - start <= BATCH_ROWS
        assert stop - start == 1 or sizes[start:stop].sum() <= BATCH_BYTES


@pytest.mark.parametrize("extension", ["parquet", "arrow", "arrows", "csv", "jsonl"])
def test_batches_have_at_most_8192_rows_and_8_mb(tmp_path, extension):
    """Many short rows are cut by number, long ones by bytes, a larger one stands alone."""
    long = ["x" * 3_000_000] * 4 + ["y" * 9_000_000] + ["z"] * 20_000
    table = pa.table({"text": long})
    path = write(tmp_path / f"long.{extension}", table)
    found = corpus(path)
    seen = [rows.texts for rows in found.texts()]
    assert [text for some in seen for text in some] == long
    assert max(map(len, seen)) <= BATCH_ROWS
    assert all(len(some) == 1 or sum(map(len, some)) <= BATCH_BYTES for some in seen)
    assert ["y" * 9_000_000] in seen
    assert sum(batch.num_rows for _, batch in found.metadata()) == len(long)


def test_the_same_long_text_many_times_stays_small(tmp_path):
    """A file of some KB that would unfold to 1 GB is read a few rows at a time."""
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 10_000, pa.int32()), ["x" * 100_000])
    (tmp_path / "b.parquet").write_bytes(parquet(pa.table({"text": values}), store_schema=False))
    assert (tmp_path / "b.parquet").stat().st_size < 20_000
    before = pa.default_memory_pool().bytes_allocated()
    for read_rows, rows in enumerate(corpus(tmp_path / "b.parquet").texts()):
        assert sum(map(len, rows.texts)) <= BATCH_BYTES
        assert pa.default_memory_pool().bytes_allocated() - before < 64 << 20
        if read_rows == 10:
            break


def test_a_row_group_is_not_read_whole(tmp_path, monkeypatch):
    """Arrow's memory stays far below the size of the one row group of the file."""
    rng = np.random.default_rng(1)
    noise = rng.bytes(30_000 * 1000).hex()
    table = pa.table({"text": [noise[at : at + 2000] for at in range(0, len(noise), 2000)]})
    (tmp_path / "g.parquet").write_bytes(parquet(table, compression="none"))
    assert pq.ParquetFile(tmp_path / "g.parquet").num_row_groups == 1
    del table, noise

    def most():
        before = pa.default_memory_pool().bytes_allocated()
        found = corpus(tmp_path / "g.parquet").texts()
        return max(pa.default_memory_pool().bytes_allocated() - before for _ in found)

    assert most() < 30 << 20
    monkeypatch.setattr("batchembed.corpus.parquet._BUFFER", 0)  # control: the defence taken away
    assert most() > 50 << 20


def test_long_texts_are_read_a_few_at_a_time(tmp_path):
    """How many rows Arrow reads at once depends on how long they are."""
    noise = np.random.default_rng(1).bytes(30_000_000).hex()
    long = [noise[at : at + 20_000] for at in range(0, len(noise), 20_000)]
    table = pa.table({"text": ["short", *long]})
    path = tmp_path / "l.parquet"
    path.write_bytes(parquet(table, compression="none", use_dictionary=False))
    del table, noise, long
    before = pa.default_memory_pool().bytes_allocated()
    for _ in corpus(path).texts():
        assert pa.default_memory_pool().bytes_allocated() - before < 40 << 20


def test_200_000_rows_cost_less_than_0_15_seconds(tmp_path):
    """Reading the texts of a Parquet file costs next to nothing."""
    table = pa.table({"text": [f"{row:08d} " + "x" * 45 for row in range(200_000)]})
    path = write(tmp_path / "many.parquet", table)
    found = corpus(path)
    costs = []
    for _ in range(3):
        start = time.process_time()
        assert sum(len(rows.texts) for rows in found.texts()) == 200_000
        costs.append(time.process_time() - start)
    assert min(costs) < 0.15


def test_the_first_pass_finds_damage_in_columns_it_does_not_need(tmp_path):
    """A kept column that cannot be read ends the first pass, not the last."""
    table = pa.table({"text": ["a"] * 1000, "note": [f"note {n}" for n in range(1000)]})
    data = bytearray(
        parquet(table, use_dictionary=False, compression="none", write_page_checksum=True)
    )
    at = data.index(b"note 500")
    data[at] ^= 1
    (tmp_path / "d.parquet").write_bytes(data)
    with refused("d.parquet", "cannot be read"):
        texts(corpus(tmp_path / "d.parquet"))
    assert texts(corpus(tmp_path / "d.parquet", keep=("text",))) == ["a"] * 1000


def test_fingerprints_differ_with_files_and_settings(tmp_path):
    """Equal files and settings have equal fingerprints, and any change another one."""
    path = write(tmp_path / "c.parquet", TABLE)
    first = corpus(path).fingerprint()
    assert corpus(path).fingerprint() == first
    others = [corpus(path, id="id"), corpus(path, keep=("text",)), corpus(path, text="note")]
    write(path, TABLE)
    others.append(corpus(path))
    write(tmp_path / "d.parquet", TABLE)
    others.append(corpus(tmp_path))
    assert len({first, *(other.fingerprint() for other in others)}) == 1 + len(others)


def test_the_files_of_a_corpus_are_told(tmp_path):
    """Each file's name, size and time stand in `files`."""
    path = write(tmp_path / "c.parquet", TABLE)
    (file,) = corpus(path).files
    assert (file.path, file.bytes) == (str(path), path.stat().st_size)
    assert file.mtime_ns == path.stat().st_mtime_ns


def test_scan_reads_no_rows_where_there_is_a_schema(tmp_path):
    """A file whose rows are damaged is scanned all the same."""
    data = bytearray(stream(TABLE))
    data[-200] ^= 0xFF
    (tmp_path / "c.arrows").write_bytes(data)
    assert isinstance(scan(CorpusSettings((str(tmp_path),), text="text")), Corpus)


@given(
    st.lists(st.one_of(st.none(), st.text(max_size=20)), max_size=40),
    st.integers(1, 7),
    st.sampled_from(["parquet", "arrow", "arrows"]),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_text_comes_through_whole(tmp_path, values, group, extension):
    """Any texts, cut anyhow into groups, come back in order."""
    table = pa.table({"text": pa.array(values, pa.string())})
    data = {
        "parquet": lambda: parquet(table, row_group_size=group),
        "arrow": lambda: arrow(table, rows=group, compression="zstd"),
        "arrows": lambda: stream(table, rows=group),
    }[extension]()
    path = tmp_path / f"any.{extension}"
    path.write_bytes(data)
    assert read(path)[0] == values


def test_rows_are_plain_values():
    """Rows compare by value and cannot be changed."""
    assert Rows(0, ["a"]) == Rows(0, ["a"], None, None)
    with pytest.raises(AttributeError):
        Rows(0, ["a"]).first = 1
