"""Texts that a model of English does not know: found without a wrong alarm on the sample data."""

import csv
from collections import Counter

import pytest
from test_docs import ROOT

from batchembed.plan.languages import COMMON, ENGLISH, LOOKED_AT, OTHERS, Languages, foreign


@pytest.mark.parametrize(("name", "column"), [("articles.csv", "text"), ("queries.csv", "query")])
def test_the_sample_data_is_told_apart_by_its_own_column(name, column):
    """No English row is taken for another; most German ones are found, short questions too."""
    with (ROOT / "sample_data" / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    told = Counter((row["language"], foreign(row[column])) for row in rows)
    assert {who for (language, who) in told if language == "en"} == {None}
    german = sum(count for (language, _), count in told.items() if language == "de")
    assert german > 10
    assert told["de", "German"] >= 0.6 * german
    assert told["de", "German"] + told["de", None] == german


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Der Zug ist heute nicht pünktlich, und die Leute warten auf dem Bahnsteig.", "German"),
        ("Le train est en retard et les gens attendent dans la gare avec une valise.", "French"),
        ("El tren llega tarde y los viajeros esperan en la estación con una maleta.", "Spanish"),
        ("Il treno è in ritardo e la gente aspetta nella stazione per una ora.", "Italian"),
        ("De trein is te laat en het volk staat niet op een perron van het station.", "Dutch"),
        ("O comboio está atrasado e os viajantes não têm uma mala para esperar.", "Portuguese"),
        ("Pociąg się spóźnia i nie jest na stacji, że ludzie czekają przez godzinę.", "Polish"),
        ("Поезд опаздывает, и люди ждут на перроне.", "of another script"),
        ("列車が遅れています", "of another script"),
        ("The train is late, and the people wait on the platform.", None),
        ("How do I reset my password?", None),
        ("Die Hard", None),
        ("12345 !?", None),
        ("", None),
    ],
)
def test_languages(text, name):
    """By the commonest words; what is too short to tell is not told."""
    assert foreign(text) == name


def test_a_few_rows_are_not_worth_a_word():
    """One of a hundred is a quotation."""
    made = Languages()
    made.look(0, ["the cat is on the mat"] * 99 + ["Der Zug ist nicht da und die Leute warten."])
    assert made.note() is None
    made.look(0, ["Der Zug ist nicht da und die Leute warten."] * 5)
    assert made.note().startswith("6 of the 105 texts look German;")


def test_only_the_first_rows_are_looked_at():
    """It costs the same for any corpus."""
    made = Languages()
    for _ in range(3):
        made.look(0, ["Der Zug ist nicht da und die Leute warten."] * 600)
    assert made.seen == LOOKED_AT
    assert made.note().startswith("1,000 of the 1,000 first texts look German;")


def test_no_word_is_of_two_minds():
    """What English has too tells nothing."""
    assert all(not known & ENGLISH for known in OTHERS.values())
    assert len(COMMON) == len(OTHERS)


def test_a_run_and_a_plan_say_so(commands, tmp_path):
    """With the embedded model, and with no other."""
    data = ROOT / "sample_data" / "articles.csv"
    told = ("--text", "text", "--out", "run")
    ended = commands.run("embed", data, *told, cwd=tmp_path)
    assert "note: 120 of the 420 texts look German" in ended.err
    assert "look German" in commands.run("plan", data, "--text", "text", cwd=tmp_path).out
    other = ("--text", "text", "--provider", "openai", "--model", "text-embedding-3-small")
    assert "look German" not in commands.run("plan", data, *other, cwd=tmp_path).out
