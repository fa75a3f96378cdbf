"""A run in somebody's own event loop can be cancelled: it drains, keeps, and lets go."""

import asyncio

import pytest
from fakes import running
from fakes.faults import throttled
from fakes.runs import digests, settings, table, texts, until, write, wrong_rows

import batchembed

GIVEN = texts(160)


def job(folder, server, **more):
    corpus = write(folder / "corpus.parquet", table(GIVEN))
    told = settings(corpus, server, limits__texts_per_request=4, limits__concurrency=4,
                    output__path=str(folder / "run"), **more)  # fmt: skip
    return batchembed.from_dict(told, where="the test")


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")


async def cancelled(made, when):
    work = asyncio.create_task(batchembed.run_async(made))
    await asyncio.to_thread(until, when)
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


def test_a_cancelled_run_has_kept_all_that_it_paid_for(tmp_path):
    """When the cancelled task ends the thread has, and the same run goes on at no further cost."""
    with running(delay=0.05) as server:
        made = job(tmp_path, server, access__key_env="OPENAI_API_KEY")
        asyncio.run(cancelled(made, lambda: len(server.bill.answers) >= 8))
        assert server.bill.now_open == 0
        assert len(server.bill.texts) < len(GIVEN)
        server.delay = 0
        batchembed.run(made)
        assert server.bill.paid_twice == {}
    assert wrong_rows(tmp_path / "run", table(GIVEN)) == []
    assert digests(tmp_path / "run")


def test_a_run_that_waits_for_its_server_ends_soon(tmp_path):
    """Also one that was told to wait for an hour."""
    with running(script=lambda seen: throttled(3600) if seen.number else None) as server:
        made = job(tmp_path, server, access__key_env="OPENAI_API_KEY")
        asyncio.run(cancelled(made, lambda: server.bill.statuses[429]))


def test_a_run_that_nobody_cancels_returns_its_summary(tmp_path, server):
    """As `run` does."""
    made = job(tmp_path, server, access__key_env="OPENAI_API_KEY")
    assert asyncio.run(batchembed.run_async(made)).sent == len(GIVEN)
