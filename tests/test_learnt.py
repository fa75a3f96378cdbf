"""What a server's refusals show of its limits holds for the rest of the run, and is told."""

import pytest
from fakes import running
from fakes.runs import manifest, texts

from batchembed.monitor import Summary
from batchembed.words import run_words

GIVEN = texts(400)


def ran(place, **limits):
    """Run a job of 400 texts at a server with limits; what it came to, and the server's bill."""
    with running(**limits) as server:
        job = place(GIVEN, server=server, limits__texts_per_request=40, limits__concurrency=1)
        summary = job.run("run", job.job, "--json").json
        assert job.wrong() == []
        assert not server.bill.paid_twice
        return summary, server.bill, manifest(job.out)


def test_the_texts_that_a_server_takes_are_learnt(place):
    """One refusal, and every request from then on is as large as may be."""
    summary, bill, _ = ran(place, texts_per_request=16)
    assert summary["learnt"] == {"texts_per_request": 16}
    assert summary["failures"] == {"too_large": 1}
    assert max(bill.sizes[1:]) == 16
    assert bill.requests < 1 + 400 / 16 + 8


def test_the_tokens_that_a_server_takes_are_learnt(place):
    """It names its cap and what it was sent: no halving down, and no refusal for each request."""
    per_text = sum(max(1, -(-len(t.encode()) // 4)) for t in GIVEN) / len(GIVEN)
    summary, bill, _ = ran(place, tokens_per_request=round(per_text * 30))
    assert summary["learnt"].keys() == {"bytes_per_request"}
    assert summary["failures"]["too_large"] <= 3
    assert 24 <= sorted(bill.sizes)[len(bill.sizes) // 2] <= 30
    assert bill.answered == 400


@pytest.mark.parametrize(
    ("learnt", "words"),
    [
        ({"texts_per_request": 16}, "at most 16 texts a request"),
        ({"texts_per_request": 1, "bytes_per_request": 9000}, "1 text, 9,000 bytes a request"),
    ],
)
def test_the_summary_says_it(learnt, words):
    """So that the job can say it from the start the next time."""
    told = run_words(Summary(path="runs/x", learnt=learnt, server="a-model 1.2"))
    assert words in told
    assert "a-model 1.2" in told
    assert "learnt" not in run_words(Summary(path="runs/x"))
