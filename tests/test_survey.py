"""The survey: every row has its key or a reason, and the same again in the second pass."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchembed.controls import Pattern
from batchembed.corpus import Corpus, CorpusSettings, Rows, scan
from batchembed.errors import CorpusError
from batchembed.exchange import ROLES, Control, Limits
from batchembed.ledger.join import Missing
from batchembed.packing import Packer
from batchembed.spec import Keyer, Spec
from batchembed.survey import REASONS, CorpusFeed, Reading, Sent, Survey, keyed
from batchembed.survey import survey as module

KEYER = Keyer(Spec("fake", "fake-model"))
PLAIN = Reading("document")
ODD = {None: "null_text", "": "empty_text", " \n": "blank_text", "x\ud800": "lone_surrogate"}


class Table:
    """A corpus of rows in memory, in batches; what it holds may change between two passes."""

    def __init__(self, texts, *, roles=None, controls=None, step=3):
        self.given, self.roles, self.controls, self.step = list(texts), roles, controls, step

    def texts(self):
        for start in range(0, len(self.given), self.step):
            stop = start + self.step
            yield Rows(
                start,
                self.given[start:stop],
                None if self.roles is None else self.roles[start:stop],
                None if self.controls is None else self.controls[start:stop],
            )

    def unchanged(self):
        pass

    def where(self, row):
        return f"row {row}"


def taken(table, folder, reading=PLAIN, **more):
    heard = []
    survey = Survey(folder, **more)
    survey.take(table, KEYER, reading, heard.append)
    assert sum(heard) == survey.total == len(table.given)
    return survey


def expected(table, number, reading=PLAIN):
    """The key of a row by the definition, 16 zeros where it cannot be sent."""
    text = table.given[number]
    if text in ODD:
        return bytes(16)
    role = table.roles[number] if table.roles else reading.role
    own = table.controls[number] if table.controls else ()
    return KEYER.key(text, role, own)


def whole(survey):
    return [key.tobytes() for keys in iter(survey.keys()) for key in keys]


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "some words", "é😀", *ODD]),
        st.sampled_from(ROLES),
        st.sampled_from([(), (Control(0, 1, 2.0),)]),
    ),
    max_size=20,
)


@given(rows=ROWS, with_roles=st.booleans(), with_controls=st.booleans(), step=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_every_row_has_its_key_or_its_reason(
    tmp_path_factory, rows, with_roles, with_controls, step
):
    """With columns of roles and controls or without, however the rows are cut."""
    table = Table(
        [text for text, _, _ in rows],
        roles=[role for _, role, _ in rows] if with_roles else None,
        controls=[() if t in ODD else own for t, _, own in rows] if with_controls else None,
        step=step,
    )
    survey = taken(table, tmp_path_factory.mktemp("s"))
    assert whole(survey) == [expected(table, n) for n in range(len(rows))]
    reasons = survey.read(0, survey.total)[1]
    assert [REASONS[n] for n in reasons] == [ODD.get(text, "") for text in table.given]
    counted = {why: table.given.count(text) for text, why in ODD.items()}
    assert survey.unsendable == {why: n for why, n in counted.items() if n}
    assert survey.lost == sum(counted.values())


def test_keys_come_in_bounded_arrays(tmp_path, monkeypatch):
    """The keys of a large corpus are never in memory at once."""
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    table = Table([f"t{n}" for n in range(10)])
    survey = taken(table, tmp_path)
    assert list(map(len, survey.keys())) == [4, 4, 2]
    assert whole(survey) == [expected(table, n) for n in range(10)]
    keys, reasons = survey.read(3, 7)
    assert [k.tobytes() for k in keys] == [expected(table, n) for n in range(3, 7)]
    assert reasons.tolist() == [0] * 4


def test_an_empty_corpus_has_no_keys(tmp_path):
    """Nothing is read, nothing is lost."""
    survey = taken(Table([]), tmp_path)
    assert (whole(survey), survey.lost, survey.unsendable) == ([], 0, {})


def test_patterns_and_a_column_of_controls_add_up(tmp_path):
    """The column's come first; a row without text has none."""
    reading = Reading("query", [Pattern("play", factor=7.0)])
    table = Table(["we play", None, "rest"], controls=[(Control(0, 2, 0.5),), (), ()])
    survey = taken(table, tmp_path, reading)
    own = (Control(0, 2, 0.5), Control(3, 4, 7.0))
    assert whole(survey) == [
        KEYER.key("we play", "query", own),
        bytes(16),
        KEYER.key("rest", "query"),
    ]


