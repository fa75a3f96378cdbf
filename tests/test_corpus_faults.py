"""Damage, change and missing permission end a run with a message, never with a crash."""

import gzip
import json
import os
import random
import subprocess
import sys

import pyarrow as pa
import pytest
from corpora import (
    EXTENSIONS,
    arrow,
    corpus,
    delimited,
    kept,
    lines,
    packed,
    parquet,
    read,
    refused,
    stream,
    texts,
    write,
)

from batchembed.corpus import files, formats, ipc
from batchembed.errors import CorpusError

TABLE = pa.table(
    {
        "id": [f"id{row}" for row in range(300)],
        "text": [f"tëxt {row} " * 3 if row % 17 else None for row in range(300)],
        "view": pa.array([f"{row} long enough to stand outside" for row in range(300)]).cast(
            pa.string_view()
        ),
        "category": pa.array([f"c{row % 5}" for row in range(300)]).dictionary_encode(),
        "list": [[row, row + 1] if row % 3 else None for row in range(300)],
        "struct": [{"a": row, "b": [str(row)]} for row in range(300)],
        "map": pa.array([[("k", row)] for row in range(300)], pa.map_(pa.string(), pa.int64())),
        "large": pa.array(["L" * row for row in range(300)], pa.large_string()),
        "flag": [row % 2 == 0 for row in range(300)],
    }
)
SMALL = pa.table({"id": ["a", "b"], "text": ["one", "two"]})


def through(path):
    """Read a corpus in all passes, looking at every value."""
    found = corpus(path, id="id")
    texts(found)
    texts(found)
    kept(found)


# --- cut short and damaged ---------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["parquet", "arrow", "arrows", "jsonl.gz", "csv.zst"])
def test_a_file_cut_anywhere_is_refused(tmp_path, extension):
    """At no length does a part of a file pass for the whole one."""
    path = write(tmp_path / f"c.{extension}", SMALL)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length == 0 and extension == "jsonl.gz":
            continue  # an empty file is an empty corpus
        with refused(f"c.{extension}"):
            texts(corpus(path, id="id"))


def test_a_stream_cut_between_batches_is_refused(tmp_path):
    """pyarrow takes it for a shorter stream: the end mark tells."""
    whole = stream(TABLE.select(["text", "id"]), rows=100)
    with pa.ipc.open_stream(whole) as reader:
        reader.read_next_batch()
        reader.read_next_batch()
    ends = []
    for length in range(8, len(whole), 8):
        try:
            rows = pa.ipc.open_stream(whole[:length]).read_all().num_rows
        except (pa.ArrowException, OSError):
            continue
        ends.append((length, rows))
    assert {rows for _, rows in ends} >= {100, 200}, "pyarrow notices by itself: drop our check"
    path = tmp_path / "c.arrows"
    for length, rows in ends:
        path.write_bytes(whole[:length])
        if length < len(whole) - 8 or rows < 300:
            with refused("cut short", "end mark"):
                texts(corpus(path))


@pytest.mark.parametrize("packing", ["", "gz", "zst"])
def test_what_follows_the_end_of_a_stream_is_refused(tmp_path, packing):
    """A second stream behind the first would be lost silently."""
    whole = stream(SMALL)
    path = tmp_path / ("c.arrows" + (packing and f".{packing}"))
    path.write_bytes(packed(whole, packing))
    assert read(path)[0] == ["one", "two"]
    path.write_bytes(packed(whole + whole, packing))
    with refused("end mark"):
        texts(corpus(path))


def test_gzip_files_of_several_members_are_whole(tmp_path):
    """`cat a.gz b.gz` is a gzip file; its checksum is checked, and nothing may follow."""
    rows = lines([{"text": "a"}])
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(rows) + gzip.compress(rows))
    assert read(path)[0] == ["a", "a"]
    whole = gzip.compress(rows)
    for damaged in (whole[:-8] + b"\0\0\0\0" + whole[-4:], whole + b"junk", rows):
        path.write_bytes(damaged)
        with refused("c.jsonl.gz", "gzip", "fetch it again"):
            texts(corpus(path))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("c.parquet", b"not parquet", ("cannot be read",)),
        ("c.parquet", b"", ("cannot be read",)),
        ("c.arrow", b"not arrow at all", ("cannot be read",)),
        ("c.arrow", b"", ("cannot be read",)),
        ("c.arrows", b"", ("cannot be read",)),
        ("c.feather", b"FEA1" + bytes(100), ("Feather version 1", "version 2")),
        ("c.arrow", b"ARROW1\0\0" + bytes(100), ("cannot be read",)),
        ("c.csv.zst", b"text\na\n", ("zstd",)),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, data, words):
    """The message names the file and says that it is not what it should be."""
    (tmp_path / name).write_bytes(data)
    with refused(name, *words):
        texts(corpus(tmp_path / name))


