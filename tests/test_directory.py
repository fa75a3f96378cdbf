"""A run directory belongs to one spec; nothing foreign is touched, nothing done is done again."""

import dataclasses

import orjson
import pytest
from fakes.dying import Died, Steps
from fakes.time import HandClock

from batchembed import directory
from batchembed.controls import Pattern
from batchembed.directory import (
    IDENTITY,
    Identity,
    claim,
    holder,
    is_compared,
    is_done,
    keep_job,
    open_ledger,
)
from batchembed.errors import DamagedError, JobError, SpecChangedError, UsageError
from batchembed.exchange import Reject
from batchembed.ledger import Ledger
from batchembed.parts import FORMAT, MANIFEST, FileNote, Manifest
from batchembed.seal import sealed_toml
from batchembed.spec import Spec
from batchembed.store import Store

SPEC = Spec("openai", "text-embedding-3-small", dimensions=256)
MINE = Identity(SPEC, "document", (Pattern("play", factor=7.0),), "float32")
TOML = "[corpus]\npath = 'x'\n"


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "run")
    made.make_folder(".")
    return made


def claimed(store, identity=MINE):
    return claim(store, identity, HandClock())


def manifest(identity=MINE, **more):
    made = Manifest(
        format=FORMAT,
        batchembed="0",
        identity=orjson.loads(orjson.dumps(identity.told())),
        corpus={"fingerprint": "f", "id": None},
        parts=(),
        rejects=None,
        similarity=(),
        compared=None,
        counts={},
        reasons={},
        bill={},
        dimensions=256,
        dtype="float32",
        model_versions=(),
        seconds=0.0,
        finished="then",
    )
    return dataclasses.replace(made, **more)


# -- claiming --------------------------------------------------------------------------------------


def test_an_empty_directory_becomes_the_jobs(store):
    """Its identity and its job are written down, and it is known again."""
    assert claimed(store) is None
    told = orjson.loads(store.read(IDENTITY))
    assert told["format"] == FORMAT
    assert told["made"] == "2026-01-01T00:00:00+00:00"
    assert told["spec"] == {
        "provider": "openai",
        "name": "text-embedding-3-small",
        "dimensions": 256,
    }
    assert told["fingerprint"] == SPEC.fingerprint()
    assert store.path("checkpoint/scratch").is_dir()
    before = store.read(IDENTITY)
    assert claimed(store) is None
    assert store.read(IDENTITY) == before


def test_a_complete_run_gives_its_manifest(store):
    """Also when the checkpoint's own note of the identity is gone."""
    store.put(MANIFEST, manifest().to_json())
    assert claimed(store) == manifest()
    assert not store.path(IDENTITY).exists()


def test_the_job_that_ran_last_is_the_one_that_stands_there(store):
    """Settings that change no vector may change."""
    for words in (TOML, "# more concurrency\n"):
        keep_job(store, words)
        assert store.read("job.toml") == sealed_toml(words).encode()


@pytest.mark.parametrize("name", ["notes.txt", "embeddings/part-00000.arrow", "checkpoint/x"])
def test_a_folder_of_something_else_is_not_touched(store, name):
    """Named, with what it holds; nothing is written into it."""
    store.put(name, b"mine")
    with pytest.raises(JobError, match="not a run directory") as told:
        claimed(store)
    assert f"`{name.split('/')[0]}`" in told.value.message
    assert str(store.root) in told.value.message
    assert told.value.hint
    assert [p.name for p in store.root.rglob("*") if p.is_file()] == [name.split("/")[-1]]


def test_a_lock_file_alone_is_an_empty_directory(store):
    """The hold is taken before the claim."""
    store.put(".lock", b"{}")
    claimed(store)


def test_a_run_that_died_at_any_moment_of_its_claim_can_be_claimed(tmp_path, monkeypatch):
    """The same command again goes on, from the very first write on."""
    store = Store(tmp_path / "count")
    store.make_folder(".")
    with monkeypatch.context() as patched:
        steps = Steps(patched)
        claimed(store)
    for at in range(1, steps.count + 1):
        store = Store(tmp_path / str(at))
        store.put(".lock", b"{}")
        with monkeypatch.context() as patched:
            Steps(patched, at)
            with pytest.raises(Died):
                claimed(store)
        claimed(store)
        assert not [p for p in store.root.rglob(".tmp-*") if p.name != ".lock"], at
        assert orjson.loads(store.read(IDENTITY))["fingerprint"] == SPEC.fingerprint()
    assert steps.count > 8


def test_a_strict_look_for_strangers_would_lock_the_user_out(tmp_path, monkeypatch):
    """The control: without the exception for what a dead claim leaves, the test above fails."""
    store = Store(tmp_path)
    store.put("checkpoint/.tmp-1", b"half")
    monkeypatch.setattr(directory.whole, "TEMPORARY", "never")
    with pytest.raises(JobError):
        claimed(store)


def test_what_a_killed_process_left_is_swept(store):
    """Temporary files, scratch, and a publication that was not begun."""
    claimed(store)
    leftovers = [f"{folder}.tmp-1" for folder in ("", "checkpoint/", "embeddings/", "similarity/")]
    for name in (*leftovers, "checkpoint/scratch/join-1/003", "checkpoint/next/embeddings/x"):
        store.put(name, b"half")
    for name in ("embeddings/mine", "checkpoint/000001.segment"):
        store.put(name, b"keep")
    claimed(store)
    assert sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file()) == [
        "checkpoint/000001.segment",
        IDENTITY,
        "embeddings/mine",
    ]


