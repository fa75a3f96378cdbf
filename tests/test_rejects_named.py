"""A run that ends for too many rejects names the first rows of them, however it came to that."""

import re

import pytest
from fakes import faults, running

GOOD = [f"text {number} of some length" for number in range(20)]


def test_rows_without_a_text_are_named(place):
    """Before anything is sent: by file, row and reason."""
    with running() as server:
        job = place([*GOOD[:3], None, *GOOD[3:], "", "  "], server=server, limits__max_rejects=2)
        ended = job.run(code=4)
        assert server.bill.requests == 0
    assert "`corpus.parquet`, row 4: null_text" in ended.err.replace(f"{job.folder}/", "")
    assert "row 22: empty_text" in ended.err
    assert "row 23: blank_text" in ended.err


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_refused_rows_are_named(place, suffix):
    """While texts are sent: those that the server refuses."""
    texts = [*GOOD, "poison one of some length", "poison two of some length"]

    def script(seen):
        bad = any("poison" in text for text in seen.texts)
        return faults.status(400, '{"error": {"message": "bad text"}}') if bad else None

    with running(script=script) as server:
        job = place(
            texts, server=server, suffix=suffix, limits__max_rejects=1, limits__concurrency=1
        )
        ended = job.run(code=4)
    assert "`limits.max_rejects` allows `1`" in ended.err
    named = re.findall(r"row (\d+)[^:]*: refused", ended.err)
    assert named == ["21", "22"]
    assert "poison" not in ended.err


def test_at_most_three_are_named(place):
    """The rest is counted."""
    job = place([*GOOD, None, None, None, None, None], provider="local", limits__max_rejects=1)
    ended = job.run(code=4)
    assert len(re.findall(r"row \d+[^:;]*: null_text", ended.err)) == 3
    assert "`5` rows were rejected" in ended.err
