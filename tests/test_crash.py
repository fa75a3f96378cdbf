"""`kill -9` at any moment, run again: the same bytes, and nothing paid for twice."""

import json
import random
import signal
from dataclasses import dataclass, field

import pytest
from fakes import running
from fakes.faults import Fault
from fakes.places import Place
from fakes.runs import (
    HARMLESS,
    digests,
    paid_texts,
    settings,
    strays,
    table,
    texts,
    until,
    write,
    write_job,
    wrong_rows,
)

SEED = random.randrange(10**6)
KINDS = ("aleph-alpha/single", "aleph-alpha/batch", "openai/floats", "openai/base64")
SIMILARITIES = (None, {"top_k": 3}, {"min_score": 0.3}, {"dense": True})


@dataclass
class Case:
    """A random configuration, drawn from a seed that is told when it fails."""

    seed: str
    kind: str = ""
    texts_per_request: int = 1
    concurrency: int = 1
    suffix: str = ".parquet"
    dtype: str = "float32"
    similarity: dict | None = None
    delay: float = 0.0
    given: list = field(default_factory=list)

    def __post_init__(self):
        rng = self.rng = random.Random(self.seed)
        self.kind = rng.choice(KINDS)
        self.texts_per_request = 1 if "single" in self.kind else rng.randint(1, 64)
        self.concurrency = rng.randint(1, 16)
        self.suffix = rng.choice([".parquet", ".csv"])
        self.dtype = rng.choice(["float32", "float16"])
        self.similarity = rng.choice(SIMILARITIES)
        self.delay = rng.uniform(0.002, 0.02)
        requests = min(60, round(0.6 * self.concurrency / self.delay))
        distinct = texts(min(700, max(20, requests * self.texts_per_request)), rng.randrange(99))
        distinct[rng.randrange(1, len(distinct))] += " POISON"
        self.given = [*distinct, *rng.choices(distinct, k=len(distinct) // 8), "", " "]
        rng.shuffle(self.given)

    @property
    def distinct(self):
        return {text for text in self.given if text.strip() and "POISON" not in text}

    def job(self, folder, server):
        corpus = write(folder / f"corpus{self.suffix}", table(self.given))
        provider, _, form = self.kind.partition("/")
        more = {"model__endpoint": "semantic_embed"} if form == "single" else {}
        if form == "batch":
            more = {"model__endpoint": "batch_semantic_embed"}
        if self.similarity:
            more["similarity"] = dict(self.similarity)
        job = settings(
            corpus,
            server,
            provider,
            limits__concurrency=self.concurrency,
            limits__texts_per_request=self.texts_per_request,
            limits__max_rejects=len(self.given),
            output__dtype=self.dtype,
            **more,
        )
        return write_job(folder / "job.toml", job)

    def script(self):
        return (lambda _: Fault(encoding="float")) if self.kind == "openai/floats" else ()


class Killed:
    """One job that is killed and continued, and the checks of what it paid."""

    def __init__(self, commands, case, server, folder):
        self.commands, self.case, self.server, self.folder = commands, case, server, folder
        self.run = folder / "run"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self.argv = ("run", case.job(folder, server))
        self.kept = set()

    def start(self, *twists):
        env = {"TMPDIR": str(self.temporary), "AA_TOKEN": "k", "OPENAI_API_KEY": "k"}
        return self.commands.start(*self.argv, cwd=self.folder, env=env, twists=twists)

    def bill(self):
        """The texts of each answer that was paid for, one list a request."""
        until(lambda: self.server.bill.now_open == 0)
        return [line for line in self.server.bill.answers if line != [HARMLESS]]

    def check_after_kill(self, before):
        """Check what is kept of the answers since the line `before`; remember it."""
        lines = self.bill()[before:]
        twice = [text for line in lines for text in line if text in self.kept]
        assert twice == [], "texts whose answer had been read were sent again"
        self.kept = paid_texts(self.run, self.case.distinct)
        lost = [line for line in lines if not self.kept.issuperset(line)]
        assert len(lost) <= self.case.concurrency, "more answers are lost than were in flight"
        return len(lost)

    def finish(self, *twists):
        """Run to the end; check that nothing is paid for that was kept."""
        before = len(self.bill())
        ended = self.start(*twists).wait()
        assert ended.code == 3, ended
        lines = self.bill()[before:]
        twice = [text for line in lines for text in line if text in self.kept]
        assert twice == [], "texts whose answer had been read were sent again"
        assert strays(self.run) == []
        assert list(self.temporary.iterdir()) == []


def unbroken(commands, case, server, folder, *twists):
    """A run from beginning to end: its digests, how long it took, its steps on the disk."""
    job, told = Killed(commands, case, server, folder), folder / "steps"
    job.finish(["count_steps", str(job.run), str(told)], *twists)
    lines = job.bill()
    assert sorted(text for line in lines for text in line) == sorted(case.distinct)
    bad = wrong_rows(
        job.run,
        table(case.given),
        unembedded=lambda text: "POISON" in text,
    )
    assert bad == []
    seconds = json.loads((job.run / "manifest.json").read_text())["seconds"]
    return digests(job.run), seconds, int(told.read_text())


def moment(rng, seconds, steps):
    """A random moment to die: a step on the disk, a torn write, or a time."""
    if rng.random() < 0.5:
        return ["die_at_step", None, rng.randint(1, steps), rng.random() < 0.5], None
    return None, rng.uniform(0, 1.1 * seconds)


def die(job, at):
    """Start the job and kill it at a moment; return how it ended."""
    step, seconds = at
    if step is not None:
        return job.start([step[0], str(job.run), *step[2:]], ["stage_at_once"]).wait()
    command = job.start(["stage_at_once"])
    command.ends_within(seconds)
    return command.kill()


def check(commands, folder, seed):
    """Kill a random job once or twice, finish it, and compare it with one that ran through."""
    case = Case(seed)
    with running(delay=case.delay, script=case.script()) as server:
        right, seconds, steps = unbroken(commands, case, server, folder / "whole")
        job = Killed(commands, case, server, folder / "killed")
        before = len(job.bill())
        for _ in range(case.rng.choice([1, 1, 2])):
            ended = die(job, moment(case.rng, seconds, steps))
            assert ended.code in (-9, 3), ended
            job.check_after_kill(before)
            before = len(job.bill())
        job.finish()
    assert digests(job.run) == right


MANY = [pytest.param(n, marks=pytest.mark.slow) for n in range(30, 500)]


@pytest.mark.parametrize("number", [*range(30), *MANY])
def test_a_killed_run_goes_on_and_pays_nothing_twice(commands, tmp_path, number):
    """Killed at a random moment and run again, a job gives the bytes of an unbroken run."""
    seed = f"{SEED}/{number}"
    print("seed", seed)
    check(commands, tmp_path, seed)


@pytest.fixture
def half_done(commands, tmp_path):
    """Start a job of sixty requests, two at a time, and kill it when half is answered."""
    with running(delay=0.01) as server:

        def start(*twists):
            case = Case("planted")
            case.kind, case.similarity, case.suffix = "openai/base64", None, ".parquet"
            case.texts_per_request, case.concurrency, case.given = 4, 2, [*texts(240), ""]
            job = Killed(commands, case, server, tmp_path / "run-of-it")
            command = job.start(*twists)
            until(lambda: len(server.bill.answers) >= 30)
            assert command.kill().code == -9
            return job

        yield start


def test_no_plant_no_alarm(half_done):
    """The job by which planted bugs are seen passes when nothing is planted."""
    job = half_done()
    job.check_after_kill(0)
    job.finish()
    assert len(job.kept) >= 28 * 4


def test_a_ledger_that_is_not_consulted_is_seen(half_done):
    """Planted: the run that goes on asks for everything again."""
    job = half_done()
    job.check_after_kill(0)
    with pytest.raises(AssertionError, match="sent again"):
        job.finish(["forgetful_ledger"])


def test_frames_that_are_written_later_are_seen(half_done):
    """Planted: answers wait in memory before they are written."""
    job = half_done(["buffered_frames"])
    with pytest.raises(AssertionError, match="more answers are lost"):
        job.check_after_kill(0)


@pytest.mark.parametrize(
    "signum", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_nothing_of_a_run_goes_on_without_it(commands, tmp_path, signum):
    """The model on this machine may use processes beside the run; they end with it."""
    place = Place(commands, tmp_path / "local", texts(20_000))
    right = Place(commands, tmp_path / "whole", texts(20_000))
    command = place.start()
    until(lambda: any((place.out / "checkpoint").glob("*.segment")))
    command.send(signum)
    assert command.wait().code in (-9, 143)
    until(lambda: command.left_behind() == [])
    place.run()
    right.run()
    assert digests(place.out) == digests(right.out)


def die_twice(commands, case, server, folder, at):
    """Kill a run before one step, and the run that goes on before another; then finish it."""
    job = Killed(commands, case, server, folder)
    for number in at:
        before = len(job.bill())
        ended = job.start(["die_at_step", str(job.run), number, False]).wait()
        assert ended.code in (-9, 3), ended
        job.check_after_kill(before)
    job.finish()
    return digests(job.run)


@pytest.mark.parametrize("count", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_killed_while_it_recovers(commands, tmp_path, count):
    """A second death, in the run that mends the first, costs nothing either."""
    print("seed", SEED)
    rng, case = random.Random(SEED), Case("steps")
    case.texts_per_request, case.concurrency, case.given = 4, 2, case.given[:60]
    with running(script=case.script()) as server:
        right, _, steps = unbroken(commands, case, server, tmp_path / "whole")
        for number in range(count):
            at = (rng.randint(1, steps), rng.randint(1, steps))
            assert die_twice(commands, case, server, tmp_path / str(number), at) == right, at


@pytest.mark.slow
@pytest.mark.parametrize("torn", [False, True], ids=["before", "torn"])
def test_killed_at_every_step_on_the_disk(commands, tmp_path, torn):
    """Killed before each change of the disk, from the first to the last, a job goes on.

    Parts are staged while texts are still embedded.
    """
    case = Case("steps")
    case.texts_per_request, case.concurrency, case.given = 4, 2, case.given[:60]
    failed = []
    with running(script=case.script()) as server:
        whole = tmp_path / "whole"
        right, _, steps = unbroken(commands, case, server, whole, ["stage_at_once"])
        for number in range(1, steps + 1):
            job = Killed(commands, case, server, tmp_path / str(number))
            before = len(job.bill())
            die = ["die_at_step", str(job.run), number, torn]
            ended = job.start(die, ["stage_at_once"]).wait()
            assert ended.code in (-9, 3), ended
            try:
                job.check_after_kill(before)
                job.finish()
                assert digests(job.run) == right
            except AssertionError as error:
                failed.append((number, str(error)[:300]))
    print(f"{steps} steps, {len(failed)} not mended")
    assert failed == []