OTHERS = {
    "model.name": dataclasses.replace(MINE, spec=dataclasses.replace(SPEC, name="large")),
    "model.dimensions": dataclasses.replace(MINE, spec=dataclasses.replace(SPEC, dimensions=None)),
    "model.representation": dataclasses.replace(MINE, role="query"),
    "model.controls": dataclasses.replace(MINE, patterns=()),
    "output.dtype": dataclasses.replace(MINE, dtype="float16"),
}


@pytest.mark.parametrize("setting", OTHERS)
@pytest.mark.parametrize("complete", [False, True])
def test_vectors_of_another_spec_are_never_mixed_in(store, setting, complete):
    """The setting is named with its old and new value; nothing is written."""
    if complete:
        store.put(MANIFEST, manifest().to_json())
    else:
        claimed(store)
        ledger = Ledger(store)
        ledger.reject([Reject(b"k" * 16, "refused")])
        ledger.close()
        if setting == "output.dtype":
            claimed(store, OTHERS[setting])  # the checkpoint holds float32 for either
            return
    before = {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}
    with pytest.raises(SpecChangedError) as told:
        claimed(store, OTHERS[setting])
    assert f"  {setting}: " in told.value.message
    assert told.value.message.count("\n") == 1
    assert "->" in told.value.message
    assert told.value.hint
    assert before == {p: p.read_bytes() for p in store.root.rglob("*") if p.is_file()}


def test_without_a_vector_any_spec_may_have_the_directory(store):
    """A job that was mended before anything was paid for goes on where it was."""
    claimed(store)
    claimed(store, OTHERS["model.name"])
    assert orjson.loads(store.read(IDENTITY))["spec"]["name"] == "large"


@pytest.mark.parametrize("name", [IDENTITY, MANIFEST])
def test_a_newer_format_is_refused(store, name):
    """A program that does not know it must not write into it."""
    store.put(name, orjson.dumps({"format": FORMAT + 1}))
    with pytest.raises(UsageError, match="newer"):
        claimed(store)


def test_damage_to_what_names_the_directory_is_told(store):
    """With the way out."""
    store.put(IDENTITY, b"{")
    with pytest.raises(DamagedError, match="damaged") as told:
        claimed(store)
    assert told.value.hint
    store.put(MANIFEST, b"{")
    with pytest.raises(DamagedError):
        claimed(store)


# -- what is left to do ----------------------------------------------------------------------------


def noted(store, name, data=b"data"):
    store.put(name, data)
    return FileNote(name, 1, len(data), "")


def test_a_complete_run_of_this_corpus_is_done(store):
    """By names and sizes: in seconds, whatever the size."""
    part, rejects = noted(store, "embeddings/part-00000.arrow"), noted(store, "rejects.arrow")
    whole = manifest(parts=(part,), rejects=rejects)
    told = {"fingerprint": "f", "id": None}
    assert not is_done(store, whole, told), "without its manifest it is not complete"
    store.put("manifest.json", b"{}")
    assert is_done(store, whole, told)
    assert not is_done(store, None, told)
    assert not is_done(store, whole, {**told, "fingerprint": "g"})
    assert not is_done(store, whole, {**told, "id": "id"})
    store.put("rejects.arrow", b"longer than it was")
    assert not is_done(store, whole, told)
    store.put("rejects.arrow", b"data")
    store.delete("embeddings/part-00000.arrow")
    assert not is_done(store, whole, told)


def test_the_comparison_that_a_job_wants_is_there_or_not(store):
    """Another `top_k` is another comparison."""
    note = noted(store, "similarity/top_k.arrow")
    whole = manifest(similarity=(note,), compared={"top_k": 3})
    assert is_compared(store, whole, {"top_k": 3})
    assert not is_compared(store, whole, {"top_k": 4})
    assert is_compared(store, whole, None), "it is of these very vectors, and stays"
    assert is_compared(store, manifest(), None)
    store.delete("similarity/top_k.arrow")
    assert not is_compared(store, whole, {"top_k": 3})
    assert not is_compared(store, whole, None)


def test_the_ledger_of_a_new_directory_is_empty(store):
    """No vectors, no dimension, no damage; the only source is the segment to be written."""
    ledger, damaged = open_ledger(store, None)
    assert (list(ledger.entries()), ledger.dimensions, damaged) == ([], None, [])
    assert [source.path.name for source in ledger.sources()] == ["000001.segment"]


def test_missing_parts_are_named(store):
    """Their rows are made again."""
    note = FileNote("embeddings/part-00000.arrow", 1, 4, "ab")
    ledger, damaged = open_ledger(store, manifest(parts=(note,)))
    assert damaged == [note]
    assert list(ledger.entries()) == []
    assert ledger.dimensions == 256


def test_a_run_tells_who_it_is():
    """What another run is told when it finds the directory taken."""
    told = holder(HandClock(90.0))
    assert told["process"] > 0
    assert told["on"]
    assert told["since"] == "2026-01-01T00:01:30+00:00"
