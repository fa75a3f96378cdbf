"""Every file of a run deleted, cut, flipped or replaced: named by `verify`, mended by a new run."""

import random
import shutil

import pytest
from fakes import running
from fakes.places import Place
from fakes.runs import HARMLESS, digests, files, strays, texts, until

SEED = random.randrange(10**6)
GIVEN = [*texts(120), "", "this is POISON"]
HOW = {"limits__texts_per_request": 8, "limits__max_rejects": 2, "limits__patience": "900ms"}
OUTPUTS = ("embeddings/part-00000.arrow", "rejects.arrow", "similarity/top_k.arrow")


def deleted(path, rng):
    path.unlink()


def truncated(path, rng):
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.randrange(len(raw))])


def flipped(path, rng):
    raw = bytearray(path.read_bytes())
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def foreign(path, rng):
    path.write_bytes(rng.randbytes(path.stat().st_size))


def emptied(path, rng):
    path.write_bytes(b"")


DAMAGES = {d.__name__: d for d in (deleted, truncated, flipped, foreign, emptied)}


@pytest.fixture(scope="module")
def made(commands, tmp_path_factory):
    """A finished run at a server that goes on."""
    with running() as server:
        job = Place(
            commands,
            tmp_path_factory.mktemp("made"),
            GIVEN,
            server=server,
            similarity={"top_k": 2},
            **HOW,
        )
        job.run(code=3)
        shutil.copytree(job.out, job.folder / "kept")
        yield job


@pytest.fixture
def job(made):
    """The finished run, whole again."""
    shutil.rmtree(made.out)
    shutil.copytree(made.folder / "kept", made.out)
    return made


def verified(job, *, code):
    """What `verify` answers."""
    ended = job.run("verify", "run", "--json", code=code)
    assert "Traceback" not in ended.err
    return ended.json


def test_a_run_that_is_whole_has_no_problems(job):
    """Nothing is reported where nothing is wrong."""
    found = verified(job, code=0)
    assert found["problems"] == found["ignored"] == []
    assert (found["files"], found["rows"], found["aligned"]) == (3, 122, 122)
    assert found["vectors"] == 120


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", OUTPUTS)
def test_damage_is_named_and_mended(job, name, damage):
    """`verify` names the file; once it is out of the way the same command makes it again."""
    right, sent = digests(job.out), len(job.sent())
    requests = job.server.bill.requests
    DAMAGES[damage](job.out / name, random.Random(f"{SEED}/{name}"))
    found = verified(job, code=1)
    assert any(problem.startswith(name) for problem in found["problems"]), found
    assert [p for p in found["problems"] if not p.startswith(name)] == []
    (job.out / name).unlink(missing_ok=True)
    job.run(code=3)
    assert digests(job.out) == right
    assert verified(job, code=0)["problems"] == []
    assert strays(job.out) == []
    again = [text for text in job.sent()[sent:] if text != HARMLESS]
    assert len(again) == len(set(again)), "a part is paid for once more at most"
    if name != OUTPUTS[0]:
        assert again == []
    if name == OUTPUTS[2]:
        assert job.server.bill.requests == requests


@pytest.mark.parametrize("damage", ["truncated", "foreign", "emptied", "deleted"])
@pytest.mark.parametrize("name", OUTPUTS)
def test_damage_that_shows_is_mended_without_a_word(job, name, damage):
    """A file that is gone or has another size is made again by the same command."""
    right = digests(job.out)
    if damage == "foreign":
        (job.out / name).write_bytes(b"something else")
    else:
        DAMAGES[damage](job.out / name, random.Random(SEED))
    job.run(code=3)
    assert digests(job.out) == right


@pytest.mark.parametrize("damage", ["deleted", "truncated", "foreign", "emptied"])
def test_who_reads_a_damaged_run_is_told(job, damage):
    """`search` and `similarity` say which part cannot be read, and how to mend it."""
    DAMAGES[damage](job.out / OUTPUTS[0], random.Random(SEED))
    for argv in (
        ("search", "run", "words"),
        ("similarity", "run", "--out", "x.arrow", "--top-k", "1"),
    ):
        ended = job.run(*argv, code=1)
        assert OUTPUTS[0] in ended.err
        assert "hint:" in ended.err
        assert "Traceback" not in ended.err
    assert not (job.folder / "x.arrow").exists()


PAPERS = ("manifest.json", "job.toml", "checkpoint/run.json", "checkpoint/published.json")


def found_by_verify(job):
    """The problems that `verify` names; an error is one as well."""
    from batchembed import BatchembedError, verify

    try:
        return verify(job.out).problems
    except BatchembedError as error:
        return [error.message]


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_single_bits_are_all_found(job, count):
    """Any bit that is another, of any file with a promise, is found, and its file named."""
    print("seed", SEED)
    rng = random.Random(SEED)
    names = (*OUTPUTS, *PAPERS)
    sizes, missed = [(job.out / name).stat().st_size for name in names], []
    for number in range(count):
        name = rng.choices(names, sizes)[0] if rng.random() < 0.5 else rng.choice(names)
        raw = (job.out / name).read_bytes()
        flipped(job.out / name, rng)
        told = found_by_verify(job)
        # Two copies of a manifest that differ accuse each other.
        either = (name, *PAPERS[::3]) if name in PAPERS[::3] else (name,)
        if not any(one in problem for problem in told for one in either):
            missed.append((number, name, told))
        (job.out / name).write_bytes(raw)
    print(f"{count} flips, {count - len(missed)} found")
    assert missed == []
    assert found_by_verify(job) == []


