"""The ledger: nothing that was kept is lost, doubled or put under another key."""

import errno
import os
import tempfile
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed import buckets
from batchembed import ledger as package
from batchembed.exchange import Reject, Request
from batchembed.ledger import (
    NOWHERE,
    Ledger,
    Places,
    Reader,
    Source,
    checkpoint,
    forget,
    holds_anything,
    join,
    places,
)
from batchembed.providers import status
from batchembed.store import Appender, Store

DIMENSIONS = 3


def key(high, low=0):
    """A key whose first 8 bytes are `high` and whose last are `low`."""
    return high.to_bytes(8, "big") + low.to_bytes(8, "big")


def keys(some):
    return np.frombuffer(b"".join(some), np.uint8).reshape(-1, 16)


def vector(key, dimensions=DIMENSIONS):
    """A vector that is a function of its key."""
    return np.frombuffer(key * dimensions, np.uint8)[: 4 * dimensions].astype(np.float32)[::4] + 1


def vectors(some, dimensions=DIMENSIONS):
    return np.array([vector(k, dimensions) for k in some], np.float32).reshape(-1, dimensions)


def keep(ledger, some, dimensions=DIMENSIONS):
    ledger.append(keys(some), vectors(some, dimensions), tokens=len(some), model_version="m")


def reload(ledger):
    again = Ledger(ledger._store)
    again.load()
    return again


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def ledger(store):
    made = Ledger(store)
    yield made
    made.close()


def missed(ledger, corpus):
    """What a ledger misses of a corpus; its `places` are known then."""
    with tempfile.TemporaryDirectory() as folder:
        missing = ledger.missing([keys(corpus)], scratch=Path(folder))
        ledger.found = ledger.places.read(0, len(corpus))
    return missing


def located(ledger, corpus):
    """The place of every row's vector."""
    missed(ledger, corpus)
    return ledger.found


def read_all(ledger, corpus):
    """The vector of every row by its place and `Reader`, None where there is none."""
    found = located(ledger, corpus)
    reader = Reader(ledger.sources(), ledger.dimensions or 1)
    try:
        return [
            None if p == NOWHERE else reader.read(found[n : n + 1])[0] for n, p in enumerate(found)
        ]
    finally:
        reader.close()


# -- writing and reading again ---------------------------------------------------------------------


def test_what_was_appended_is_there_after_a_restart(store, ledger):
    """Vectors, rejects, the bill and the dimension survive; a kill needs no `close`."""
    keep(ledger, [key(1), key(2)])
    keep(ledger, [key(3)])
    ledger.reject([Reject(key(4), "refused", "no", 400, "id")])
    again = reload(ledger)  # nothing was closed or synced on purpose
    assert again.rejects == {key(4): Reject(key(4), "refused", "no", 400, "id")}
    assert again.dimensions == DIMENSIONS
    assert (again.bill.requests, again.bill.texts, again.bill.tokens) == (2, 3, 3)
    assert again.bill.model_versions == {"m"}
    assert again.bill == ledger.bill
    found = read_all(again, [key(3), key(9), key(1), key(4)])
    assert [f is None for f in found] == [False, True, False, True]
    assert (found[0] == vector(key(3))).all()
    assert (found[2] == vector(key(1))).all()


def test_a_new_process_never_writes_into_an_old_segment(store):
    """Every process starts a segment of its own, numbered on; old bytes stay as they are."""
    seen = {}
    for number in range(3):
        ledger = Ledger(store)
        ledger.load()
        keep(ledger, [key(number)])
        ledger.close()
        for name, before in seen.items():
            assert store.read(name) == before
        seen = {name: store.read(name) for name in store.names("checkpoint")}
    assert list(seen) == [f"checkpoint/00000{n}.segment" for n in (1, 2, 3)]


def test_a_ledger_that_was_only_read_makes_no_segment(store):
    """Looking changes nothing."""
    ledger = Ledger(store)
    ledger.load()
    ledger.close()
    assert store.names("checkpoint") == []


def test_foreign_files_beside_the_segments_are_ignored(store):
    """What a file browser or an editor leaves there is no segment."""
    for name in ("._000001.segment", "notes.segment", "000009.segment~", "run.json"):
        store.put(f"checkpoint/{name}", b"foreign")
    ledger = Ledger(store)
    ledger.load()
    keep(ledger, [key(1)])
    ledger.close()
    assert store.path("checkpoint/000001.segment").is_file()
    assert ledger.damage.frames == 0


