"""The page and the card: text stays text, nothing is asked of anybody, same run, same bytes."""

import base64
import dataclasses
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import faults, runs
from fakes.runs import texts
from hypothesis import given, settings
from hypothesis import strategies as st

import batchembed
from batchembed import api
from batchembed.errors import UsageError
from batchembed.history import Execution, Point, Wait
from batchembed.parts import Manifest
from batchembed.report import card, figures, neighbors
from batchembed.report.drawn import Drawn
from batchembed.report.page import page
from batchembed.report.told import Told
from batchembed.report.words import MOST_WORDS, beside, clean, cut

NASTY = (
    "<script>alert(1)</script>", "</script><script>alert(2)</script>", "<!--", "-->", "]]>",
    '"><img src=x onerror=alert(3)>', "&lt;b&gt; & <b>", "$data ${script} $$", "\u202eabc\u2066",
    "שלום עולם", "👩‍👩‍👧‍👦 🏳️‍🌈", "a\u2028b\u2029c",
    "null\x00byte\x1b[31m", "javascript:alert(4)", "`|*_#",
)  # fmt: skip


class Reader(HTMLParser):
    """What a browser would see: elements with their attributes, and the text in between."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts, self.inside = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.inside.append(tag)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, data):
        self.texts.append((self.inside[-1] if self.inside else "", data))

    def joined(self, tag):
        return "".join(text for inside, text in self.texts if inside == tag)


def read(raw):
    reader = Reader()
    reader.feed(raw.decode())
    reader.close()
    return reader


def manifest(rows, **more):
    """A manifest as a run over `rows` rows would leave it."""
    spec = {"provider": "openai", "name": "fake-model", **more.pop("spec", {})}
    identity = {"spec": spec, "fingerprint": "ab" * 16, "role": "symmetric", "controls": []}
    counts = {"rows": rows, "distinct": rows, "embedded": rows, "reused": 0, "rejected": 0}
    told = {
        "format": 1, "batchembed": "0.1.0", "identity": identity | {"dtype": "float32"},
        "corpus": {"fingerprint": "cd" * 16, "id": "id"}, "parts": (), "rejects": None,
        "similarity": (), "compared": None, "counts": counts, "reasons": {},
        "bill": {"requests": 1, "texts": rows, "tokens": 10}, "dimensions": 8, "dtype": "float32",
        "model_versions": ("fake-1",), "seconds": 1.0, "finished": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    return Manifest(**(told | more))


def drawn(given_texts, **columns):
    """Rows of these texts, each with a random vector of eight dimensions."""
    n = len(given_texts)
    vectors = np.random.default_rng(n).standard_normal((n, 8))
    norms = np.linalg.norm(vectors, axis=1)
    kept = pa.table({"id": [f"{t}#" for t in given_texts], "kind": given_texts, **columns})
    return Drawn(
        rows=np.arange(n),
        unit=(vectors / norms[:, None]).astype(np.float32),
        norms=norms,
        same=np.unique(given_texts, return_inverse=True)[1].reshape(-1),
        ids=kept["id"].to_pylist(),
        texts=list(given_texts),
        kept=kept,
        asked=n,
    )


def made(rows, told=None, *, seed=0):
    """The page over drawn rows."""
    told = told or Told("a run", manifest(len(rows)), (), (), seed)
    found = figures(rows, method="pca", seed=seed, colour="cluster", uncoloured=["id"])
    return page(told, found)


def close(rows):
    """The same rows, all with one vector."""
    return dataclasses.replace(rows, unit=np.tile(rows.unit[:1], (len(rows), 1)))


def data_of(raw):
    return json.loads(read(raw).joined("script").split("\n", 1)[0].partition('"use strict"')[0])


# -- text stays text -------------------------------------------------------------------------------


PLAIN = made(drawn([f"text {n}" for n in range(30)]))


@given(st.lists(st.one_of(st.text(max_size=80), st.sampled_from(NASTY)), min_size=30, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_corpus_text_stays_text(given_texts):
    """Whatever texts, ids and values are: no element, no attribute, no script more than without."""
    raw = made(drawn(given_texts))
    mine, plain = read(raw), read(PLAIN)
    allowed = {"mark", "p", "div", "h4", "li", "span", "bdi", "ol", "details", "summary", "ul"}
    assert set(mine.tags) <= set(plain.tags) | allowed
    assert mine.tags.count("script") == 2
    assert {a for a in mine.attributes if a[0] not in {"meta", "span"}} <= {
        *plain.attributes,
        *((tag, "class", name) for tag, name in (("p", "text"), ("p", "quiet"), ("ol", "pairs"))),
        ("p", "dir", "auto"),
    } | {("span", "class", "score"), ("div", "class", "sides")}
    assert b"\x00" not in raw
    assert raw.count(b"</script") == 2
    assert raw.count(b"<!--") == 0
    told = data_of(raw)
    assert told["texts"] == [cut(t, 2000) for t in given_texts]
    assert [i.rstrip("…") for i in told["ids"]] == [
        cut(f"{t}#", 60).rstrip("…") for t in given_texts
    ]


@pytest.mark.parametrize("text", NASTY)
def test_tables_show_a_nasty_text_as_it_is(text):
    """Two equal rows are a group, and near ones a pair: the page shows the text itself."""
    shown = read(made(close(drawn([text, text, f"{text} again"]))))
    assert clean(text) in "".join(told for tag, told in shown.texts if tag in {"p", "mark"})


def test_names_of_runs_models_and_rejects_stay_text():
    """Also what no corpus says: the folder's name, the model's, a provider's message."""
    evil = '"><script>alert(1)</script>'
    reject = {"row": 3, "id": evil, "reason": evil, "message": evil}
    told = Told(
        evil,
        manifest(5, reasons={evil: 1}, spec={"name": evil, "base_url": evil}),
        [Execution(evil, 1, [Point(0.0, 9.0, 1)], [Wait(0.0, 1.0, evil, evil)])],
        [reject],
        0,
    )
    raw = made(drawn(["a", "b"]), told)
    assert read(raw).tags.count("script") == 2
    assert raw.count(b"alert(1)") > 5
    written = card(told).decode()
    assert "<script>" not in re.sub(r"`[^`]*`", "", written)


