"""An earlier comparison is only a cache: whatever is wrong with it, all is compared anew."""

import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from fakes.runs import digests, manifest, texts, write
from test_similarity import Held, bytes_of, random_side

import batchembed
from batchembed import completing
from batchembed.clock import SystemClock
from batchembed.errors import RunHeldError
from batchembed.job import load
from batchembed.monitor import Monitor
from batchembed.parts import read_manifest
from batchembed.preparing import Run
from batchembed.similarity import SimilaritySettings, compare, unless_damaged
from batchembed.store import Store

FORMS = ({"top_k": 3}, {"min_score": 0.1})
forms = pytest.mark.parametrize("asked", FORMS, ids=lambda asked: next(iter(asked)))
TEXTS = texts(40, seed=1)

NAMES = {
    "numbers": lambda rows: pa.array(np.arange(rows)),
    "others": lambda rows: pa.array([f"another {row}" for row in range(rows)]),
    "the same, turned": lambda rows: pa.array([f"row {rows - 1 - row}" for row in range(rows)]),
    "wider": lambda rows: pa.array([f"row {row}" for row in range(rows)], pa.large_string()),
    "few words": lambda rows: pa.array([f"row {row}" for row in range(rows)]).dictionary_encode(),
}


@forms
@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("sides", [1, 2])
def test_rows_that_have_other_ids_now_are_compared_anew(asked, names, sides, tmp_path):
    """Whatever was known by the old ids: the bytes are those of a comparison that knew nothing."""
    held, known = random_side(6, 60, 4), tmp_path / "known.arrow"
    other = random_side(7, 60, 4)
    renamed = Held(held.vectors, held.valid, NAMES[names](60))
    pair = (held, renamed) if sides == 1 else ((other, held), (other, renamed))
    before, now = ((one,) if sides == 1 else one for one in pair)
    known.write_bytes(bytes_of(*before, **asked))
    assert bytes_of(*now, known=known, **asked) == bytes_of(*now, **asked)


def test_ids_that_changed_places_among_equal_scores_are_noticed(tmp_path):
    """No score is wrong by it, but of equal ones the first row is the neighbour."""
    left = Held([[1.0, 0.0]])
    right = Held([[1.0, 1.0], [2.0, 2.0], [1.0, 2.0]], ids=pa.array(["a", "b", "c"]))
    turned = Held(right.vectors, ids=pa.array(["b", "a", "c"]))
    known = tmp_path / "known.arrow"
    known.write_bytes(bytes_of(left, right, top_k=1))
    assert bytes_of(left, turned, top_k=1, known=known) == bytes_of(left, turned, top_k=1)


@pytest.mark.parametrize("asked", [*FORMS, {"min_score": 0.1, "groups": True}], ids=str)
def test_the_same_file_is_made_again_over_itself(asked, tmp_path):
    """An answer that is there already is no hindrance, also where it is none to build on."""
    held, known = Held(np.ones((6, 2))), tmp_path / "known.arrow"
    known.write_bytes(bytes_of(held, **asked))
    assert bytes_of(held, known=known, **asked) == known.read_bytes()


@forms
@pytest.mark.parametrize("where", np.linspace(0.02, 0.98, 25))
def test_a_damaged_earlier_file_changes_nothing(asked, where, tmp_path):
    """Flipped bytes anywhere, a score or an id or the form itself: all is compared anew."""
    held, known = random_side(6, 60, 4), tmp_path / "known.arrow"
    expected = bytes_of(held, **asked)
    damaged = bytearray(expected)
    at = int(where * len(damaged))
    damaged[at : at + 8] = bytes(byte ^ 0x55 for byte in damaged[at : at + 8])
    known.write_bytes(damaged)

    def made(earlier: Path | None) -> bytes:
        sink = io.BytesIO()
        compare(held, None, SimilaritySettings(**asked), write=sink, known=earlier)
        return sink.getvalue()

    assert unless_damaged(made, known) == expected


def _broken(file):
    """Make each score of a comparison another, in an Arrow file that is whole."""
    with pa.OSFile(str(file)) as source:
        table = pa.ipc.open_file(source).read_all()
    frame = pl.from_arrow(table)
    half = pl.element().struct.with_fields(pl.field("score") / 2)
    wrong = (
        frame.with_columns(pl.col("neighbors").list.eval(half))
        if "neighbors" in frame.columns
        else frame.with_columns(pl.col("score") / 2)
    )
    with pa.ipc.new_file(str(file), table.schema) as sink:
        sink.write_table(wrong.to_arrow().cast(table.schema))


@forms
def test_the_command_over_a_damaged_file_makes_it_right(asked, place, server, tmp_path):
    """`similarity` into a file whose scores are wrong compares all and leaves nothing else."""
    job, out = place(TEXTS, server=server), tmp_path / "out" / "scores.arrow"
    out.parent.mkdir()
    job.run()
    batchembed.similarity(job.out, None, out, SimilaritySettings(**asked))
    right = out.read_bytes()
    _broken(out)
    assert out.read_bytes() != right
    batchembed.similarity(job.out, None, out, SimilaritySettings(**asked))
    assert out.read_bytes() == right
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@forms
def test_a_finished_job_may_get_other_ids(asked, place, server):
    """Another id column, or other ids of the same texts: the run ends as a fresh one does."""
    job = place(TEXTS, server=server, corpus__id="number", similarity=asked)
    job.run()
    job.set(similarity=asked)
    job.run()
    fresh = place(TEXTS, name="fresh", server=server, similarity=asked)
    fresh.run()
    assert digests(job.out) == digests(fresh.out)
    for one in (job, fresh):
        named = pa.array([f"renamed {row}" for row in range(len(TEXTS))])
        at = one.table.schema.get_field_index("id")
        write(one.corpus, one.table.set_column(at, "id", named))
    job.run()
    anew = fresh.folder / "anew" / "run"
    fresh.run("run", fresh.job, "--out", anew)
    assert digests(job.out) == digests(anew)


def test_a_comparison_alone_is_not_published_into_the_run_of_another(place, server):
    """Who lost the directory while comparing leaves its files as they are."""
    job = place(TEXTS, server=server, similarity={"top_k": 3})
    job.run()
    job.set(similarity={"top_k": 5})
    before, store = manifest(job.out), Store(job.out)

    def taken():
        raise RunHeldError("another run holds the directory", hint="wait")

    run = Run(load(job.job), store, Monitor("quiet"), {}, SystemClock(), still_ours=taken)
    with pytest.raises(RunHeldError):
        completing.only_compare(run, read_manifest(store))
    assert manifest(job.out) == before
