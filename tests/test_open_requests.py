"""How many requests a job may have open: its own number, or what its provider takes."""

import pytest
from fakes import running
from fakes.runs import texts

from batchembed.engines.local import limits
from batchembed.job import from_dict


def bounds(concurrency="auto", **model):
    """How many requests are open, and how many may be where more are needed."""
    told = {
        "corpus": {"path": "a.csv", "text": "text"},
        "model": model,
        "limits": {"concurrency": concurrency},
        "output": {"path": "run"},
    }
    job = from_dict(told, where="here")
    found = limits(job, job.spec())
    return found.concurrency, found.most_open


@pytest.mark.parametrize(
    ("model", "usual", "most"),
    [
        ({"provider": "openai", "name": "m"}, 16, 256),
        ({"provider": "aleph-alpha", "endpoint": "semantic_embed"}, 32, 256),
        ({"provider": "ollama", "name": "m"}, 4, 256),
        ({"provider": "tei", "name": "m"}, 16, 16),
    ],
)
def test_a_number_is_never_passed_and_auto_may_grow(model, usual, most):
    """A rate may need more than a provider usually gets; what a job says is its bound."""
    assert bounds(**model) == (usual, most)
    assert bounds(3, **model) == (3, 3)
    assert bounds(300, **model) == (300, 300)


def test_what_is_computed_here_does_not_grow():
    """More than the cores can take at once would only wait."""
    usual, most = bounds(provider="local")
    assert usual == most


@pytest.mark.parametrize(
    ("told", "count", "least", "most"),
    [({}, 200, 32, 256), ({"concurrency": 8}, 60, 8, 8)],
    ids=["auto", "a number"],
)
def test_a_stated_rate_has_as_many_open_as_it_needs(place, told, count, least, most):
    """300 a second that take 0.2 s each are sixty open requests, and not sixteen."""
    with running(delay=0.2) as server:
        limit = {f"limits__{name}": value for name, value in told.items()}
        more = {"limits__texts_per_request": 1, "limits__requests_per_minute": 18_000}
        job = place(texts(count), server=server, **more, **limit)
        job.run()
        assert sorted(job.sent()) == sorted(set(texts(count)))
        assert least <= server.bill.most_open <= most
