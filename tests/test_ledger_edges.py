"""The ledger at its edges: a few rows of many, vectors in several columns, who is read beside."""

import numpy as np
import pytest
from test_ledger import DIMENSIONS, key, keys, vector, vectors

from batchembed.exchange import Reject
from batchembed.ledger import NOWHERE, Bill, Ledger, Missing, Places, Reader, Source, join, places
from batchembed.ledger.files import KEYS_AT_ONCE
from batchembed.store import Store


def missing_of(rows, total, paid=3):
    """What a corpus of so many rows misses."""
    bits = np.zeros(total, np.bool_)
    bits[list(rows)] = True
    packed = np.packbits(bits, bitorder="little")
    return Missing(packed, total, total, paid + len(rows), paid, rejected=1, dropped=2)


@pytest.mark.parametrize("total", [1, 7, 8, 9, 64, 1000])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 2000])
def test_a_few_rows_are_spread_over_all_that_are_missing(total, count):
    """The first and the last among them; each was missing, and the rest is as it was."""
    rows = range(0, total, 2)
    whole = missing_of(rows, total)
    few = whole.few(count)
    chosen = np.flatnonzero(few.mask(0, total)).tolist()
    assert len(chosen) == min(count, len(rows)) == few.to_send
    assert set(chosen) <= set(rows)
    assert (few.paid, few.total, few.sendable, few.rejected, few.dropped) == (3, total, total, 1, 2)
    assert whole.mask(0, total).sum() == len(rows), "what it was taken from does not change"
    if count >= 2:
        assert [chosen[0], chosen[-1]] == [rows[0], rows[-1]]
        gaps = np.diff(chosen)
        assert not len(gaps) or gaps.max() <= gaps.min() + 2


@pytest.mark.parametrize("start", [0, 1, 7, 8, 13])
@pytest.mark.parametrize("stop", [13, 16, 17, 20])
def test_any_stretch_of_what_is_missing_is_told(start, stop):
    """Bits of a byte are rows in order, wherever the stretch begins."""
    rows = [0, 1, 3, 7, 8, 11, 14, 16, 19]
    found = missing_of(rows, 20).mask(start, stop)
    assert found.dtype == np.bool_
    assert found.tolist() == [row in rows for row in range(start, stop)]


# -- joins ----------------------------------------------------------------------------------------


def test_a_join_keeps_its_scratch_where_it_is_told(tmp_path, monkeypatch):
    """Both of its tables of buckets: a corpus may be larger than the memory or another disk."""
    made, real = [], join.Buckets

    def buckets(dtype, *, scratch=None):
        made.append((dtype, scratch))
        return real(dtype, scratch=scratch)

    monkeypatch.setattr(join, "Buckets", buckets)
    join.missing([], [keys([key(1)])], scratch=tmp_path, places=Places(tmp_path / "places"))
    assert made == [(join.JOINED, tmp_path), (join.PLACED, tmp_path)]


def test_what_no_row_has_any_more_is_counted_as_dropped(tmp_path):
    """A vector and a reject of texts that left the corpus: the reject is no loss."""
    entries = [
        (keys([key(1), key(2), key(3)]), np.array([100, 112, 124])),
        (keys([key(8), key(9)]), np.full(2, NOWHERE)),
    ]
    where = Places(tmp_path / "places")
    found = join.missing(
        entries, [keys([key(2), key(9), key(5), key(5)])], scratch=tmp_path, places=where
    )
    assert (found.total, found.sendable, found.distinct) == (4, 4, 3)
    assert (found.paid, found.rejected, found.dropped, found.to_send) == (2, 1, 2, 1)
    assert found.mask(0, 4).tolist() == [False, False, True, False]
    assert where.read(0, 4).tolist() == [112, NOWHERE, NOWHERE, NOWHERE]


def test_of_a_shard_only_its_own_keys_count(tmp_path):
    """Vectors and rejects of others are none of it, though they are in the ledger."""
    ledger = Ledger(Store(tmp_path))
    some = [key(n) for n in range(1, 7)]
    ledger.append(keys(some[:4]), vectors(some[:4]), tokens=4, model_version="m")
    ledger.reject([Reject(some[4], "refused"), Reject(some[5], "refused")])
    even = lambda given: given[:, 7] % 2 == 0
    own = [k for k in some if k[7] % 2 == 0]
    told = ledger.missing([keys(own)], scratch=tmp_path, of=even)
    assert (told.distinct, told.paid, told.rejected, told.dropped) == (3, 3, 1, 0)
    told = ledger.missing([keys(own)], scratch=tmp_path)
    assert (told.distinct, told.paid, told.rejected, told.dropped) == (3, 3, 1, 2)
    ledger.close()