def test_a_page_that_does_not_escape_is_seen(monkeypatch):
    """The check of this suite sees it when `<` is not escaped."""
    monkeypatch.setattr(neighbors, "corpus_text", lambda text, **_: f"<p>{text}</p>")
    raw = made(close(drawn([NASTY[0]] * 2)))
    assert read(raw).tags.count("script") > 2


# -- nothing is asked of anybody -------------------------------------------------------------------


def test_the_policy_allows_this_script_and_this_style_alone():
    """Their hashes, and nothing by default; no element has an event or a style of its own."""
    shown = read(PLAIN)
    [policy] = [v for t, n, v in shown.attributes if (t, n) == ("meta", "content") and "src" in v]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["form-action"] == rules["base-uri"] == "'none'"
    text = PLAIN.decode()
    for tag, rule in (("<script>", "script-src"), ("<style>", "style-src")):
        content = text.split(tag, 1)[1].split(f"</{tag[1:]}", 1)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not [a for a in shown.attributes if a[1].startswith("on") or a[1] == "style"]


def test_the_page_has_no_address():
    """No link out of the page, nothing to load."""
    shown = read(PLAIN)
    links = [v for _, n, v in shown.attributes if n in {"href", "src", "srcset", "action"}]
    assert all(link.startswith("#") or link == "data:," for link in links)
    addresses = set(re.findall(r"[a-z]+://[\w./-]+", PLAIN.decode()))
    assert addresses == {"http://www.w3.org/2000/svg"}


def test_every_place_that_the_script_looks_for_is_there():
    """Each `$("name")` of the script is an id of the page."""
    ids = {v for _, n, v in read(PLAIN).attributes if n == "id"}
    asked = set(re.findall(r'\$\("(\w+)"\)', PLAIN.decode()))
    assert asked - ids - {"charts", "lengths", "norms"} == set()
    assert len(asked) > 12


# -- size and sameness -----------------------------------------------------------------------------