def test_damage_is_counted_and_costs_its_frame_alone(store, ledger):
    """A flipped byte loses one answer; it counts as missing, and a person is told."""
    for number in range(1, 4):
        keep(ledger, [key(number)])
    ledger.close()
    path = store.path("checkpoint/000001.segment")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = reload(ledger)
    assert again.damage.frames == 1
    assert again.damage.bytes == len(data) // 3
    missing = missed(again, [key(1), key(2), key(3)])
    assert missing.mask(0, 3).tolist() == [False, True, False]
    assert read_all(again, [key(2)]) == [None]


def test_forgetting_deletes_the_segments_alone(store, ledger):
    """What else stands in the checkpoint folder is not the ledger's."""
    store.put("checkpoint/run.json", b"{}")
    keep(ledger, [key(1)])
    ledger.close()
    forget(store)
    assert store.names("checkpoint") == ["checkpoint/run.json"]


def test_vectors_of_another_dimension_are_not_found(store, ledger):
    """Vectors of two sizes never mix: what is not of the run's dimension counts as missing."""
    keep(ledger, [key(1)])
    keep(ledger, [key(2)], dimensions=2)
    again = Ledger(store, dimensions=DIMENSIONS)
    again.load()
    assert missed(again, [key(1), key(2)]).mask(0, 2).tolist() == [False, True]


# -- durability ------------------------------------------------------------------------------------


class Fake(Appender):
    """Counts fsyncs, tells when they happen, and fails them when told to."""

    syncs = 0
    fail: OSError | None = None
    happened = None

    def sync(self):
        Fake.syncs += 1
        try:
            if Fake.fail is not None:
                raise Fake.fail
        finally:
            Fake.happened.release()


@pytest.fixture
def fake(monkeypatch):
    Fake.syncs, Fake.fail, Fake.happened = 0, None, threading.Semaphore(0)
    monkeypatch.setattr(
        Store, "append", lambda store, name: (store.make_folder("checkpoint"), Fake(store, name))[1]
    )
    return Fake


def test_an_fsync_error_surfaces_once_and_is_never_tried_again(store, fake):
    """The kernel may have dropped the data: a second fsync would say that all is well."""
    fake.fail = OSError(errno.EIO, "Input/output error")
    ledger = Ledger(store)
    keep(ledger, [key(1)])
    assert fake.happened.acquire(timeout=10)
    ledger._syncer.join(10)
    with pytest.raises(OSError, match="Input/output"):
        keep(ledger, [key(2)])
    fake.fail = None
    keep(ledger, [key(3)])  # what is in flight still lands
    ledger.close()
    assert fake.syncs == 1
    assert reload(ledger).bill.texts == 3, "what was answered is kept, whatever the disk says"


def test_an_fsync_error_that_nobody_met_yet_surfaces_at_the_end(store, fake):
    """A run whose last answers may not be on the disk does not end well."""
    fake.fail = OSError(errno.EIO, "Input/output error")
    ledger = Ledger(store)
    keep(ledger, [key(1)])
    assert fake.happened.acquire(timeout=10)
    ledger._syncer.join(10)
    with pytest.raises(OSError, match="Input/output"):
        ledger.close()
    assert fake.syncs == 1
    ledger.close()


def test_the_last_fsync_can_fail_too(store, fake, monkeypatch):
    """Closing syncs, and tells when it cannot."""
    monkeypatch.setattr(checkpoint, "SYNC_SECONDS", 3600.0)
    ledger = Ledger(store)
    keep(ledger, [key(1)])
    assert fake.happened.acquire(timeout=10)
    fake.fail = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space"):
        ledger.close()
    assert fake.syncs == 2


def test_answers_are_fsynced_in_groups(store, fake, monkeypatch):
    """One fsync for what came meanwhile, at most `SYNC_SECONDS` after the one before it."""
    waits = []
    gate = threading.Semaphore(0)
    ledger = Ledger(store)
    ledger._stopping = _Stopping(waits, gate)
    keep(ledger, [key(1)])
    assert fake.happened.acquire(timeout=10)
    for number in range(2, 50):
        keep(ledger, [key(number)])
    assert fake.syncs == 1
    gate.release()
    assert fake.happened.acquire(timeout=10)
    assert fake.syncs == 2
    gate.release(1000)
    ledger.close()
    assert set(waits) == {checkpoint.SYNC_SECONDS}
    assert checkpoint.SYNC_SECONDS <= 1.0
    assert fake.syncs <= 4