# -- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", ["<f4", "<f2"])
@pytest.mark.parametrize("columns", [1, 2, 3])
def test_vectors_that_are_cut_into_columns_are_read_whole(tmp_path, stored, columns):
    """Of several batches, each with its columns one after the other and something between."""
    size, width = 2, 2 * int(stored[-1])
    data, splits, wanted, at = bytearray(b"head"), [], [], []
    for batch, rows in enumerate((3, 1, 4)):
        some = np.arange(rows * size * columns, dtype=np.float32).reshape(rows, -1) + 100 * batch
        starts = []
        for column in range(columns):
            data += b"gap" * column
            starts.append(len(data))
            data += some[:, column * size : (column + 1) * size].astype(stored).tobytes()
        splits.append(starts)
        at += [starts[0] + row * width for row in range(rows)]
        wanted += some.tolist()
    path = tmp_path / "part"
    path.write_bytes(data)
    told = np.array(splits, np.int64) if columns > 1 else None
    empty = Source(tmp_path / "none", width)
    reader = Reader([empty, Source(path, width, told)], size * columns)
    everything = np.array(at) | 1 << places.SOURCE_BITS
    order = [5, 0, 1, 2, 7, 6, 3, 4, 4]
    assert reader.read(everything).tolist() == wanted
    assert reader.read(everything[order]).tolist() == [wanted[n] for n in order]
    assert reader.read(everything[3:3]).shape == (0, size * columns)
    reader.close()


@pytest.mark.parametrize("gap", [0, 4, 12, 40])
@pytest.mark.parametrize("count", [7, 8, 9, 30])
def test_scattered_vectors_are_read_in_one_go_where_that_is_near(tmp_path, monkeypatch, gap, count):
    """At most twice the bytes that are wanted; further apart, each by itself; the same bytes."""
    width, path = 12, tmp_path / "segment"
    numbers = np.arange(count * DIMENSIONS, dtype="<f4").reshape(count, -1)
    path.write_bytes(b"".join(row.tobytes() + b"?" * gap for row in numbers))
    read, reads = places.os.preadv, []
    monkeypatch.setattr(places.os, "preadv", lambda *told: (reads.append(told), read(*told))[1])
    where = np.arange(count) * (width + gap)
    reader = Reader([Source(path, width)], DIMENSIONS)
    assert reader.read(where).tolist() == numbers.tolist()
    together = gap <= width * count / (count - 1)  # the last has no gap behind it
    assert len(reads) == (1 if gap == 0 or together else count)
    shuffled = np.random.default_rng(1).permutation(count)
    assert reader.read(where[shuffled]).tolist() == numbers[shuffled].tolist()
    reader.close()


def test_news_is_told_when_enough_was_noted(tmp_path):
    """What waits for places is woken for many of them, not for each."""
    where = Places(tmp_path / "places")
    where.fill([np.full(600, NOWHERE)])
    for row in range(places.NOTED - 1):
        where.note(np.array([row]), 1000 + 12 * row, 12)
    assert not where.news.is_set()
    where.note(np.array([places.NOTED - 1]), 1000 + 12 * (places.NOTED - 1), 12)
    assert where.news.is_set()
    where.note(np.array([500, 300]), 50_000, 12)
    found = where.read(0, 600)
    assert found[: places.NOTED].tolist() == [1000 + 12 * n for n in range(places.NOTED)]
    assert (found[500], found[300]) == (50_000, 50_012)
    assert (found == NOWHERE).sum() == 600 - places.NOTED - 2


