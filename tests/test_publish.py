"""Publishing: all of it or none of it, the same bytes whatever happens on the way."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from fakes.dying import Died, Steps
from fakes.scripted import KEYER
from fakes.vectors import DIMENSIONS, vector

from batchembed import publish
from batchembed.errors import CorpusError, NotFinishedError
from batchembed.exchange import Reject
from batchembed.ledger import Ledger, forget
from batchembed.parts import (
    FORMAT,
    MANIFEST,
    REJECTS,
    VOUCHER,
    Manifest,
    known_rejects,
    read_manifest,
    whole_parts,
)
from batchembed.publish import files as publish_files
from batchembed.publish import finishing
from batchembed.spec import unsendable
from batchembed.store import NEXT, Store
from batchembed.survey import REASONS

REFUSED = "a text that is refused"


class Corpus:
    """A table in memory, with its keys as a survey would have them."""

    def __init__(self, texts, *, extra=None, cuts=(3, 7), ids=None):
        self.given = list(texts)
        ids = ids or [f"id-{n}" for n in range(len(self.given))]
        self.table = pa.table({"id": pa.array(ids), "n": range(len(self.given)), **(extra or {})})
        self.kept_schema = self.table.schema
        self.id_field = self.table.schema.field("id")
        self.total = len(self.given)
        self._cuts = [0, *(c for c in cuts if c < self.total), self.total]
        self._keys = np.zeros((self.total, 16), np.uint8)
        self._reasons = np.zeros(self.total, np.uint8)
        for number, text in enumerate(self.given):
            if why := unsendable(text):
                self._reasons[number] = REASONS.index(why)
            else:
                key = KEYER.key(text, "symmetric")
                self._keys[number] = np.frombuffer(key, np.uint8)

    def keys(self):
        yield from np.array_split(self._keys, 3)

    def read(self, start, stop):
        return self._keys[start:stop], self._reasons[start:stop]

    def metadata(self):
        for start, stop in itertools.pairwise(self._cuts):
            batch = self.table.slice(start, stop - start).combine_chunks().to_batches()[0]
            yield batch.column(0), batch


ONE_PART = ("embeddings/part-00000.arrow",)


def texts(count, first=0):
    return [f"text {n}" for n in range(first, first + count)]


OLD = [*texts(9), None, "text 3", REFUSED]
GROWN = ["new at the front", *OLD, " ", *texts(7, 50)]


def sides(corpus, ledger, scratch, keyed=None):
    """What is joined when `corpus` is published, and what the ledger misses of it."""
    keyed = keyed or corpus
    missing = ledger.missing(keyed.keys(), scratch=scratch)
    return publish.Sides(corpus, keyed, ledger.places, ledger), missing


class Run:
    """A run directory, and what a run does to it after its last answer."""

    def __init__(self, root, *, dtype="float32", part_rows=5):
        self.store = Store(root)
        self.scratch = Path(root).with_name(f"{Path(root).name}-scratch")
        self.scratch.mkdir(exist_ok=True)
        self.form = publish.Form(DIMENSIONS, dtype, {"model": "fake"}, REASONS, part_rows)

    def ledger(self):
        before = read_manifest(self.store)
        published = whole_parts(self.store, before)[0] if before else []
        ledger = Ledger(self.store, published, dimensions=DIMENSIONS if before else None)
        if before:
            ledger.rejects.update((r.key, r) for r in known_rejects(self.store, before))
        ledger.load()
        return ledger

    def embed(self, corpus):
        """Answer what the ledger misses; gives how many texts that were."""
        ledger = self.ledger()
        mask = sides(corpus, ledger, self.scratch)[1].mask(0, corpus.total)
        new = [text for text, wanted in zip(corpus.given, mask, strict=True) if wanted]
        for text in new:
            key = KEYER.key(text, "symmetric")
            if text == REFUSED:
                ledger.reject([Reject(key, "refused", "no", 400, "id")])
            else:
                keys = np.frombuffer(key, np.uint8).reshape(1, 16)
                ledger.append(keys, vector(text).reshape(1, -1), tokens=1, model_version="m")
        ledger.close()
        return len(new)

    def stage(self, corpus, keyed=None):
        joined = sides(corpus, self.ledger(), self.scratch, keyed)[0]
        return publish.stage(joined, self.store, form=self.form, heard=lambda _: None)

    def publish(self, corpus):
        staged = self.stage(corpus)
        publish.finish(self.store, manifest(staged, corpus, self.form.dtype))

    def files(self):
        return {
            str(path.relative_to(self.store.root)): path.read_bytes()
            for path in sorted(self.store.root.rglob("*"))
            if path.is_file()
        }

    def table(self):
        """What stands there for everyone to read."""
        return pl.scan_ipc(self.store.root / "embeddings" / "*.arrow").collect()

    def wrong(self, corpus):
        """What is not as promised: rows, their columns, their vectors, rejects, the manifest."""
        found, told, problems = self.table(), read_manifest(self.store), []
        if found["id"].to_list() != corpus.table["id"].to_pylist():
            problems.append("rows")
        for text, own in zip(corpus.given, found["embedding"].to_list(), strict=False):
            bad = unsendable(text) or text == REFUSED
            right = None if bad else vector(text).astype(self.form.dtype).tolist()
            if (None if own is None else list(own)) != right:
                problems.append(f"vector of {text!r}")
        for note in (*told.parts, *([told.rejects] if told.rejects else [])):
            data = self.store.read(note.name)
            if (len(data), hashlib.sha256(data).hexdigest()) != (note.bytes, note.sha256):
                problems.append(f"manifest on {note.name}")
        names = {note.name for note in told.parts}
        if {n for n in self.store.names("embeddings") if n.endswith(".arrow")} != names:
            problems.append("files of no manifest")
        return problems


def manifest(staged, corpus, dtype):
    return Manifest(
        format=FORMAT,
        batchembed="0",
        identity={"role": "symmetric"},
        corpus={"id": "id"},
        parts=tuple(staged.parts),
        rejects=staged.rejects,
        similarity=(),
        compared=None,
        counts={"rows": corpus.total},
        reasons=staged.reasons,
        bill={},
        dimensions=DIMENSIONS,
        dtype=dtype,
        model_versions=(),
        seconds=0.0,
        finished="then",
    )


def published(root, *corpora, **more):
    run = Run(root, **more)
    for corpus in corpora:
        run.embed(corpus)
        run.publish(corpus)
    return run


# -- without trouble -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("part_rows", [1, 5, 1000])
def test_the_table_comes_back_with_its_vectors(tmp_path, dtype, part_rows):
    """In corpus order, duplicates too; rejects named; nothing else is left."""
    corpus = Corpus(OLD)
    run = published(tmp_path / "run", corpus, dtype=dtype, part_rows=part_rows)
    assert run.wrong(corpus) == []
    names = [f"embeddings/part-{n:05d}.arrow" for n in range(-(-len(OLD) // part_rows))]
    assert list(run.files()) == [VOUCHER, *names, MANIFEST, REJECTS]
    rejects = pl.read_ipc(run.store.path(REJECTS)).rows()
    key = KEYER.key(REFUSED, "symmetric")
    assert rejects == [
        (9, "id-9", "null_text", "", None, "", None),
        (11, "id-11", "refused", "no", 400, "id", key),
    ]
    told = read_manifest(run.store)
    assert told.reasons == {"null_text": 1, "refused": 1}
    assert told.rejects.rows == 2
    assert [note.rows for note in told.parts] == [
        min(part_rows, len(OLD) - at) for at in range(0, len(OLD), part_rows)
    ]


def test_without_rejects_there_is_no_file_of_them(tmp_path):
    """Also when there was one before."""
    run = published(tmp_path, Corpus(OLD))
    assert REJECTS in run.files()
    clean = Corpus(texts(9))
    run.publish(clean)
    assert REJECTS not in run.files()
    assert run.wrong(clean) == []


def test_publishing_again_gives_the_same_bytes(tmp_path):
    """From the checkpoint or from published parts, in one part of the run or another."""
    corpus = Corpus(OLD)
    run = published(tmp_path / "a", corpus)
    once = run.files()
    run.publish(corpus)
    assert run.files() == once
    other = Run(tmp_path / "b")
    for stop in (4, 7, len(OLD)):
        other.embed(Corpus(OLD[:stop]))
    other.publish(corpus)
    assert other.files() == once


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_grown_corpus_costs_what_is_new(tmp_path, dtype):
    """Old vectors come from the old parts, wherever their rows are now; the same bytes result."""
    run = published(tmp_path / "a", Corpus(OLD), dtype=dtype)
    grown = Corpus(GROWN)
    assert run.embed(grown) == 8
    run.publish(grown)
    assert run.wrong(grown) == []
    assert run.files() == published(tmp_path / "b", grown, dtype=dtype).files()
    assert run.embed(grown) == 0


def test_parts_beyond_the_new_end_are_deleted(tmp_path):
    """A shorter corpus has fewer parts; files of the user are left alone."""
    run = published(tmp_path, Corpus(GROWN))
    mine = {
        "embeddings/notes.txt": b"mine",
        "embeddings/part-00000.arrow.bak": b"mine",
        "similarity/my-own.arrow": b"mine",
        "similarity/deep/file": b"mine",
        "report.html": b"mine",
        "README": b"mine",
    }
    for name, data in mine.items():
        run.store.put(name, data)
    short = Corpus(texts(4))
    run.publish(short)
    assert run.wrong(short) == []
    assert run.files() == {
        **{n: d for n, d in run.files().items() if n in (*ONE_PART, MANIFEST, VOUCHER)},
        **mine,
    }


def test_an_old_comparison_goes_with_the_vectors_it_was_made_of(tmp_path):
    """Scores of other rows must not stand beside the new table."""
    corpus = Corpus(texts(4))
    run = published(tmp_path, corpus)
    for name in finishing.COMPARISONS:
        run.store.put(name, b"old scores")
    run.publish(corpus)
    assert run.store.names("similarity") == []


def test_columns_may_be_none_at_all(tmp_path):
    """`keep = []` gives vectors and keys alone."""
    corpus = Corpus(OLD)
    corpus.kept_schema = pa.schema([])
    corpus.metadata = lambda: (
        (batch.column(0), batch.select([])) for batch in corpus.table.to_batches(max_chunksize=5)
    )
    run = Run(tmp_path)
    run.embed(corpus)
    run.publish(corpus)
    assert run.table().shape == (len(OLD), 2)


# -- columns of every kind -------------------------------------------------------------------------


def each_its_own(values, cuts):
    """A dictionary column, each batch with the dictionary of its own values."""
    bounds = [0, *cuts, len(values)]
    return pa.chunked_array(
        [pa.array(values[a:b]).dictionary_encode() for a, b in itertools.pairwise(bounds)]
    )


def nested(column, kind):
    """A dictionary column inside another type."""
    wrapped = []
    for chunk in column.chunks:
        ends = pa.array(range(len(chunk) + 1), pa.int32())
        wrapped.append(
            {
                "list": lambda c=chunk, e=ends: pa.ListArray.from_arrays(e, c),
                "large list": lambda c=chunk: pa.LargeListArray.from_arrays(
                    pa.array(range(len(c) + 1), pa.int64()), c
                ),
                "struct": lambda c=chunk: pa.StructArray.from_arrays([c], ["inner"]),
                "fixed": lambda c=chunk: pa.FixedSizeListArray.from_arrays(c, 1),
                "map": lambda c=chunk, e=ends: pa.MapArray.from_arrays(
                    e, pa.array(["k"] * len(c)), c
                ),
            }[kind]()
        )
    return pa.chunked_array(wrapped)


VALUES = ["a", "b", "a", "c", "d", None, "a", "e", "e", "f", "a", "b"]


@pytest.mark.parametrize("kind", ["plain", "list", "large list", "struct", "fixed", "map"])
def test_dictionaries_may_change_from_batch_to_batch(tmp_path, kind):
    """Files with categories of their own each: the type stays, every reader can read it."""
    column = each_its_own(VALUES, [3, 7])
    column = column if kind == "plain" else nested(column, kind)
    corpus = Corpus(OLD, extra={"kind": column}, cuts=(3, 7))
    batches = [
        pa.RecordBatch.from_arrays(
            [corpus.table[name].chunk(0).slice(a, b - a) for name in ("id", "n")]
            + [column.chunk(n)],
            schema=corpus.kept_schema,
        )
        for n, (a, b) in enumerate([(0, 3), (3, 7), (7, 12)])
    ]
    corpus.metadata = lambda: ((batch.column(0), batch) for batch in batches)
    run = Run(tmp_path, part_rows=1000)
    run.embed(corpus)
    run.publish(corpus)
    found = [
        pa.ipc.open_file(str(path)).read_all()
        for path in sorted(run.store.path("embeddings").iterdir())
    ]
    assert len(found) == 3
    assert all(table.schema.field("kind").type == column.type for table in found)
    assert [v for table in found for v in table["kind"].to_pylist()] == column.to_pylist()
    if kind == "plain":
        assert run.wrong(corpus) == []
        assert run.table()["kind"].cast(pl.String).to_list() == VALUES


def test_one_dictionary_for_all_is_one_part(tmp_path):
    """Categories that do not change cost no parts."""
    column = pa.array(VALUES).dictionary_encode()
    run = published(tmp_path, Corpus(OLD, extra={"kind": column}), part_rows=1000)
    assert len(read_manifest(run.store).parts) == 1
    assert run.table()["kind"].cast(pl.String).to_list() == VALUES


def test_ids_of_a_dictionary_can_be_rejected_in_several_batches(tmp_path):
    """rejects.arrow has them written out."""
    ids = each_its_own([f"id-{n}" for n in range(12)], [3, 7])
    given = ["", *OLD[1:5], None, *OLD[6:]]
    corpus = Corpus(given, ids=ids)
    batches = [
        pa.RecordBatch.from_arrays(
            [ids.chunk(n), corpus.table["n"].chunk(0).slice(a, b - a)], schema=corpus.kept_schema
        )
        for n, (a, b) in enumerate([(0, 3), (3, 7), (7, 12)])
    ]
    corpus.metadata = lambda: ((batch.column(0), batch) for batch in batches)
    run = Run(tmp_path)
    run.embed(corpus)
    run.publish(corpus)
    found = pl.read_ipc(run.store.path(REJECTS))
    assert found["id"].to_list() == ["id-0", "id-5", "id-9", "id-11"]
    assert found["id"].dtype == pl.String


# -- trouble ---------------------------------------------------------------------------------------


def staged_names(run):
    return [name for name in run.files() if name.startswith("checkpoint/next")]


@pytest.mark.parametrize("change", [-1, 1])
def test_a_corpus_with_other_rows_than_before_is_not_published(tmp_path, change):
    """Row by row is all that joins it with its keys."""
    run, corpus = Run(tmp_path), Corpus(OLD)
    run.embed(corpus)
    other = Corpus([*OLD, "more"] if change > 0 else OLD[:-1])
    with pytest.raises(CorpusError, match=f"`{len(OLD)}`"):
        run.stage(other, corpus)
    assert staged_names(run) == []


def test_a_text_without_vector_and_without_reject_is_never_published(tmp_path):
    """Damage to the checkpoint after it was read: asked for again, not written as a reject."""
    run, corpus = Run(tmp_path), Corpus(OLD)
    run.embed(corpus)
    name = run.store.names("checkpoint")[0]
    data = bytearray(run.store.read(name))
    data[60] ^= 1
    run.store.path(name).write_bytes(data)
    with pytest.raises(NotFinishedError, match="damaged"):
        run.publish(corpus)
    assert staged_names(run) == []
    assert run.embed(corpus) == 1
    run.publish(corpus)
    assert run.wrong(corpus) == []


def restarted(run, corpus):
    """What the next start of the program does; gives how many texts it had to pay for."""
    publish.roll_forward(run.store)
    before = read_manifest(run.store)
    if before is not None and before.counts == {"rows": corpus.total}:
        return 0
    paid = run.embed(corpus)
    run.publish(corpus)
    return paid


def prepared(root, *, grown):
    """A run whose last answer has just been kept, and its corpus."""
    run = published(root, Corpus(OLD)) if grown else Run(root)
    corpus = Corpus(GROWN if grown else OLD)
    run.embed(corpus)
    return run, corpus


def crashes(tmp_path, monkeypatch, *, grown, error=None):
    """Let the publication end at each of its calls into the system; yield the run after each."""
    run, corpus = prepared(tmp_path / "whole", grown=grown)
    with monkeypatch.context() as patched:
        steps = Steps(patched)
        run.publish(corpus)
    expected = run.files()
    for at in range(1, steps.count + 1):
        run, corpus = prepared(tmp_path / str(at), grown=grown)
        with monkeypatch.context() as patched:
            Steps(patched, at, error)
            try:
                run.publish(corpus)
            except (Died, OSError):
                pass
            else:
                assert error is not None, at  # a failure while cleaning up is no failure
        yield at, run, corpus, expected


def swept(files):
    return {name: data for name, data in files.items() if ".tmp-" not in name}


@pytest.mark.parametrize("grown", [False, True], ids=["new", "grown"])
def test_a_crash_anywhere_is_finished_by_the_next_start(tmp_path, monkeypatch, grown):
    """Die at every call: nothing is paid again, and the bytes are the same in the end."""
    count = 0
    for at, run, corpus, expected in crashes(tmp_path, monkeypatch, grown=grown):
        told = read_manifest(run.store)
        if told is not None:  # what says that it is complete is complete, old or new
            assert run.wrong(corpus if told.counts["rows"] == corpus.total else Corpus(OLD)) == []
        assert restarted(run, corpus) == 0, at
        assert swept(run.files()) == expected, at
        count += 1
    assert count > 30


@pytest.mark.parametrize("grown", [False, True], ids=["new", "grown"])
def test_a_failing_disk_anywhere_is_mended_by_the_next_start(tmp_path, monkeypatch, grown):
    """Let one call fail: what was paid for is there, and so are the same bytes in the end."""
    error = OSError(28, "No space left on device")
    for at, run, corpus, expected in crashes(tmp_path, monkeypatch, grown=grown, error=error):
        assert restarted(run, corpus) == 0, at
        assert swept(run.files()) == expected, at


def test_a_second_crash_while_the_first_is_mended_is_mended_too(tmp_path, monkeypatch):
    """Dying again and again in `roll_forward` loses nothing."""
    expected = None
    for at in itertools.count(1):
        run, corpus = prepared(tmp_path / str(at), grown=True)
        with monkeypatch.context() as patched:
            patched.setattr(finishing, "roll_forward", lambda _store: (_ for _ in ()).throw(Died))
            with pytest.raises(Died):
                run.publish(corpus)
        if expected is None:
            other, _ = prepared(tmp_path / "whole", grown=True)
            other.publish(corpus)
            expected = other.files()
        done = False
        for _ in range(3):  # each start dies at the same call, if it gets so far
            with monkeypatch.context() as patched:
                Steps(patched, at)
                try:
                    publish.roll_forward(run.store)
                    done = True
                except Died:
                    pass
        publish.roll_forward(run.store)
        assert swept(run.files()) == expected, at
        if done:
            break
    assert at > 10


def test_a_publication_without_the_redo_log_is_seen(tmp_path, monkeypatch):
    """The control: renaming at once, with no staged manifest, loses vectors in a crash."""

    def careless(store, made):
        for name in store.names(f"{NEXT}/embeddings"):
            store.delete(name.removeprefix("checkpoint/next/"))
            store.rename(name, name.removeprefix("checkpoint/next/"))
        store.put(MANIFEST, made.to_json())
        forget(store)

    monkeypatch.setattr(publish, "finish", careless)
    bad = 0
    for _, run, corpus, _ in crashes(tmp_path, monkeypatch, grown=True):
        try:
            told = read_manifest(run.store)
            rows = told.counts["rows"] if told else 0
            ends = Corpus(GROWN) if rows == corpus.total else Corpus(OLD)
            bad += bool((told and run.wrong(ends)) or restarted(run, corpus))
        except (FileNotFoundError, NotFinishedError):
            bad += 1
    assert bad > 0


def test_nothing_staged_is_nothing_to_do(tmp_path):
    """A start after a crash during staging begins the staging anew."""
    run, corpus = prepared(tmp_path, grown=False)
    assert publish.roll_forward(run.store) is False
    run.store.put(f"{NEXT}/embeddings/part-00007.arrow", b"half")
    assert publish.roll_forward(run.store) is False
    run.publish(corpus)
    assert run.wrong(corpus) == []


def test_parts_are_closed_by_size_too(tmp_path, monkeypatch):
    """A few rows of many bytes are a part as well."""
    monkeypatch.setattr(publish_files, "PART_BYTES", 1)
    corpus = Corpus(OLD)
    run = published(tmp_path, corpus)
    assert run.wrong(corpus) == []
    assert [note.rows for note in read_manifest(run.store).parts] == [3, 4, 5]
