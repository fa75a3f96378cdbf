"""The job files in jobs/: each is complete, reads what is there, and shows what it says."""

import csv
from pathlib import Path

import numpy as np
import pytest

from batchembed.controls import check, find
from batchembed.job import load
from batchembed.providers.static_model import StaticModel

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "jobs").rglob("*.toml"))
NAMES = [str(path.relative_to(ROOT / "jobs")) for path in FILES]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    """Paths in a job file are relative to where the command is given."""
    monkeypatch.chdir(ROOT)


def test_there_is_a_job_for_each_thing_to_learn():
    """The first job, the three founding ideas for two providers, and a server of one's own."""
    ideas = {"symmetric", "documents", "queries", "offers", "wish", "amplified"}
    wanted = {f"{idea}.toml" for idea in ideas} | {f"aleph-alpha/{idea}.toml" for idea in ideas}
    assert wanted | {"quickstart.toml", "openai-compatible.toml"} <= set(NAMES)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_each_job_file_loads_and_its_corpus_is_there(path):
    """Nothing is missing that a newcomer would have to guess."""
    job = load(path)
    assert all((ROOT / name).is_file() for name in job.table.path)
    assert job.output.path.startswith("runs/")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_each_job_file_explains_itself(path):
    """It begins with what it is for and how it is run, and explains some of its settings."""
    text = path.read_text("utf-8")
    assert text.startswith("# ")
    assert f"#     batchembed run {path.relative_to(ROOT)}\n" in text
    assert text.count("#") >= 5
    assert max(map(len, text.splitlines())) <= 100


def test_no_two_job_files_write_to_the_same_place():
    """A run directory belongs to one job."""
    paths = [load(path).output.path for path in FILES]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_what_a_job_is_compared_with_is_another_job_of_the_same_folder_and_model(path):
    """Vectors of two runs are comparable when their specs are the same."""
    job = load(path)
    if job.similarity is None or job.similarity.against is None:
        return
    others = {other.output.path: other for other in map(load, path.parent.glob("*.toml"))}
    against = others[job.similarity.against]
    assert against.spec() == job.spec()
    assert (against.role, job.role) == ("document", "query")


def texts(name):
    with (ROOT / "sample_data" / "founding" / name).open(encoding="utf-8", newline="") as file:
        return {row["id"]: row["text"] for row in csv.DictReader(file)}


def nearest(job):
    """The offer that is nearest to the wish, with the job's controls."""
    model, wish, offers = StaticModel.load(), texts("wish.csv")["wish"], texts("offers.csv")
    controls = find(job.patterns, wish)
    assert check(controls, wish) is None
    spans = [[(c.start, c.length, c.factor) for c in controls]]
    scores = model.encode([wish], spans)[0] @ model.encode(list(offers.values()))[0].T
    return list(offers)[int(np.argmax(scores))]


def test_amplifying_one_word_changes_which_offer_wins():
    """As it stands the wish is nearest to the television; with "play" amplified, to the console."""
    assert nearest(load("jobs/wish.toml")) == "television"
    assert nearest(load("jobs/amplified.toml")) == "console"


def test_the_wish_and_the_amplified_wish_differ_in_the_control_alone():
    """The two jobs show one thing: everything else in them is the same."""
    wish, amplified = load("jobs/wish.toml"), load("jobs/amplified.toml")
    assert (wish.table, wish.spec(), wish.role) == (
        amplified.table,
        amplified.spec(),
        amplified.role,
    )
    assert [(p.match, p.factor) for p in amplified.patterns] == [("play", 7)]
    assert wish.patterns == ()


ALEPH_ALPHA = [name for name in NAMES if name.startswith("aleph-alpha/")]
ONLY_THERE = {f"aleph-alpha/{name}.toml" for name in ("images", "layers", "instruction")}


@pytest.mark.parametrize("name", sorted(set(ALEPH_ALPHA) - ONLY_THERE))
def test_the_jobs_for_aleph_alpha_are_those_for_the_local_model(name):
    """The same corpus, role, controls and comparison: only the model is another."""
    theirs, ours = load(f"jobs/{name}"), load(f"jobs/{Path(name).name}")
    assert (theirs.table, theirs.role, theirs.patterns) == (ours.table, ours.role, ours.patterns)
    assert (theirs.spec().provider, theirs.spec().dimensions) == ("aleph-alpha", 128)
    assert theirs.spec().name == "luminous-base"
    assert (theirs.similarity is None) == (ours.similarity is None)


def test_the_questions_that_ask_the_same_are_the_pairs_that_pass_the_threshold():
    """q01 and q02 ask the same, q03 and q04 too, and so on to q12; q13 and q14 stand alone."""
    questions, least = texts("questions.csv"), load("jobs/symmetric.toml").similarity.min_score
    vectors = StaticModel.load().encode(list(questions.values()))[0]
    scores, ids = vectors @ vectors.T, list(questions)
    near = {(ids[i], ids[j]) for i, j in np.argwhere(scores >= least) if i < j}
    assert near == {(f"q{n:02d}", f"q{n + 1:02d}") for n in range(1, 12, 2)}