@pytest.mark.parametrize(("letter", "least"), [("a", 36), ("<", 2), ("語", 8)])
def test_five_thousand_points_stay_under_a_megabyte(letter, least):
    """Whatever the texts: they are cut to what fits, all to the same length."""
    rng = np.random.default_rng(0)
    given_texts = [f"{n} " + letter * int(rng.integers(50, 4000)) for n in range(5000)]
    columns = {f"column {c}": [f"{letter * 40}{n % 60}" for n in range(5000)] for c in range(24)}
    points = [Point(float(n), 1.0, 2, 3, 4, 5, 6.0, 7.0, 8.0, 9.0) for n in range(600)]
    waits = [Wait(float(n), 0.5, "throttled", letter * 200) for n in range(0, 400, 2)]
    told = Told("a", manifest(5000), [Execution("t", 1, points, waits)], (), 0)
    raw = made(drawn(given_texts, **columns), told)
    assert len(raw) < 1_000_000
    lengths = {len(text) for text in data_of(raw)["texts"]}
    assert len(lengths) == 1
    assert max(lengths) >= least


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """The quickstart's run, and its report."""
    out = tmp_path_factory.mktemp("report") / "run"
    batchembed.run(batchembed.load("jobs/quickstart.toml", out=str(out)))
    return out, api.report(out)


def test_the_same_run_gives_the_same_bytes(quick):
    """Page and card hold no time of their own making."""
    out, found = quick
    assert [name.rpartition("/")[2] for name in found.files] == ["report.html", "CARD.md"]
    before = [(out / name).read_bytes() for name in ("report.html", "CARD.md")]
    assert api.report(out) == found
    assert [(out / name).read_bytes() for name in ("report.html", "CARD.md")] == before


def test_the_quickstarts_page_tells_what_was_run(quick):
    """Its numbers are the manifest's, its texts whole, its columns those of the corpus."""
    out, found = quick
    told = data_of((out / "report.html").read_bytes())
    articles = pq.read_table("sample_data/articles.parquet").to_pydict()
    assert (found.shown, found.rows, told["rows"]) == (420, 420, 420)
    assert told["texts"] == [
        f"{a}\n\n{b}" for a, b in zip(articles["title"], articles["text"], strict=True)
    ]
    assert told["ids"] == articles["id"]
    assert [c["name"] for c in told["colours"]] == [
        "cluster", "topic", "language", "date", "length of the text",
    ]  # fmt: skip
    shown = (out / "report.html").read_text("utf-8")
    tokens = runs.manifest(out)["bill"]["tokens"]
    assert f"<dd>{tokens:,}</dd>" in shown
    assert "All 420 rows with a vector are shown." in shown


def test_the_nearest_rows_of_the_page_are_those_of_the_similarity_file(quick):
    """The run's own comparison is the oracle: the same neighbors, scores to four places."""
    out, _ = quick
    told = data_of((out / "report.html").read_bytes())
    near = np.frombuffer(base64.b64decode(told["near"]), "<u2").reshape(420, -1)[:, :5]
    scores = np.frombuffer(base64.b64decode(told["scores"]), "<i2").reshape(420, -1)[:, :5] / 1e4
    with pa.ipc.open_file((out / "similarity" / "top_k.arrow").read_bytes()) as reader:
        neighbors = reader.read_all()["neighbors"].to_pylist()
    ids = np.array(told["ids"])
    np.testing.assert_allclose(scores, [[n["score"] for n in row] for row in neighbors], atol=1e-4)
    same = ids[near] == [[n["id"] for n in row] for row in neighbors]
    assert same.mean() > 0.999  # two scores that agree to six places may change places


def test_the_card_tells_where_vectors_come_from(quick):
    """Model, version, fingerprint, counts, every file with its hash."""
    out, _ = quick
    written, known = (out / "CARD.md").read_text("utf-8"), runs.manifest(out)
    for told in (
        *(known["identity"]["fingerprint"], "batchembed-static-en-1", "420 rows", "free"),
        *(f["sha256"] for f in [*known["parts"], *known["similarity"]]),
        *(known["finished"], "They are symmetric"),
    ):
        assert told in written
    assert len(written.splitlines()) < 60


# -- runs of all kinds -----------------------------------------------------------------------------


def test_a_large_run_is_drawn_from_and_says_so(place, server):
    """The same rows for the same seed, others for another; never a reject."""
    given_texts = [*texts(300), None, "", "a POISON text"]
    job = place(given_texts, server=server, limits__max_rejects=3)
    job.run(code=3)
    file = job.out / "report.html"

    def shown(seed):
        found = api.report(job.out, rows=100, seed=seed)
        assert 97 <= found.shown <= 100
        return data_of(file.read_bytes())["ids"]

    first = shown(1)
    assert shown(2) != first
    assert shown(1) == first
    assert first == sorted(first)
    assert not {"id-000300", "id-000301", "id-000302"} & set(first)
    page_text = file.read_text("utf-8")
    assert "of 303 rows, drawn at random with the seed 1" in page_text
    assert "the provider refused this text" in page_text