def test_controls_outside_the_text_name_the_row(tmp_path):
    """Before anything is sent."""
    table = Table(["fine", "short"], controls=[(), (Control(3, 9, 2.0),)])
    with pytest.raises(CorpusError, match="row 1") as told:
        taken(table, tmp_path)
    assert told.value.hint


def test_the_fast_way_and_the_careful_way_agree():
    """One odd row in a batch changes nothing for the others."""
    texts = [f"text {n}" for n in range(20)]
    fast = keyed(Rows(0, texts), KEYER, "query", Sent())
    careful = keyed(Rows(0, [*texts, None]), KEYER, "query", Sent())
    assert (fast[0] == careful[0][:20]).all()
    assert careful[1].tolist() == [0] * 20 + [1]


# -- the second pass -------------------------------------------------------------------------------


def missing(*wanted):
    return Missing(np.packbits(np.array(wanted, bool), bitorder="little"), 0, 0, 0, 0)


def fed(table, survey, wanted, reading=PLAIN, per_request=2):
    feed = CorpusFeed(
        table, survey, missing(*wanted), reading, Packer(Limits(texts_per_request=per_request))
    )
    return [asked for some in feed.upcoming() for asked in some]


def told(requests):
    return [
        (key.tobytes(), text, asked.role, asked.controls[n] if asked.controls else ())
        for asked in requests
        for n, (key, text) in enumerate(zip(asked.keys, asked.texts, strict=True))
    ]


@given(rows=ROWS, seed=st.integers(0, 99), step=st.integers(1, 9), room=st.sampled_from([0, 9999]))
@settings(max_examples=60, deadline=None)
def test_what_is_missing_is_fed_under_its_own_key(tmp_path_factory, rows, seed, step, room):
    """Each row that a ledger misses, once, with its role and controls, and no other.

    Whether the texts are still in memory or are read again.
    """
    table = Table(
        [text for text, _, _ in rows],
        roles=[role for _, role, _ in rows],
        controls=[() if t in ODD else own for t, _, own in rows],
        step=step,
    )
    survey = taken(table, tmp_path_factory.mktemp("s"), room=room)
    draw = np.random.default_rng(seed).random(len(rows)) < 0.6
    wanted = [bool(w) and table.given[n] not in ODD for n, w in enumerate(draw)]
    found = told(fed(table, survey, wanted))
    assert sorted(found) == sorted(
        (expected(table, n), table.given[n], table.roles[n], table.controls[n])
        for n, w in enumerate(wanted)
        if w
    )


def test_rows_come_in_the_order_of_the_corpus(tmp_path):
    """Whole batches and parts of them; batches that miss nothing are passed over."""
    table = Table([f"t{n}" for n in range(12)])
    survey = taken(table, tmp_path)
    requests = fed(table, survey, [True] * 4 + [False] * 5 + [True, False, True], per_request=4)
    assert [asked.texts for asked in requests] == [("t0", "t1", "t2", "t3"), ("t9", "t11")]
    assert fed(table, survey, [False] * 12) == []


def test_the_feed_can_be_tightened(tmp_path):
    """A learnt limit holds for what is still to come."""
    table = Table([f"t{n}" for n in range(12)])
    feed = CorpusFeed(
        table, taken(table, tmp_path), missing(*[True] * 12), PLAIN, Packer(Limits(4))
    )
    sizes = []
    for some in feed.upcoming():
        sizes += [len(asked) for asked in some]
        feed.tighten(2)
    assert sizes == [2] * 6


def test_the_feed_can_be_left_after_every_batch(tmp_path):
    """What is paid for already is not walked over in one go: a signal may come meanwhile."""
    table = Table([f"t{n}" for n in range(12)])
    feed = CorpusFeed(
        table,
        taken(table, tmp_path),
        missing(*[False] * 9, True, False, True),
        PLAIN,
        Packer(Limits(1)),
    )
    assert [sum(len(asked) for asked in some) for some in feed.upcoming()][:3] == [0] * 3
    assert len(list(feed.upcoming())) == 4 + 1


@pytest.mark.parametrize("room", [0, 5 * 53, 1 << 20])
def test_texts_are_read_again_unless_there_is_room_for_all_of_them(tmp_path, room):
    """A small corpus is read once; a larger one twice, and nothing of it stays in memory."""
    table = Table([f"t{n:03d}" for n in range(9)], step=2)
    survey = taken(table, tmp_path, room=room)
    passes, read = [], table.texts
    table.texts = lambda: passes.append(1) or read()
    requests = fed(table, survey, [True] * 9)
    assert [text for asked in requests for text in asked.texts] == table.given
    assert [row for asked in requests for row in asked.rows] == list(range(9))
    assert len(passes) == (room < 9 * 53)
    assert fed(table, survey, [True] * 9)[0].texts == requests[0].texts
    assert len(passes) == 1 + (room < 9 * 53)