def test_without_the_seal_a_flipped_bit_of_a_description_goes_unseen(job, monkeypatch):
    """Planted: what describes the run is not checked against what it tells of itself."""
    monkeypatch.setattr("batchembed.api.verifying.check_papers", lambda *_: None)
    text = (job.out / "job.toml").read_text()
    (job.out / "job.toml").write_text(text.replace('patience = "900ms"', 'patience = "901ms"'))
    assert found_by_verify(job) == []


@pytest.mark.parametrize("name", PAPERS)
def test_a_description_that_is_damaged_is_made_again(job, name):
    """Once it is out of the way, or at once, the same command makes it whole, and sends nothing."""
    right, sent = digests(job.out), len(job.sent())
    flipped(job.out / name, random.Random(SEED))
    (job.out / name).unlink()
    job.run(code=3)
    assert found_by_verify(job) == []
    assert digests(job.out) == right
    assert len(job.sent()) == sent


@pytest.mark.parametrize("number", [0, pytest.param(range(40), marks=pytest.mark.slow)])
def test_a_bit_of_one_part_costs_that_part_at_most(commands, tmp_path, number):
    """Of several parts the one with the flipped bit is paid for again, and no other row."""
    rng = random.Random(f"{SEED}/{number}")
    with running() as server:
        job = Place(commands, tmp_path / "x", texts(90), server=server, output__part_rows=30)
        job.run()
        right, parts = digests(job.out), sorted((job.out / "embeddings").iterdir())
        for _ in range(1 if number == 0 else len(number)):
            part, sent = rng.choice(parts), len(job.sent())
            flipped(part, rng)
            (told,) = found_by_verify(job)
            assert told.startswith(f"embeddings/{part.name}")
            part.unlink()
            job.run()
            assert len(job.sent()) - sent == 30
            assert digests(job.out) == right


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["manifest.json", "job.toml", "checkpoint/run.json"])
def test_damage_of_what_describes_the_run(job, name, damage):
    """No command falls over it: either it is said, or the same command makes it whole."""
    right = digests(job.out)
    for number in range(4 if damage == "flipped" else 1):
        shutil.rmtree(job.out)
        shutil.copytree(job.folder / "kept", job.out)
        DAMAGES[damage](job.out / name, random.Random(f"{SEED}/{number}"))
        for argv in (("verify", "run"), ("status", "run"), ("search", "run", "words")):
            ended = job.run(*argv, code=None)
            assert ended.code in (0, 1, 2), ended
            assert "Traceback" not in ended.err, ended.err
        ended = job.run(code=None)
        assert "Traceback" not in ended.err, ended.err
        if ended.code == 3:
            assert digests(job.out) == right
        else:
            assert ended.code in (1, 2), ended
            assert "hint:" in ended.err


def test_without_its_manifest_a_run_is_made_again_from_its_parts(job):
    """A lost manifest is never silently a success with nothing in it, and nothing is paid again."""
    right, sent = digests(job.out), len(job.sent())
    (job.out / "manifest.json").unlink()
    job.run("verify", "run", code=2)
    job.run(code=3)
    assert digests(job.out) == right
    assert len(job.sent()) == sent


@pytest.mark.parametrize("damage", ["deleted", "truncated", "flipped", "foreign"])
def test_a_damaged_checkpoint_costs_what_was_damaged(place, damage):
    """A run that goes on asks again for what the damaged segment held, and for nothing else."""
    with running(delay=0.03) as server:
        job = place(GIVEN, server=server, **HOW, limits__concurrency=1)
        for answers in (5, 10):
            command = job.start()
            until(lambda most=answers: len(server.bill.answers) >= most)
            command.kill()
            until(lambda: server.bill.now_open == 0)
        segments = sorted((job.out / "checkpoint").glob("*.segment"))
        assert len(segments) == 2
        DAMAGES[damage](segments[0], random.Random(SEED))
        server.delay = 0
        ended = job.run(code=3)
        if damage != "deleted":
            assert "warning" in ended.err
        assert job.wrong(unembedded=lambda text: "POISON" in text) == []
        twice = sum(n - 1 for n in server.bill.texts.values())
        assert twice <= (1 + 2 if damage == "flipped" else 5 + 2 + 1) * 8
        assert verified(job, code=0)["problems"] == []


def test_a_part_that_is_gone_costs_that_part_only(commands, tmp_path):
    """Of several parts only the damaged one is paid for again."""
    with running() as server:
        job = Place(commands, tmp_path / "x", texts(90), server=server, output__part_rows=30)
        job.run()
        parts = sorted((job.out / "embeddings").iterdir())
        assert len(parts) == 3
        right, sent = digests(job.out), len(job.sent())
        parts[1].unlink()
        job.run()
        assert sorted(job.sent()[sent:]) == sorted(texts(90)[30:60])
        assert digests(job.out) == right


def test_files_of_others_are_left_alone(job):
    """What somebody else put into the directory stays there, and is told by `verify`."""
    (job.out / "embeddings" / "part-00007.arrow").write_bytes(b"old")
    (job.out / "notes.txt").write_text("mine")
    assert "embeddings/part-00007.arrow" in verified(job, code=0)["ignored"]
    job.run(code=3)
    assert (job.out / "notes.txt").read_text() == "mine"
    assert len(files(job.out / "embeddings")) >= 1