class _Stopping:
    """An event whose `wait` waits for the test in place of the time."""

    def __init__(self, waits, gate):
        self.waits, self.gate, self.stopped = waits, gate, False

    def set(self):
        self.stopped = True
        self.gate.release()

    def is_set(self):
        return self.stopped

    def wait(self, seconds):
        self.waits.append(seconds)
        self.gate.acquire(timeout=10)


def test_a_full_disk_is_told_and_what_was_kept_stays(store, ledger, monkeypatch):
    """A write that fails half-way leaves a torn frame, and later frames are found behind it."""
    keep(ledger, [key(1)])
    real = os.writev

    def full(file, parts):
        real(file, [memoryview(parts[0])[:20]])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", full)
        with pytest.raises(OSError, match="No space"):
            keep(ledger, [key(2)])
    keep(ledger, [key(3)])
    again = reload(ledger)
    assert again.damage.frames == 1
    assert [f is None for f in read_all(again, [key(1), key(2), key(3)])] == [False, True, False]


# -- the joins against a plain dict ----------------------------------------------------------------

# keys that share their bucket, their high word, their low word; and the one of rows without text
KEYS = st.builds(
    key, st.sampled_from([0, 1, 2, 1 << 56, (1 << 56) + 1, 255 << 56]), st.integers(0, 3)
)


@st.composite
def worlds(draw):
    paid = draw(st.lists(KEYS.filter(any), max_size=12))
    refused = draw(st.lists(KEYS.filter(any), max_size=4))
    corpus = draw(st.lists(KEYS, max_size=40))
    cuts = sorted(draw(st.lists(st.integers(0, len(corpus)), max_size=3)))
    arrays = [corpus[a:b] for a, b in zip([0, *cuts], [*cuts, len(corpus)], strict=True)]
    return paid, refused, corpus, [keys(some) for some in arrays]


def small(monkeypatch, in_memory):
    """Let joins spill from so few rows on, and answer in ranges of 5 rows."""
    made = buckets.Buckets

    class Small(made):
        def __init__(self, dtype, *, scratch=None):
            super().__init__(dtype, scratch=scratch, in_memory=in_memory)

    monkeypatch.setattr(join, "Buckets", Small)
    monkeypatch.setattr(join, "RANGE", 5)


def joined(entries, arrays, total, scratch=None):
    """The join of a corpus with entries: what is missing, and the place of every row."""
    with tempfile.TemporaryDirectory() as folder:
        places = Places(Path(folder) / "places")
        found = join.missing(entries, arrays, scratch=scratch, places=places)
        return found, places.read(0, total)


def disagreement(world):
    """How the join differs from a dict, or None."""
    paid, refused, corpus, arrays = world
    where = {}
    for number, one in enumerate(paid):
        where.setdefault(one, 100 + number)
    entries = [(keys([one]), np.array([100 + n])) for n, one in enumerate(paid)]
    entries += [(keys(refused), np.full(len(refused), NOWHERE))]
    known = {*paid, *refused}
    real = [one for one in corpus if any(one)]
    firsts = [corpus.index(one) == n and any(one) for n, one in enumerate(corpus)]
    found, located = joined(entries, arrays, len(corpus))
    told = (found.total, found.sendable, found.distinct, found.paid, found.to_send, found.rejected)
    new = {one for one in real if one not in known}
    wanted = (len(corpus), len(real), len(set(real)), len(set(real) & known), len(new))
    wanted += (len(set(real) & {*refused} - {*paid}),)
    if told != wanted:
        return told, wanted
    mask = [first and one not in known for first, one in zip(firsts, corpus, strict=True)]
    if found.mask(0, len(corpus)).tolist() != mask:
        return found.mask(0, len(corpus)).tolist(), mask
    for start in range(0, len(corpus), 3):
        if found.mask(start, min(start + 11, len(corpus))).tolist() != mask[start : start + 11]:
            return "mask", start
    expected = [where.get(one, NOWHERE) for one in corpus]
    return None if located.tolist() == expected else (located.tolist(), expected)


@pytest.mark.parametrize("in_memory", [0, 7, 1000])
def test_the_joins_agree_with_a_dict(in_memory, monkeypatch):
    """Duplicates, rejects, keys alike in one half, rows without text, spilled or not."""
    small(monkeypatch, in_memory)

    @given(world=worlds())
    @settings(max_examples=60, deadline=None, database=None)
    def agree(world):
        assert disagreement(world) is None

    agree()