CHANGES = {
    "another text": lambda t: t.__setitem__(4, "changed"),
    "two texts changed places": lambda t: t.__setitem__(slice(3, 5), [t[4], t[3]]),
    "a row more before": lambda t: t.insert(0, "new"),
    "a row more in the middle": lambda t: t.insert(4, "new"),
    "a row less": lambda t: t.pop(4),
    "a text that is gone": lambda t: t.__setitem__(4, None),
    "half a character": lambda t: t.__setitem__(4, "\ud800"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("step", [1, 3, 50])
def test_no_text_is_sent_under_the_key_of_another(tmp_path, change, step):
    """A file that is written anew while it is read: what is not as it was is not sent."""
    table = Table([f"t{n}" for n in range(9)], step=step)
    survey = taken(table, tmp_path, room=0)
    change(table.given)
    seen = []
    feed = CorpusFeed(table, survey, missing(*[True] * 9), PLAIN, Packer(Limits(1)))
    upcoming = itertools.chain.from_iterable(feed.upcoming())
    with pytest.raises(CorpusError, match="not what they were"):
        seen.extend(upcoming)
    assert all(key == KEYER.key(text, role) for key, text, role, _ in told(seen))


def test_rows_that_came_after_the_survey_are_not_sent(tmp_path):
    """They have no key yet; the next run finds them."""
    table = Table([f"t{n}" for n in range(9)])
    survey = taken(table, tmp_path, room=0)
    table.given += ["new"] * 3
    assert [text for _, text, *_ in told(fed(table, survey, [True] * 9))] == table.given[:9]


def test_without_the_second_look_a_text_would_go_under_the_key_of_another(tmp_path, monkeypatch):
    """The control: with the defence taken away, the test above would see it."""
    table = Table([f"t{n}" for n in range(9)])
    survey = taken(table, tmp_path, room=0)
    table.given.insert(0, "new")
    monkeypatch.setattr(
        Survey, "again", lambda s, rows, *_: s.read(rows.first, rows.first + len(rows.texts))[0]
    )
    found = told(fed(table, survey, [True] * 9))
    assert any(key != KEYER.key(text, role) for key, text, role, _ in found)


def test_a_real_corpus_goes_through_both_passes(tmp_path):
    """From a file, with roles and controls in columns."""
    struct = pa.list_(
        pa.struct([("start", pa.int64()), ("length", pa.int64()), ("factor", pa.float64())])
    )
    table = pa.table(
        {
            "text": ["we play", None, "another"],
            "role": ["query", "document", "document"],
            "controls": pa.array([[{"start": 3, "length": 4, "factor": 7.0}], None, []], struct),
        }
    )
    path = tmp_path / "c.arrow"
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table)
    corpus = scan(CorpusSettings((str(path),), text="text", role="role", controls="controls"))
    survey = Survey(tmp_path)
    survey.take(corpus, KEYER, PLAIN, lambda _: None)
    keys = [KEYER.key("we play", "query", (Control(3, 4, 7.0),)), KEYER.key("another", "document")]
    assert whole(survey) == [keys[0], bytes(16), keys[1]]
    found = fed(corpus, survey, [True, False, True])
    assert sorted(key for key, *_ in told(found)) == sorted(keys)


def test_a_small_corpus_in_files_is_read_once(tmp_path, monkeypatch):
    """Its texts stay in memory until they are sent, whatever else its rows could tell."""
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"text": [f"t{n}" for n in range(9)]}), path)
    rows = scan(CorpusSettings((str(path),), text="text"))
    survey = taken_of(rows, tmp_path)
    monkeypatch.setattr(Corpus, "texts", lambda _: pytest.fail("read again"))
    packer = Packer(Limits(texts_per_request=4))
    feed = CorpusFeed(rows, survey, missing(*[True] * 9), PLAIN, packer)
    found = told([asked for some in feed.upcoming() for asked in some])
    assert [text for _, text, *_ in found] == [f"t{n}" for n in range(9)]
    assert all(key == KEYER.key(text, role) for key, text, role, _ in found)


def taken_of(rows, folder):
    """A survey of a real corpus."""
    survey = Survey(folder)
    survey.take(rows, KEYER, PLAIN, lambda _: None)
    return survey