def test_waits_and_limits_are_on_the_page(place, server):
    """From the history that the run left, restarts included."""
    server.script = lambda seen: faults.throttled(0.3) if seen.number == 1 else None
    job = place(
        texts(40), server=server, limits__texts_per_request=5, limits__requests_per_minute=6000
    )
    job.run()
    api.report(job.out)
    [one] = data_of((job.out / "report.html").read_bytes())["history"]
    assert [wait[2] for wait in one["waits"]] == ["throttled"]
    assert one["points"][-1][7] == 6000


def test_a_run_without_its_texts_says_so(place, server):
    """`corpus.keep` left them out: ids stand for the rows."""
    job = place(texts(20), server=server, corpus__keep=["number"])
    job.run()
    api.report(job.out)
    raw = (job.out / "report.html").read_bytes()
    assert data_of(raw)["texts"] is None
    assert b"does not hold the texts" in raw


def test_a_run_without_job_or_checkpoint_has_a_report_all_the_same(place, server):
    """Both may be deleted; what they told is said to be missing."""
    job = place(texts(20), server=server, output__dtype="float16", output__part_rows=7)
    job.run()
    (job.out / "job.toml").unlink()
    (job.out / "checkpoint" / "history.json").unlink()
    api.report(job.out)
    raw = (job.out / "report.html").read_bytes()
    assert b"No history of this run is there" in raw
    assert data_of(raw)["rows"] == 20


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_run_of_very_few_rows_has_a_report(place, server, count):
    """Nothing to compare is no error."""
    job = place(texts(count), server=server)
    job.run()
    assert api.report(job.out).shown == count


def test_what_cannot_be_reported_is_an_error_that_helps(tmp_path, quick):
    """No run, no such column."""
    with pytest.raises(UsageError) as caught:
        api.report(tmp_path)
    assert "is not a complete run" in caught.value.message
    with pytest.raises(UsageError) as caught:
        api.report(quick[0], colour="mood")
    assert "`mood`" in caught.value.message
    assert "`topic`" in caught.value.hint


def test_png_without_matplotlib_is_an_error_with_the_line_that_installs_it(quick, monkeypatch):
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError) as caught:
        api.report(quick[0], "png")
    assert "pip install 'batchembed[png]'" in caught.value.hint


def test_the_command_says_what_it_made(commands, place, server):
    """In words, and as data."""
    job = place(texts(12), server=server)
    job.run()
    ended = job.run("report", "run")
    assert ended.out.splitlines()[0].startswith("12 of 12 rows shown, ")
    assert "run/report.html" in ended.out
    told = json.loads(job.run("report", "run", "--json").out)
    assert told["files"] == ["run/report.html", "run/CARD.md"]
    assert runs.strays(job.out) == []
    again = job.run("report", "elsewhere", code=2)
    assert "hint:" in again.err


# -- words -----------------------------------------------------------------------------------------


def test_what_one_of_two_says_is_marked():
    """The rest is not; texts that share little are not marked at all, nor very long ones."""
    left, right = beside("the red cat sat on the mat", "the blue cat sat on the mat")
    assert left.count("<mark>") == right.count("<mark>") == 1
    assert "<mark>red</mark>" in left
    assert "<mark>blue</mark>" in right
    assert "<mark>" not in "".join(beside("one two three", "four five six"))
    long = "word " * MOST_WORDS
    assert "<mark>" not in "".join(beside(long, f"{long} more"))


@given(st.text(max_size=60), st.text(max_size=60))
def test_marks_change_no_text(left, right):
    """Without its marks, each side is what it was."""
    for text, side in zip((left, right), beside(left, right), strict=True):
        reader = Reader()
        reader.feed(side)
        reader.close()
        assert "".join(t for _, t in reader.texts) == clean(text)


def test_a_report_of_an_earlier_state_is_told(place):
    """By the run that published anew, and by `status`; a new report ends that."""
    job = place(["the first text of some length"], provider="local")
    job.run()
    job.run("report", "run")
    assert "earlier state" not in job.run("status", "run").out
    job.fill(["the first text of some length", "and a second one beside it"])
    words = "(report.html, CARD.md tell of an earlier state)"
    assert words in job.run().out
    assert words in job.run("status", "run").out
    assert job.run("status", "run", "--json").json["outdated"] == ["report.html", "CARD.md"]
    job.run("report", "run")
    assert "earlier state" not in job.run("status", "run").out