def test_keys_that_differ_only_in_their_second_half_are_told_apart(monkeypatch):
    """The control: a join that sorts by the first half alone is found out."""
    corpus = [key(1, 2), key(1, 1), key(1, 2), key(1, 1)]
    world = ([key(1, 1)], [], corpus, [keys(corpus)])
    assert disagreement(world) is None
    real = np.lexsort
    monkeypatch.setattr(join.np, "lexsort", lambda words: real((words[1],)))
    assert disagreement(world) is not None


@pytest.mark.parametrize("total", [65_536, 65_537, 150_000])
def test_every_row_of_a_large_corpus_is_located(total, monkeypatch, tmp_path):
    """Beyond one range of rows, spilled and in any order of keys, each row has its own place."""
    small(monkeypatch, 5000)
    monkeypatch.setattr(join, "RANGE", 1 << 16)
    rng = np.random.default_rng(3)
    some = rng.integers(0, 256, (total, 16), np.uint8)
    order = rng.permutation(total)
    entries = [(some[order], order * 12 + 100)]
    arrays = [some[start : start + 8192] for start in range(0, total, 8192)]
    found = joined(entries, arrays, total, scratch=tmp_path)[1]
    assert (found == np.arange(total) * 12 + 100).all()
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_of_more_than_256_ranges_is_located(monkeypatch):
    """The ranges grow, so that their numbers stay below 256."""
    monkeypatch.setattr(join, "RANGE", 2)
    total = 256 * 2 + 77
    some = np.random.default_rng(4).integers(0, 256, (total, 16), np.uint8)
    found = joined([(some[::2], np.arange(0, total, 2) + 9)], [some], total)[1]
    expected = np.full(total, NOWHERE)
    expected[::2] = np.arange(0, total, 2) + 9
    assert (found == expected).all()


