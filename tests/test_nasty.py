"""sample_data/nasty.csv: what goes wrong in real corpora goes through a whole run unharmed."""

import csv
import shutil

import pytest
from fakes import vector
from fakes.commands import ROOT
from fakes.places import Place
from fakes.runs import output, rejects

FILE = ROOT / "sample_data" / "nasty.csv"
WITHOUT_TEXT = {"005": "empty_text", "006": "blank_text"}


@pytest.fixture(scope="module")
def rows():
    """The file as Python's own reader of CSV has it."""
    with FILE.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_the_file_is_as_nasty_as_it_says(rows):
    """The oracle itself: a byte order mark, Windows line ends, none at the very end."""
    raw = FILE.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert b"\r\n" in raw
    assert raw[-1:] not in b"\r\n"
    assert len(rows) == 35
    assert len({row["text"] for row in rows}) == 34
    assert rows[3]["text"] == "one line\r\nand another"


@pytest.mark.parametrize("provider", ["openai", "aleph-alpha"])
def test_every_text_arrives_as_it_stands(commands, tmp_path, server, rows, provider):
    """The server sees each text once, to the last blank, and its vector stands beside it."""
    job = Place(commands, tmp_path / "nasty", [], server=server, provider=provider)
    shutil.copy(FILE, job.folder / "nasty.csv")
    argv = ("--set", "corpus.path=nasty.csv", "--set", "limits.max_rejects=2")
    job.run("run", job.job, *argv, code=3)

    wanted = {row["text"] for row in rows if row["id"] not in WITHOUT_TEXT}
    assert dict(server.bill.texts) == dict.fromkeys(wanted, 1)
    found = output(job.out)
    for name in ("id", "text", "trouble"):
        assert found[name].to_pylist() == [row[name] or None for row in rows]
    for row, got in zip(rows, found["embedding"].to_pylist(), strict=True):
        assert got == (None if row["id"] in WITHOUT_TEXT else vector(row["text"]).tolist())
    assert {r["id"]: r["reason"] for r in rejects(job.out)} == WITHOUT_TEXT
    assert job.run("verify", "run", "--json").json["problems"] == []


def test_the_model_on_this_machine_takes_them_all(commands, tmp_path, rows):
    """The local model gives a vector to every text, or says why not; no file has an id's name."""
    argv = ("embed", FILE, "--text", "text", "--id", "id", "--out", "run", "--json")
    more = ("--set", "limits.max_rejects=5", "--set", "similarity.top_k=3")
    ended = commands.run(*argv, *more, cwd=tmp_path)
    assert ended.code == 3, ended
    found = output(tmp_path / "run")
    without = {
        i
        for i, v in zip(found["id"].to_pylist(), found["embedding"].to_pylist(), strict=True)
        if v is None
    }
    told = {reject["id"] for reject in rejects(tmp_path / "run")}
    assert told == without >= WITHOUT_TEXT.keys()
    assert len(without) <= 4, rejects(tmp_path / "run")
    assert all("passwd" not in path.name for path in tmp_path.rglob("*"))
    hits = commands.run("search", "run", rows[8]["text"], "--json", cwd=tmp_path)
    assert hits.json[0]["id"] == "009"


def test_what_is_printed_of_them_harms_no_terminal(commands, tmp_path, rows):
    """Control characters of a corpus do not reach the terminal."""
    commands.run("embed", FILE, "--text", "text", "--id", "id", "--out", "run", "--set",
                 "limits.max_rejects=5", cwd=tmp_path)  # fmt: skip
    ended = commands.run("search", "run", rows[15]["text"], "--top-k", "35", cwd=tmp_path)
    assert ended.code == 0, ended
    assert not set(ended.out) & {chr(n) for n in range(32) if n != 10}
