"""Staging while texts are still embedded: the same files as afterwards, or nothing."""

import errno
import threading

import numpy as np
import pyarrow as pa
import pytest
from fakes.runs import until
from fakes.scripted import KEYER
from fakes.vectors import DIMENSIONS, vectors
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed import publish
from batchembed.errors import ActionNeededError, NotFinishedError, RunHeldError
from batchembed.exchange import Reject
from batchembed.ledger import Ledger, places
from batchembed.publish import staging
from batchembed.spec import unsendable
from batchembed.store import NEXT, Store, Writer
from batchembed.survey import REASONS

STEP = 4
TEXTS = [*(f"text {n}" for n in range(30)), None, "text 3", "text 29", " ", "last"]


class Job:
    """A corpus in a run directory, and its answers one at a time."""

    def __init__(self, folder, texts=TEXTS, dtype="float32", part_rows=11):
        self.given, self.total = texts, len(texts)
        self.store, self.lost = Store(folder / "run"), False
        self.ledger = Ledger(self.store)
        self.kept_schema = pa.schema([("id", pa.string())])
        self.id_field = self.kept_schema.field(0)
        self.dtype, self.part_rows = dtype, part_rows
        self._keys = np.zeros((self.total, 16), np.uint8)
        self._reasons = np.zeros(self.total, np.uint8)
        for row, text in enumerate(texts):
            if why := unsendable(text):
                self._reasons[row] = REASONS.index(why)
            else:
                self._keys[row] = np.frombuffer(KEYER.key(text, "symmetric"), np.uint8)
        missing = self.ledger.missing([self._keys], scratch=folder)
        self.to_send = np.flatnonzero(missing.mask(0, self.total)).tolist()
        self.sides = publish.Sides(self, self, self.ledger.places, self.ledger, self.still_ours)

    def read(self, start, stop):
        return self._keys[start:stop], self._reasons[start:stop]

    def metadata(self):
        for start in range(0, self.total, STEP):
            names = [f"id-{row}" for row in range(start, min(start + STEP, self.total))]
            ids = pa.array(names)
            yield ids, pa.RecordBatch.from_arrays([ids], schema=self.kept_schema)

    def form(self):
        if self.ledger.dimensions is None:
            raise ActionNeededError("nothing is embedded", hint="")
        about = {"versions": sorted(self.ledger.bill.model_versions)}
        return publish.Form(DIMENSIONS, self.dtype, about, REASONS, self.part_rows)

    def still_ours(self):
        if self.lost:
            raise RunHeldError("another run holds it", hint="")

    def answer(self, *rows, version="v1"):
        made = vectors([self.given[row] for row in rows])
        keys, numbers = self._keys[list(rows)], np.array(rows)
        self.ledger.append(keys, made, tokens=1, model_version=version, rows=numbers)

    def reject(self, row):
        self.ledger.reject([Reject(self._keys[row].tobytes(), "refused", "no")])

    def ahead(self):
        return publish.Ahead(self.sides, self.ledger.places, self.store, form=self.form)

    def afterwards(self):
        """The files of a staging after the last answer, and what it says of them."""
        staged = publish.stage(self.sides, self.store, form=self.form(), heard=lambda _: None)
        return staged, self.files()

    def files(self):
        root = self.store.path(NEXT)
        return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "NOTED", 1)
    made = Job(tmp_path)
    yield made
    made.ledger.close()


def staged_rows(ahead):
    return ahead.rows


def ended(job, during, rest=()):
    """Stage while `during` happens; at the end answer the `rest`."""
    with job.ahead() as ahead:
        during(ahead)
        if rest:
            job.answer(*rest)
        return ahead.end(lambda _: None)


# -- without trouble -------------------------------------------------------------------------------


@given(order=st.randoms(), cuts=st.lists(st.integers(1, 7), max_size=20), data=st.data())
@settings(max_examples=25, deadline=None, database=None)
def test_the_files_are_those_of_a_staging_afterwards(tmp_path_factory, order, cuts, data):
    """Whatever the order and the size of answers, and whichever texts are rejected."""
    before, places.NOTED = places.NOTED, data.draw(st.sampled_from([1, 5, 256]))
    try:
        job = Job(tmp_path_factory.mktemp("a"), part_rows=data.draw(st.integers(1, 40)))
        rows = list(job.to_send)
        order.shuffle(rows)
        bad = data.draw(st.sets(st.sampled_from(rows), max_size=4))
        heard = []
        with job.ahead() as ahead:
            sizes = iter(cuts)
            while rows:
                some = [rows.pop() for _ in range(min(next(sizes, 3), len(rows)))]
                if good := [row for row in some if row not in bad]:
                    job.answer(*good)
                for row in bad.intersection(some):
                    job.reject(row)
            staged = ahead.end(heard.append)
        files = job.files()
        assert sum(heard) == job.total
        assert (staged, files) == job.afterwards()
        assert staged.rejected == 2 + sum(
            job.given[n] in {job.given[b] for b in bad} for n in range(job.total)
        )
        job.ledger.close()
    finally:
        places.NOTED = before