def twice(rows):
    """The keys of so many rows, of which the second half is the first one again."""
    for _ in range(2):
        rng = np.random.default_rng(5)
        for _ in range(rows // 2 // 4096):
            yield rng.integers(0, 256, (4096, 16), np.uint8)


def peak(rows, folder, monkeypatch, in_memory):
    small(monkeypatch, in_memory)
    monkeypatch.setattr(join, "RANGE", 1 << 16)
    places = Places(folder / "places")
    tracemalloc.start()
    try:
        missing = join.missing([], twice(rows), scratch=None, places=places)
        assert (missing.to_send, missing.total) == (rows // 2, rows)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_of_the_join_does_not_grow_with_the_corpus(tmp_path, monkeypatch):
    """Four times the rows take the same memory; without spilling they do not (the control)."""
    first, second = (peak(rows, tmp_path, monkeypatch, 20_000) for rows in (204_800, 819_200))
    assert second < 1.2 * first + 300_000
    assert peak(819_200, tmp_path, monkeypatch, 10**7) > 4 * second


# -- reading vectors -------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Every read of a file: how many bytes."""
    found = []
    real = os.preadv

    def watched(file, parts, offset):
        found.append(sum(map(len, parts)))
        return real(file, parts, offset)

    monkeypatch.setattr(places.os, "preadv", watched)
    return found


def test_vectors_that_stand_together_are_read_together(store, ledger, reads):
    """One read for a whole answer in any order, one each where vectors are far apart."""
    some = [key(n) for n in range(1, 101)]
    keep(ledger, some)
    found = located(ledger, some)
    reader = Reader(ledger.sources(), DIMENSIONS)
    assert (reader.read(found) == vectors(some)).all()
    assert reads == [100 * 4 * DIMENSIONS]
    reads.clear()
    mixed = reader.read(found[::-1])
    assert (mixed == vectors(some[::-1])).all()
    assert mixed.flags.writeable
    assert reads == [100 * 4 * DIMENSIONS]
    reads.clear()
    assert (reader.read(found[::-10]) == vectors(some[::-10])).all()
    assert reads == [4 * DIMENSIONS] * 10
    reads.clear()
    assert reader.read(found[:0]).shape == (0, DIMENSIONS)
    assert reads == []
    reader.close()


def test_short_reads_are_gone_on_with(store, ledger, monkeypatch):
    """The system may give fewer bytes than were asked for."""
    some = [key(n) for n in range(1, 11)]
    keep(ledger, some)
    found = located(ledger, some)
    real = os.preadv
    monkeypatch.setattr(places.os, "preadv", lambda f, parts, at: real(f, [parts[0][:7]], at))
    reader = Reader(ledger.sources(), DIMENSIONS)
    assert (reader.read(found) == vectors(some)).all()
    reader.close()


def test_a_file_that_became_shorter_is_an_error(store, ledger):
    """Bytes that are gone are not made up."""
    keep(ledger, [key(1)])
    found = located(ledger, [key(1)])
    path = store.path("checkpoint/000001.segment")
    os.truncate(path, path.stat().st_size - 1)
    reader = Reader(ledger.sources(), DIMENSIONS)
    with pytest.raises(OSError, match="shorter"):
        reader.read(found)
    reader.close()


def test_few_files_are_open_at_a_time(tmp_path, monkeypatch):
    """A run may have thousands of parts and segments; a process may open 1,024 files."""
    monkeypatch.setattr(places, "MOST_OPEN", 3)
    sources = []
    for number in range(8):
        path = tmp_path / str(number)
        path.write_bytes(np.full(2, number, "<f4").tobytes())
        sources.append(Source(path, 4))
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    reader = Reader(sources, 1)
    wanted = [5, 0, 7, 5, 2, 1, 3, 6, 4, 0]
    found = reader.read(np.array([n << places.SOURCE_BITS for n in wanted]))
    assert found[:, 0].tolist() == wanted
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before + 3
    reader.close()


class Part:
    """A published source of float16 vectors."""

    def __init__(self, path, some):
        self.path, self.some, self.width = path, some, 2 * DIMENSIONS
        path.write_bytes(b"head" + vectors(some).astype("<f2").tobytes())

    def entries(self):
        yield keys(self.some), 4 + self.width * np.arange(len(self.some))

    def splits(self):
        return None


def test_published_halves_and_new_singles_are_read_alike(tmp_path, store):
    """A run with float16 parts that goes on has sources of two widths, in any order of rows."""
    old = [Part(tmp_path / "a", [key(1), key(2)]), Part(tmp_path / "b", [key(3)])]
    ledger = Ledger(store, old, dimensions=DIMENSIONS)
    keep(ledger, [key(4), key(5), key(1)])
    corpus = [key(5), key(1), key(2), key(3), key(4), key(9), key(3)]
    missing = missed(ledger, corpus)
    assert missing.mask(0, 7).tolist() == [False] * 5 + [True, False]
    found = ledger.found
    has = found != NOWHERE
    assert has.tolist() == [True] * 5 + [False, True]
    reader = Reader(ledger.sources(), DIMENSIONS)
    expected = vectors([one for one in corpus if one != key(9)])
    assert (reader.read(found[has]) == expected).all()
    reader.close()
    ledger.close()


def test_a_bill_is_kept_with_its_prices(store, ledger):
    """What brought no vector is in it, and what may have been billed stands beside."""
    keep(ledger, [key(1), key(2)])
    ledger.rate = "0.02 USD"
    keep(ledger, [key(3)])
    ledger.charge(40)
    ledger.charge(0, 500)
    again = reload(ledger).bill
    assert again == ledger.bill
    assert (again.requests, again.texts, again.tokens, again.unsure) == (3, 3, 43, 500)
    assert again.rates == {"": 2, "0.02 USD": 41}
    again.add({"requests": 1, "texts": 1, "tokens": 9}, ["n"])
    again.add({"requests": 1, "texts": 1, "tokens": 1, "unsure": 2, "rates": {"1 EUR": 1}}, ["m"])
    assert again.rates == {"": 11, "0.02 USD": 41, "1 EUR": 1}
    assert (again.requests, again.unsure, again.model_versions) == (5, 502, {"m", "n"})


def test_a_bill_alone_holds_no_directory_to_a_model(store, ledger):
    """A model that answered nothing usable was paid for; the job may be mended all the same."""
    ledger.charge(40)
    assert not holds_anything(store)
    keep(ledger, [key(1)])
    assert holds_anything(store)


def test_what_flew_when_a_process_died_may_have_been_billed(store, ledger):
    """Its last word counts, and that of a process that ended in order is 0."""
    ledger.risk(100)
    ledger.risk(700)
    keep(ledger, [key(1)])
    assert reload(ledger).bill.unsure == 700
    other = Ledger(store)
    other.risk(50)
    assert reload(ledger).bill.unsure == 750
    ledger.risk(0)
    assert reload(ledger).bill.unsure == 50
    other.close()
    assert reload(ledger).bill.unsure == 50, "what it is about was abandoned, not lost"


def test_a_segment_without_anything_in_it_is_not_left(store):
    """Words about what is in flight are nothing once that has landed."""
    for tokens, left in ((0, []), (9, ["checkpoint/000001.segment"])):
        made = Ledger(store)
        made.risk(5)
        made.risk(tokens)
        made.close()
        assert store.names("checkpoint") == left


def test_the_public_names_are_these():
    """What others may use of the ledger."""
    names = "Bill Ledger Missing NOWHERE Places Published Reader Source forget"
    names += " has_submissions holds_anything size_of"
    assert sorted(package.__all__) == names.split()


def test_the_words_of_any_server_can_be_kept(ledger):
    """Half a surrogate pair, where a server cut its echo, and what a terminal obeys."""
    body = b'{"error": {"message": "bad \\ud83d cut\\u001b[2J\\n\\u202etext"}}'
    asked = Request(keys([key(1)]), ("x",))
    headers = {"x-request-id": "id\udcff"}
    outcome = status.sort(asked, status=400, headers=headers, body=body)
    ledger.reject([Reject(key(1), "refused", outcome.reason, 400, outcome.request_id)])
    (kept,) = reload(ledger).rejects.values()
    assert (kept.message, kept.request_id) == ("400 Bad Request: bad ? cut?[2J ?text", "id?")


# -- places of rows --------------------------------------------------------------------------------


@st.composite
def notes(draw):
    """Rows of a corpus, which of them are the same text, and answers in any order and size."""
    total = draw(st.integers(1, 60))
    same = {
        row: draw(st.integers(0, row - 1))
        for row in range(1, total)
        if draw(st.integers(0, 3)) == 0
    }
    same = {row: first for row, first in same.items() if first not in same}
    asked = draw(st.permutations([row for row in range(total) if row not in same]))
    cuts = sorted(draw(st.lists(st.integers(0, len(asked)), max_size=6)))
    bounds = zip([0, *cuts], [*cuts, len(asked)], strict=True)
    return total, same, [asked[a:b] for a, b in bounds if b > a]


@given(notes=notes(), noted=st.sampled_from([1, 7, 1000]), looks=st.booleans())
@settings(max_examples=80, deadline=None, database=None)
def test_every_row_has_the_place_that_was_noted_for_its_text(tmp_path_factory, notes, noted, looks):
    """Whatever the order of answers, written down at once or late, read meanwhile or not."""
    total, same, answers = notes
    kept = Places(tmp_path_factory.mktemp("p") / "places")
    kept.fill([np.array([places.SAME - same[n] if n in same else NOWHERE for n in range(total)])])
    expected, before = np.full(total, NOWHERE), places.NOTED
    places.NOTED = noted
    try:
        for number, rows in enumerate(answers):
            kept.note(np.array(rows), 1000 * (number + 1), 8)
            expected[rows] = 1000 * (number + 1) + 8 * np.arange(len(rows))
            if looks:
                told = [expected[same.get(row, row)] for row in range(total)]
                assert kept.read(0, total).tolist() == told
    finally:
        places.NOTED = before
    told = [expected[same.get(row, row)] for row in range(total)]
    assert kept.read(0, total).tolist() == told
    assert kept.read(total // 3, total // 2).tolist() == told[total // 3 : total // 2]


def test_answers_tell_where_the_rows_of_a_corpus_have_their_vectors(store, ledger, tmp_path):
    """Without reading the checkpoint again: beside what earlier runs and parts hold."""
    old = Ledger(store)
    keep(old, [key(1), key(2)])
    old.close()
    part = Part(tmp_path / "a", [key(3)])
    ledger = Ledger(store, [part], dimensions=DIMENSIONS)
    corpus = [key(n) for n in (5, 3, 1, 7, 6, 2, 7, 9, 5)]
    missed_rows = np.flatnonzero(ledger.missing([keys(corpus)], scratch=tmp_path).mask(0, 9))
    assert missed_rows.tolist() == [0, 3, 4, 7]
    for rows in ([4, 0], [3]):
        some = [corpus[row] for row in rows]
        args = {"tokens": 1, "model_version": "m", "rows": np.array(rows)}
        ledger.append(keys(some), vectors(some), **args)
    ledger.reject([Reject(key(9), "refused")])
    found = ledger.places.read(0, 9)
    assert (found == NOWHERE).tolist() == [row == 7 for row in range(9)]
    reader = Reader(ledger.sources(), DIMENSIONS)
    right = [one for one in corpus if one != key(9)]
    assert (reader.read(found[found != NOWHERE]) == vectors(right)).all()
    reader.close()
    ledger.close()
    assert located(reload(ledger), [key(5), key(6), key(7)]).min() > NOWHERE
