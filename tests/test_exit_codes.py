"""Every exit code of the contract, with its message, its hint, and no trace of the key."""

import json
import uuid

import pytest
from fakes import faults, running
from fakes.runs import HARMLESS, holds, texts, until

GIVEN = texts(60)
SECRET = f"SECRET-{uuid.uuid4()}"
ENV = {"OPENAI_API_KEY": SECRET, "AA_TOKEN": SECRET}
KEYED = {"access__key_env": "OPENAI_API_KEY", "limits__texts_per_request": 4}


def leaves_no_trace(job, ended):
    """Check that the key is nowhere: not in what was said, not in any file."""
    assert SECRET not in ended.out + ended.err
    assert holds(job.folder, SECRET) == []
    assert "Traceback" not in ended.err


def told(ended, *words):
    for word in (*words, "hint:"):
        assert word in ended.err, ended.err


def test_0_complete(place):
    """A complete run ends with 0, and the key that the server saw is nowhere on this side."""
    with running(key=SECRET) as server:
        job = place(GIVEN, server=server, **KEYED)
        ended = job.run(env=ENV)
        leaves_no_trace(job, ended)
        assert server.last["headers"]["Authorization"] == f"Bearer {SECRET}"


WRONG = {
    "an unknown key": ({"limits__concurency": 4}, ("concurency", "concurrency")),
    "an unknown provider": ({"model__provider": "opanai"}, ("opanai", "openai")),
    "a column that is not there": ({"corpus__text": "txet"}, ("txet", "text")),
    "a corpus that is not there": ({"corpus__path": "corpus.parqet"}, ("corpus.parqet",)),
    "a key in the job": ({"access__key_env": SECRET}, ("access.key_env",)),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_2_the_job_is_wrong(place, server, mistake):
    """A mistake in the job or the corpus ends with 2 before anything is sent."""
    changes, words = WRONG[mistake]
    job = place(GIVEN, server=server, **(KEYED | changes))
    if mistake == "a key in the job":
        ended = job.run(env=ENV, code=2)
        assert SECRET not in ended.err + ended.out
    else:
        ended = job.run(env=ENV, code=2)
        leaves_no_trace(job, ended)
    told(ended, *words)
    assert server.bill.requests == 0


def test_4_no_key(place, server):
    """Without a key where one is needed nothing is sent, and the message names the variable."""
    job = place(GIVEN, server=server, access__key_env="MY_OWN_TOKEN")
    ended = job.run(code=None)
    told(ended, "MY_OWN_TOKEN")
    assert ended.code == 4
    assert server.bill.requests == 0


def test_2_a_directory_of_something_else(place, server):
    """A folder with foreign files is never written into."""
    job = place(GIVEN, server=server)
    job.out.mkdir()
    (job.out / "thesis.txt").write_text("all my work")
    ended = job.run(code=2)
    told(ended, "thesis.txt", "run")
    assert sorted(p.name for p in job.out.iterdir() if p.name != ".lock") == ["thesis.txt"]


def test_3_complete_with_rejects(place):
    """Rejects within what is allowed: complete, and 3 to be looked at."""
    with running(key=SECRET) as server:
        job = place([*GIVEN, "a POISON text"], server=server, limits__max_rejects=1, **KEYED)
        ended = job.run(env=ENV, code=3)
        leaves_no_trace(job, ended)
        assert "1 rejected" in ended.out
        assert "rejects.arrow" in ended.out


ACT = {
    "a wrong key": (faults.status(401, f'{{"error": "Incorrect API key: {SECRET}"}}'), "401"),
    "no permission": (faults.status(403, f'{{"error": "{SECRET} may not"}}'), "403"),
    "the money is gone": (faults.out_of_money(), "insufficient_quota"),
    "no such model": (faults.status(404, '{"error": {"code": "model_not_found"}}'), "404"),
    "moved": (faults.status(308, location=f"https://example.com/?key={SECRET}"), "example.com"),
}


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("why", ACT)
def test_4_a_person_must_act(place, why, after):
    """What waiting cannot mend ends with 4 at once; what was paid for is kept."""
    fault, word = ACT[why]
    with running(script=lambda seen: fault if seen.number >= after else None) as server:
        job = place(GIVEN, server=server, limits__concurrency=2, **KEYED)
        ended = job.run(env=ENV, code=4)
        told(ended, word)
        leaves_no_trace(job, ended)
        assert server.bill.requests <= after + 2
        server.script = ()
        job.run(env=ENV)
        assert server.bill.paid_twice == {}
        assert job.wrong() == []


def test_4_too_many_rejects(place, server):
    """More rejects than allowed end with 4, naming both numbers and a reason."""
    given = [f"{text} POISON" if n % 3 == 0 else text for n, text in enumerate(GIVEN)]
    job = place(given, server=server, limits__max_rejects=3, **KEYED)
    ended = job.run(env=ENV, code=4)
    told(ended, "`3`", "max_rejects", "not acceptable")
    leaves_no_trace(job, ended)
    assert not (job.out / "manifest.json").exists()
    job.run("run", job.job, "--set", "limits.max_rejects=20", env=ENV, code=3)
    assert server.bill.paid_twice.keys() <= {HARMLESS}


def test_4_too_many_rows_without_a_text(place, server):
    """Rows without text count before anything is sent."""
    job = place([*GIVEN, *[""] * 10, *[None] * 10], server=server, **KEYED)
    ended = job.run(env=ENV, code=4)
    told(ended, "`20`", "max_rejects")
    assert server.bill.requests == 0


def test_4_all_is_refused(place):
    """When even a harmless sentence is refused, the corpus is not gone through text by text."""
    with running(refuse_all=True) as server:
        job = place(GIVEN, server=server, **KEYED)
        ended = job.run(env=ENV, code=4)
        told(ended, "not acceptable", "[model]")
        assert server.bill.requests <= 3


def test_75_the_server_is_down(place):
    """An outage longer than the patience ends with 75."""
    with running(script=lambda seen: faults.status(503) if seen.number else None) as server:
        job = place(GIVEN, server=server, limits__patience="900ms", **KEYED)
        ended = job.run(env=ENV, code=75)
        told(ended, "503", "run the same command again")
        leaves_no_trace(job, ended)
        server.script = ()
        job.run(env=ENV)
        assert server.bill.paid_twice == {}
        assert job.wrong() == []


def test_75_nobody_listens(place):
    """A server that is not there is waited for, then 75."""
    with running() as server:
        job = place(GIVEN, server=server, limits__patience="300ms", **KEYED)
    ended = job.run(env=ENV, code=75)
    told(ended, "run the same command again")
    leaves_no_trace(job, ended)


def test_75_the_deadline(place):
    """A run stops cleanly at its deadline, and goes on when called again."""
    with running(delay=0.05) as server:
        job = place(GIVEN, server=server, limits__deadline="400ms", limits__concurrency=1, **KEYED)
        ended = job.run(env=ENV, code=75)
        told(ended, "deadline")
        assert 0 < len(job.sent()) < len(GIVEN)
        server.delay = 0
        job.run(env=ENV)
        assert sorted(job.sent()) == sorted(GIVEN)


@pytest.mark.parametrize("most", [600, 2500, 9000])
def test_75_the_disk_is_full(place, most):
    """A disk that takes no more ends with 75; with room again nothing kept is paid for twice."""
    with running(key=SECRET) as server:
        job = place(GIVEN, server=server, limits__concurrency=2, **KEYED)
        ended = job.run(env=ENV, code=75, twists=[["small_files", most]])
        told(ended, "cannot be written", "make room")
        leaves_no_trace(job, ended)
        assert not (job.out / "manifest.json").exists()
        job.run(env=ENV)
        assert job.wrong() == []
        assert sum(n - 1 for n in server.bill.texts.values()) <= 2 * 4


def test_1_what_nobody_expected_is_told_with_its_place(place, server):
    """A bug of ours ends with 1, not with one of the codes that mean something."""
    job = place(GIVEN, server=server)
    ended = job.run(code=None, twists=[["break_packing"]])
    assert ended.code == 1
    assert "planted" in ended.err


def test_the_json_of_a_run_that_failed(place):
    """With --json an error is data as well: one object, with the exit code in it."""
    with running(script=lambda _: faults.status(401)) as server:
        job = place(GIVEN, server=server, **KEYED)
        ended = job.run("run", job.job, "--json", env=ENV, code=4)
        found = json.loads(ended.out)
        assert found["exit_code"] == 4
        assert "401" in found["error"]
        assert found["hint"]
        leaves_no_trace(job, ended)


def test_a_key_in_a_file_is_kept_as_well(place):
    """A key that comes from a file is in no other."""
    with running(key=SECRET) as server:
        job = place(GIVEN[:8], server=server, access__key_file="../key")
        (job.folder.parent / "key").write_text(SECRET + "\n")
        (job.folder.parent / "key").chmod(0o600)
        ended = job.run()
        leaves_no_trace(job, ended)
        command = job.start("status", "run")
        until(lambda: command.ends_within(0.01))