def test_a_packed_arrow_file_is_refused(tmp_path):
    """An Arrow file is read from its end; a stream need not be."""
    (tmp_path / "c.arrow.gz").write_bytes(gzip.compress(arrow(SMALL)))
    with refused("packed Arrow file", "unpack it"):
        corpus(tmp_path / "c.arrow.gz")


def test_streams_and_files_are_told_apart_by_their_bytes(tmp_path):
    """Some write streams under .arrow, and files under .arrows."""
    (tmp_path / "c.arrow").write_bytes(stream(SMALL))
    assert read(tmp_path / "c.arrow")[0] == ["one", "two"]
    (tmp_path / "d.arrows").write_bytes(arrow(SMALL))
    assert read(tmp_path / "d.arrows")[0] == ["one", "two"]


@pytest.mark.parametrize("extension", ["parquet", "arrow"])
@pytest.mark.parametrize("row", [0, 3999, 4000, 9000])
def test_text_that_is_not_utf_8_is_told_by_row(tmp_path, extension, row):
    """Parquet and Arrow do not check it when they are written."""
    values = [b"fine"] * 10_000
    values[row] = b"b\xff"
    raw = pa.array(values)
    forged = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    path = tmp_path / f"c.{extension}"
    table = pa.table({"text": ["t"] * len(raw), "note": forged})
    groups = {"parquet": {"row_group_size": 4000}, "arrow": {"rows": 4000}}[extension]
    path.write_bytes({"parquet": parquet, "arrow": arrow}[extension](table, **groups))
    with refused(f"row {row + 1:,} holds bytes in column `note`", "not UTF-8"):
        texts(corpus(path))
    assert len(texts(corpus(path, keep=("text",)))) == 10_000


FUZZ = """
import random, sys
sys.path[:0] = {path!r}
from test_corpus_faults import CorpusError, TABLE, arrow, damage, parquet, stream, through
import pathlib
kind, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
write = {{"parquet": lambda: parquet(TABLE, row_group_size=100),
         "arrow": lambda: arrow(TABLE, rows=100, compression=rng.choice([None, "lz4", "zstd"])),
         "arrows": lambda: stream(TABLE, rows=100)}}[kind]
whole = write()
path = pathlib.Path(sys.argv[3])
seen = dict(refused=0, passed=0)
for _ in range(int(sys.argv[4])):
    path.write_bytes(damage(whole, rng))
    try:
        through(path)
        seen["passed"] += 1
    except CorpusError:
        seen["refused"] += 1
print(seen)
"""