def test_what_is_settled_is_staged_before_the_last_answer(job):
    """The first rows are written while the last ones are still asked for; a gap holds it up."""
    first, rest = job.to_send[:STEP], job.to_send[STEP:]
    with job.ahead() as ahead:
        job.answer(*rest)
        assert staged_rows(ahead) == 0
        job.answer(*first)
        until(lambda: staged_rows(ahead) == job.total)
        staged = ahead.end(lambda _: None)
    assert (staged, job.files()) == job.afterwards()


def test_a_reject_settles_its_row(job):
    """What will never have a vector is not waited for."""
    with job.ahead() as ahead:
        job.reject(0)
        job.answer(*job.to_send[1 : 2 * STEP])
        until(lambda: staged_rows(ahead) == 2 * STEP)
        job.answer(*job.to_send[2 * STEP :])
        assert ahead.end(lambda _: None).rejected == 3


def test_nothing_is_to_be_sent(job):
    """A run that only publishes does it in the same way."""
    job.answer(*job.to_send)
    with job.ahead() as ahead:
        staged = ahead.end(lambda _: None)
    assert (staged, job.files()) == job.afterwards()


def test_parts_name_every_version_of_the_model(job):
    """A server that is updated meanwhile: what was staged before says too little, and is redone."""
    half = len(job.to_send) // 2
    with job.ahead() as ahead:
        job.answer(*job.to_send[:half])
        until(lambda: staged_rows(ahead) >= STEP)
        job.answer(*job.to_send[half:], version="v2")
        staged = ahead.end(lambda _: None)
    assert b'"versions":["v1","v2"]' in job.files()[staged.parts[0].name]
    assert (staged, job.files()) == job.afterwards()


# -- trouble ---------------------------------------------------------------------------------------


def test_a_run_that_stops_leaves_nothing_staged(job):
    """A signal, a wrong key, a full disk: the thread ends, its files go, the error is the run's."""

    def stopped(ahead):
        job.answer(*job.to_send[: 3 * STEP])
        until(lambda: staged_rows(ahead) == 3 * STEP)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ended(job, stopped)
    assert job.files() == {}
    assert not [t for t in threading.enumerate() if t.name.startswith("stage")]


def test_a_run_that_stops_before_the_first_answer_leaves_nothing(job):
    """The thread does not wait for ever."""
    with pytest.raises(KeyboardInterrupt), job.ahead():
        raise KeyboardInterrupt
    assert job.files() == {}


def test_a_disk_that_is_full_ends_the_run_after_its_last_answer(job, monkeypatch):
    """What is embedded meanwhile is paid for and kept; what was staged makes room at once."""

    def full(*_):
        raise OSError(errno.ENOSPC, "no space")

    def during(ahead):
        job.answer(*job.to_send[:STEP])
        until(ahead._staging.done)
        assert job.files() == {}

    monkeypatch.setattr(Writer, "write", full)
    with pytest.raises(OSError, match="no space"):
        ended(job, during, job.to_send[STEP:])
    assert job.files() == {}
    assert job.store.names("checkpoint") == ["checkpoint/000001.segment"]


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_files_of_a_run_that_took_the_directory_over_are_left_alone(job, error):
    """Where the lock was taken away, another run may stage by now under the same names."""
    theirs = job.store.path(f"{NEXT}/embeddings/part-00000.arrow")

    def during(ahead):
        job.answer(*job.to_send[:STEP])
        until(lambda: staged_rows(ahead) == STEP)
        job.lost = True
        theirs.write_bytes(b"theirs")
        if error is not None:
            raise error

    with pytest.raises(error or RunHeldError):
        ended(job, during, job.to_send[STEP:])
    assert theirs.read_bytes() == b"theirs"


def test_nothing_was_answered(job):
    """All texts were rejected: the error says so, as it does afterwards."""
    with pytest.raises(ActionNeededError, match="nothing"):
        ended(job, lambda _: [job.reject(row) for row in job.to_send])


def test_a_row_without_vector_and_without_reject_is_never_published(job):
    """At the end nothing is waited for any more, and nothing is guessed."""
    with pytest.raises(NotFinishedError, match="neither"):
        ended(job, lambda _: None, job.to_send[:-1])
    assert job.files() == {}


def test_staging_that_does_not_wait_would_be_seen(job, monkeypatch):
    """The control: rows that are not settled are taken as if they were."""

    def during(ahead):
        job.answer(job.to_send[0])
        until(ahead._staging.done)

    monkeypatch.setattr(publish.Ahead, "_settled", lambda *_: True)
    with pytest.raises(NotFinishedError):
        ended(job, during, job.to_send[1:])


def test_vectors_that_go_to_the_next_row_would_be_seen(job, monkeypatch):
    """The control: places that are noted one row too far are another vector on some row."""
    real = places.Places.note
    monkeypatch.setattr(
        places.Places, "note", lambda s, rows, place, width: real(s, rows, place - width, width)
    )
    monkeypatch.setattr(staging, "VECTOR_BYTES", 1)
    with job.ahead() as ahead:
        job.answer(*job.to_send)
        staged = ahead.end(lambda _: None)
    wanted, data = vectors([job.given[1]])[0], job.files()[staged.parts[0].name]
    column = pa.ipc.open_file(data).read_all()["embedding"].to_pylist()
    assert column[1] != wanted.tolist()
    assert column[2] == wanted.tolist()