# -- what is on the disk --------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 3, KEYS_AT_ONCE // 2 + 3])
def test_the_places_of_many_small_frames_are_those_of_their_vectors(tmp_path, frames):
    """Some thousand keys are told together; each offset is that of its own vector's bytes."""
    ledger, store = Ledger(Store(tmp_path)), Store(tmp_path)
    for number in range(frames):
        some = [key(2 * number + 1), key(2 * number + 2)]
        ledger.append(keys(some), vectors(some), tokens=1, model_version="m")
    data = store.read("checkpoint/000001.segment")
    seen = []
    for some, offsets in ledger.entries():
        assert len(some) <= KEYS_AT_ONCE + 1
        for one, at in zip(some, offsets.tolist(), strict=True):
            bytes_there = data[at : at + 4 * DIMENSIONS]
            assert bytes_there == vector(one.tobytes()).astype("<f4").tobytes()
            seen.append(one.tobytes())
    assert seen == [key(n) for n in range(1, 2 * frames + 1)]
    ledger.close()


def test_names_of_several_outputs_are_known_after_a_restart(tmp_path):
    """They say how a vector is cut; those of the first answer count."""
    store = Store(tmp_path)
    ledger = Ledger(store)
    ledger.append(
        keys([key(1)]), vectors([key(1)]), tokens=1, model_version="m", outputs=("l1", "l2")
    )
    ledger.close()
    again = Ledger(store)
    again.load()
    assert again.outputs == ("l1", "l2")
    other = Ledger(store, dimensions=7, outputs=("given",))
    other.load()
    assert (other.outputs, other.dimensions) == (("given",), 7)


def test_what_is_beside_is_read_and_billed_apart(tmp_path):
    """A shard knows what the run before it paid; `own` is its own alone, and comes last."""
    run, shard = Store(tmp_path / "run"), Store(tmp_path / "shard")
    for store, number, tokens in ((run, 1, 10), (shard, 2, 5)):
        made = Ledger(store)
        made.append(keys([key(number)]), vectors([key(number)]), tokens=tokens, model_version="m")
        made.reject([Reject(key(number + 10), "refused")])
        made.close()
    ledger = Ledger(shard, beside=[run])
    ledger.load()
    assert [bill.tokens for bill in ledger.others] == [10]
    assert (ledger.own.tokens, ledger.bill.tokens, ledger.bill.requests) == (5, 15, 2)
    assert set(ledger.rejects) == {key(11), key(12)}
    paths = [run.path("checkpoint/000001.segment"), shard.path("checkpoint/000001.segment")]
    paths.append(shard.path("checkpoint/000002.segment"))
    assert [(s.path, s.width) for s in ledger.sources()] == [(p, 12) for p in paths]
    found = {
        k.tobytes(): int(p) for some, at in ledger.entries() for k, p in zip(some, at, strict=False)
    }
    assert {k: p >> places.SOURCE_BITS for k, p in found.items()} == {key(1): 0, key(2): 1}


def test_a_bill_counts_what_it_is_not_told_as_nothing():
    """Manifests of before there were prices, and notes of frames without a word."""
    bill = Bill()
    bill.add({}, [])
    assert bill == Bill(rates={"": 0})
    bill.count(0, {})
    assert (bill.requests, bill.texts, bill.tokens, bill.unsure) == (0, 0, 0, 0)
    bill.count(2, {})
    bill.count(0, {"tokens": 7, "unsure": 1, "rate": "1 EUR", "model_version": "v"})
    bill.count(3, {"tokens": 4, "unsure": 2})
    assert bill == Bill(3, 5, 11, {"": 4, "1 EUR": 7}, 3, {"v"})
    whole = Bill()
    for _ in range(2):
        whole.join(bill)
    assert whole == Bill(6, 10, 22, {"": 8, "1 EUR": 14}, 6, {"v"})
    whole.add({"requests": 1, "texts": 2, "tokens": 3}, ["w"])
    assert whole == Bill(7, 12, 25, {"": 11, "1 EUR": 14}, 6, {"v", "w"})


@pytest.mark.parametrize(("kept", "sections", "requests"), [(5, 1, 1), (9, 2, 0)])
def test_what_a_server_bills_no_tokens_for_is_a_request_all_the_same(kept, sections, requests):
    """The beginning of a text was asked for; the mean of its sections was not."""
    bill = Bill()
    extent = {"characters": 9, "kept": kept, "sections": sections}
    bill.count(1, {"tokens": 0, "extent": extent})
    assert (bill.requests, bill.texts, bill.tokens) == (requests, 1, 0)