def damage(whole, rng):
    """Cut a file, or change a few of its bytes, often where its metadata stand."""
    data = bytearray(whole)
    if rng.random() < 0.15:
        return bytes(data[: rng.randrange(len(data))])
    ends = (range(len(data)), range(max(0, len(data) - 3000), len(data)), range(1500))
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        at = rng.choice(rng.choice(ends))
        data[at] = rng.choice([data[at] ^ (1 << rng.randrange(8)), rng.randrange(256), 0, 255])
    return bytes(data)


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows"])
def test_changed_bytes_never_crash_the_interpreter(tmp_path, kind):
    """Files with changed bytes are refused or read, in a process that lives to say so."""
    program = FUZZ.format(path=[os.path.dirname(__file__)])  # noqa: PTH120
    done = subprocess.run(
        [sys.executable, "-c", program, kind, "7", str(tmp_path / f"c.{kind}"), "150"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.replace("'", '"'))
    assert seen["refused"] > 50


def test_without_validation_damage_would_go_through(tmp_path, monkeypatch):
    """Control: an offset that points outside is found by the check, and by nothing else."""
    data = bytearray(arrow(pa.table({"text": ["abcdefgh"] * 4})))
    at = data.index(b"".join(n.to_bytes(4, "little") for n in (0, 8, 16, 24, 32)))
    data[at + 4 : at + 8] = (2**30).to_bytes(4, "little")
    (tmp_path / "c.arrow").write_bytes(data)
    with refused("c.arrow"):
        texts(corpus(tmp_path / "c.arrow"))
    monkeypatch.setattr(ipc, "check_values", lambda *_: None)
    found = ipc.Ipc()
    file = corpus(tmp_path / "c.arrow").files[0]
    (batch,) = found.batches(file, found.schema(file), ["text"])
    with pytest.raises(pa.ArrowInvalid):
        batch.rows.validate(full=True)


def test_a_huge_size_in_a_damaged_stream_is_not_allocated(tmp_path):
    """The size of a message is read in pieces, as far as there is something."""
    data = bytearray(stream(SMALL))
    body = data.rindex(b"\xff\xff\xff\xff", 0, len(data) - 8)
    data[body + 4 : body + 8] = (2**31 - 16).to_bytes(4, "little")
    (tmp_path / "c.arrows").write_bytes(data)
    before = pa.default_memory_pool().max_memory()
    with refused("c.arrows"):
        texts(corpus(tmp_path / "c.arrows"))
    assert pa.default_memory_pool().max_memory() - before < 1 << 28


def test_no_memory_is_told(tmp_path, monkeypatch):
    """A row that is larger than the memory is an error that names the file."""
    path = write(tmp_path / "c.csv", SMALL)
    found = corpus(path)

    def full(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr("pyarrow.csv.read_csv", full)
    with refused("c.csv", "larger than the memory"):
        texts(found)


# --- changes and permissions -----------------------------------------------------------------


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_file_that_changes_between_passes_is_refused(tmp_path, extension):
    """Another size or time means that the rows may be others."""
    path = write(tmp_path / f"c.{extension}", SMALL)
    found = corpus(path, id="id")
    texts(found)
    found.unchanged()
    os.utime(path, ns=(1, 1))
    for look in (found.unchanged, lambda: texts(found), lambda: kept(found)):
        with refused(f"c.{extension}", "changed while the run was reading it"):
            look()


@pytest.mark.parametrize("data", [b"text\na\nb\n", b"text\n" + b"a,b\n" * 3_000_000])
def test_a_change_in_the_middle_of_a_pass_is_refused(tmp_path, data):
    """A file that is rewritten while it is read is told as changed, not as damaged."""
    path = tmp_path / "c.csv"
    path.write_bytes(b"text\n" + b"x" * 100 + b"\n" + b"a\n" * 3_000_000)
    found = corpus(path).texts()
    next(found)
    path.write_bytes(data)
    with refused("c.csv", "changed while the run was reading it"):
        list(found)


def test_another_number_of_rows_is_noticed_whatever_the_times_say(tmp_path):
    """A file that is changed and given back its old size and time."""
    path = tmp_path / "c.csv"
    path.write_bytes(b"text\na\nb\n")
    found = corpus(path)
    texts(found)
    told = path.stat().st_mtime_ns
    path.write_bytes(b"text\nabc\n")
    os.utime(path, ns=(told, told))
    with refused("c.csv", "1 rows now and had 2 before"):
        texts(found)


def test_a_file_that_is_gone_is_told(tmp_path):
    """With what to do about it."""
    path = write(tmp_path / "c.parquet", SMALL)
    found = corpus(path)
    path.unlink()
    with refused("c.parquet", "No such file", "put the file back"):
        texts(found)


def test_a_file_without_permission_is_told(tmp_path, monkeypatch):
    """The system's own words, and who must mend it."""
    path = write(tmp_path / "c.csv", SMALL)

    def denied(self):
        raise PermissionError(13, "Permission denied", self.place)

    monkeypatch.setattr(files.CorpusFile, "open_stream", denied)
    with refused("c.csv", "Permission denied", "let the user that runs the job read the file"):
        corpus(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("extension", ["parquet", "arrow", "csv"])
def test_real_permissions_are_told(tmp_path, extension):
    """As above, with the system in it."""
    path = write(tmp_path / f"c.{extension}", SMALL)
    path.chmod(0)
    with refused(f"c.{extension}", "Permission denied"):
        corpus(path)


def test_a_pass_that_is_left_early_checks_nothing_and_leaves_nothing(tmp_path):
    """The next pass is a first one again, and finds what is wrong."""
    table = pa.table({"text": ["t"] * 20_000, "id": ["same"] * 20_000})
    path = write(tmp_path / "c.parquet", table)
    found = corpus(path, id="id")
    begun = found.texts()
    next(begun)
    begun.close()
    with refused("the id `same`", "row 1 and in", "row 2"):
        texts(found)


def test_errors_of_the_reader_of_rows_are_its_own(tmp_path):
    """What a consumer raises between two rows is not taken for damage of the file."""
    path = write(tmp_path / "c.csv", pa.table({"text": ["t"] * 20_000}))
    found = corpus(path)

    def consume():
        for rows in found.texts():
            raise OSError(f"of the consumer, at {rows.first}")

    with pytest.raises(OSError, match="of the consumer"):
        consume()


def test_checks_pass_what_is_whole(tmp_path):
    """Control: the damaged table, undamaged, is read in every format."""
    for extension, data in (
        ("parquet", parquet(TABLE, row_group_size=100)),
        ("arrow", arrow(TABLE, rows=7, compression="lz4")),
        ("arrows", stream(TABLE, rows=7)),
    ):
        path = tmp_path / f"c.{extension}"
        path.write_bytes(data)
        through(path)
        assert read(path)[2] == TABLE.to_pylist()
    formats.check_values(TABLE.to_batches()[0], corpus(path).files[0], 0)
    assert damage(b"x" * 2000, random.Random(1)) != b"x" * 2000
    assert issubclass(CorpusError, Exception)
    assert delimited(SMALL, ";").startswith(b'"id";"text"')
