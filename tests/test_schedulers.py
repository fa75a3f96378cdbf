"""The crontab and the systemd units of jobs/: their own command lines, run as cron runs them."""

import configparser
import json
import re
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner
from fakes import running
from fakes.commands import ROOT
from fakes.faults import Fault
from fakes.runs import manifest, settings, table, texts, until, write, write_job

from batchembed.cli import main

CRON = {"HOME": "/nowhere", "LOGNAME": "nobody", "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}


def lines(crontab):
    """The commands of a crontab, without their times."""
    found = []
    for line in crontab.splitlines():
        fields = line.split(None, 5)
        if line.startswith("#") or len(fields) < 6 or "=" in fields[0]:
            continue
        assert all(re.fullmatch(r"[\d*/,-]+", field) for field in fields[:5]), line
        assert "%" not in fields[5].replace("\\%", ""), "cron takes % for the end of the line"
        found.append(fields[5])
    return found


EMBED, VERIFY = lines((ROOT / "jobs/crontab").read_text("utf-8"))


@pytest.fixture
def home(tmp_path):
    """What stands at /srv/embeddings; and next to it what stands at /opt/batchembed."""
    home = tmp_path / "embeddings"
    for name in ("jobs", "sample_data"):
        shutil.copytree(ROOT / name, home / name)
    (home / "log").mkdir()
    program = tmp_path / "batchembed/bin/batchembed"
    program.parent.mkdir(parents=True)
    # An installed batchembed: its own interpreter, and nothing of the environment.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from batchembed.cli import main; main()"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n', "utf-8")
    program.chmod(0o755)
    return home


def started(command, home):
    """Start a command as cron does: no environment to speak of, another folder, no terminal."""
    told = command.replace("/srv/embeddings", str(home))
    told = told.replace("/opt/batchembed", str(home.parent / "batchembed"))
    assert told.count(str(home.parent)) == 2
    return subprocess.Popen(
        ["/bin/sh", "-c", told],
        env=CRON,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(command, home):
    """Run a command as cron does; return its exit code and what cron would mail."""
    process = started(command, home)
    mail, _ = process.communicate(timeout=60)
    return process.returncode, mail


def test_cron_embeds_and_mails_nothing(home):
    """Success prints not a word, the second run too, and that one embeds nothing."""
    assert ended(EMBED, home) == (0, "")
    first = manifest(home / "runs/quickstart")
    assert first["counts"]["embedded"] == 420
    assert ended(EMBED, home) == (0, "")
    assert manifest(home / "runs/quickstart") == first
    assert (home / "log/embed.log").read_text() == ""
    assert ended(VERIFY, home) == (0, "")


def test_cron_needs_nothing_of_the_environment(home):
    """Neither HOME nor PATH nor anything else is set, and the folder is another."""
    told = EMBED.replace("/srv/embeddings", str(home))
    told = told.replace("/opt/batchembed", str(home.parent / "batchembed"))
    done = subprocess.run(["/bin/sh", "-c", told], env={}, cwd="/", check=True, capture_output=True)
    assert (done.stdout, done.stderr) == (b"", b"")
    assert manifest(home / "runs/quickstart")["counts"]["embedded"] == 420


def test_cron_leaves_logs_to_the_system(home):
    """A log that was moved away is begun anew: nothing of a run that ended holds it open."""
    job = home / "jobs/quickstart.toml"
    job.write_text(job.read_text("utf-8").replace("top_k", "top_kk"), "utf-8")
    log = home / "log/embed.log"
    for count in (1, 2):
        ended(EMBED, home)
        assert log.read_text().count("error:") == count, "a run appends"
    log.rename(home / "log/embed.log.1")
    ended(EMBED, home)
    assert log.read_text().count("error:") == 1
    assert (home / "log/embed.log.1").read_text().count("error:") == 2
    assert sorted(path.name for path in (home / "log").iterdir()) == ["embed.log", "embed.log.1"]


def test_sigterm_under_cron_is_a_clean_stop(home):
    """143, drained, told in the log and not in the mail; the next line that fires goes on."""
    write(home / "corpus.parquet", table(texts(20)))
    with running(script=lambda seen: Fault(delay=0.2) if seen.number > 3 else None) as server:
        one = {"limits__texts_per_request": 1, "limits__concurrency": 1}
        write_job(home / "jobs/quickstart.toml", settings("corpus.parquet", server, **one))
        process = started(EMBED.replace("&& /opt", "&& exec /opt"), home)
        until(lambda: server.bill.answered > 3)
        process.terminate()
        mail, _ = process.communicate(timeout=30)
        assert (process.returncode, mail) == (143, "")
        assert "SIGTERM" in (home / "log/embed.log").read_text()
        assert ended(EMBED, home) == (0, "")
        assert server.bill.paid_twice == {}


def test_cron_while_a_run_goes_on_ends_at_once(home):
    """Exit code 75, and the log says who holds the directory."""
    import fcntl

    run = home / "runs/quickstart"
    run.mkdir(parents=True)
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, mail = ended(EMBED, home)
    assert (code, mail) == (75, "")
    assert "hold" in (home / "log/embed.log").read_text()


def test_cron_mails_what_verify_finds(home):
    """A flipped bit is in the mail, with the name of the file."""
    assert ended(EMBED, home)[0] == 0
    part = home / "runs/quickstart/embeddings/part-00000.arrow"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    _, mail = ended(VERIFY, home)
    assert "part-00000.arrow" in mail


def test_cron_has_a_mistake_in_its_log(home):
    """A job file that is wrong ends with 2 and says why."""
    job = home / "jobs/quickstart.toml"
    job.write_text(job.read_text("utf-8").replace("top_k", "top_kk"), "utf-8")
    assert ended(EMBED, home) == (2, "")
    assert "top_k" in (home / "log/embed.log").read_text()


PAGE = (ROOT / "docs/operations.md").read_text("utf-8")


def pod_commands():
    """The commands of containers in docs/operations.md, as lists of words."""
    return [json.loads(words) for words in re.findall(r"(?m)^ *command: (\[.*\])$", PAGE)]


def in_a_pod(words, home, **environ):
    """Run a container's command in `home`; return its exit code and what it said."""
    path = f"{home.parent}/batchembed/bin:/usr/bin:/bin"
    command = [word.replace("jobs/articles.toml", "jobs/quickstart.toml") for word in words]
    assert command != words
    done = subprocess.run(
        command, env={"PATH": path} | environ, cwd=home, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_an_indexed_job_of_kubernetes_and_the_job_that_merges(home):
    """Twenty indices, each with its own command line, then the merge."""
    _, indexed, _ = pod_commands()
    assert "completions: 20" in PAGE
    codes = [in_a_pod(indexed, home, JOB_COMPLETION_INDEX=str(n))[0] for n in range(0, 20, 19)]
    assert codes == [0, 0]
    code, said = in_a_pod(["sh", "-c", "batchembed merge jobs/articles.toml"], home)
    assert code == 75
    assert "of 20 are not done" in said
    assert in_a_pod(indexed, home, JOB_COMPLETION_INDEX="20")[0] == 2


def test_the_limiter_of_kubernetes_listens():
    """Its command is understood, and its port is the one that the Service leads to."""
    *_, limiter = pod_commands()
    assert limiter[:2] == ["batchembed", "limiter"]
    told = CliRunner().invoke(main, [*limiter[1:], "--status"])
    assert "no limiter answers at `tcp://0.0.0.0:7788`" in told.output
    assert {"containerPort: 7788", "{ port: 7788 }"} <= set(
        re.findall(r"\{ port: \d+ \}|containerPort: \d+", PAGE)
    )


def test_rejects_are_no_failure_of_a_pod(home):
    """3 is told as 0, and everything else as it is."""
    plain, indexed, _ = pod_commands()
    write(home / "corpus.parquet", table(["", *texts(9)]))
    write_job(home / "jobs/quickstart.toml", settings("corpus.parquet", limits__max_rejects=1))
    assert in_a_pod(plain, home)[0] == 0
    assert manifest(home / "run")["counts"]["rejected"] == 1
    write_job(home / "jobs/quickstart.toml", settings("corpus.parquet", limits__max_rejects=0))
    shutil.rmtree(home / "run")
    assert in_a_pod(plain, home)[0] == 4
    assert in_a_pod(indexed, home, JOB_COMPLETION_INDEX="0")[0] == 4


def test_the_line_of_github_actions(home):
    """As GitHub's shell runs it: 0 and 3 pass the step, everything else fails it."""
    (line,) = re.findall(r"(?m)^ *- run: (batchembed run .*)$", PAGE)
    write(home / "corpus.parquet", table(["", *texts(9)]))
    for rejects, code in ((1, 0), (0, 4)):
        told = settings("corpus.parquet", limits__max_rejects=rejects)
        write_job(home / "jobs/quickstart.toml", told)
        step = ["bash", "-e", "-c", line]
        assert (in_a_pod(step, home)[0] == 0) is (code == 0)
        shutil.rmtree(home / "run", ignore_errors=True)


def slurm(home, number, code=None):
    """Run jobs/shards.sbatch as one job of the array; return its exit code and what was requeued.

    `srun` and `scontrol` are stand-ins; with a `code`, batchembed is one that ends with it.
    """
    tools = home.parent / "slurm"
    tools.mkdir(exist_ok=True)
    srun = 'exec "$@"' if code is None else f"exit {code}"
    for name, does in (("srun", srun), ("scontrol", f'echo "$@" >> {tools}/told')):
        (tools / name).write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        (tools / name).chmod(0o755)
    (tools / "told").write_text("")
    script = (ROOT / "jobs/shards.sbatch").read_text("utf-8")
    done = subprocess.run(
        ["/bin/sh", "-c", script.replace("/srv/embeddings", str(home))],
        env={
            "PATH": f"{tools}:{home.parent}/batchembed/bin:/usr/bin:/bin",
            "SLURM_ARRAY_TASK_ID": str(number),
            "SLURM_JOB_ID": "4711",
        },
        capture_output=True,
        check=False,
    )
    return done.returncode, (tools / "told").read_text()


def test_an_array_of_slurm(home):
    """A job of the array is a shard: the last number of the array is the last shard."""
    script = (ROOT / "jobs/shards.sbatch").read_text("utf-8")
    assert "--array=0-19%5" in script
    assert '"$SLURM_ARRAY_TASK_ID/20"' in script
    assert slurm(home, 19) == (0, "")
    assert slurm(home, 20) == (2, "")
    parts = sorted((home / "runs/quickstart/checkpoint/shards").glob("*/"))
    assert [part.name for part in parts] == ["00019"]


@pytest.mark.parametrize(
    ("code", "ends", "requeued"),
    [(0, 0, ""), (3, 0, ""), (75, 75, "requeue 4711\n"), (143, 143, "requeue 4711\n"), (4, 4, "")],
)
def test_exit_codes_in_slurm(home, code, ends, requeued):
    """What will go on is queued again, and what waits for a person is not."""
    assert slurm(home, 3, code) == (ends, requeued)


def unit(name):
    """A systemd unit, its settings as they are written."""
    told = configparser.ConfigParser(strict=False, interpolation=None, inline_comment_prefixes=None)
    told.optionxform = str
    told.read_string((ROOT / "jobs/systemd" / name).read_text("utf-8"))
    return told


def test_the_service_runs_as_it_stands(home):
    """Its command line works with nothing but its working directory."""
    service = unit("batchembed.service")["Service"]
    command = f"cd {service['WorkingDirectory']} && exec {service['ExecStart']} --json"
    code, said = ended(command, home)
    assert code == 0
    assert json.loads(said[said.index("{") :])["rows"] == 420  # after what stderr notes


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path):
    """By its own checker, where there is one."""
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("NOT TESTED: no systemd-analyze on this machine")
    for path in (ROOT / "jobs/systemd").iterdir():
        told = path.read_text("utf-8").replace("/opt/batchembed/bin/batchembed", "/bin/true")
        (tmp_path / path.name).write_text(told, "utf-8")
    command = [checker, "verify", *sorted(tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_service_knows_the_exit_codes():
    """3 is success, 2 and 4 wait for a person, and all else is tried again."""
    service = unit("batchembed.service")["Service"]
    assert service["SuccessExitStatus"] == "3"
    assert service["RestartPreventExitStatus"] == "2 4"
    assert service["Restart"] == "on-failure"
    assert int(service["TimeoutStopSec"].removesuffix("s")) > 10  # what draining may take


def test_the_service_of_the_limiter_listens_where_its_runs_look():
    """Its address is the one that the file tells runs to name, in a folder of its user alone."""
    service = unit("batchembed-limiter.service")["Service"]
    program, *argv = service["ExecStart"].split()
    assert program == "/opt/batchembed/bin/batchembed"
    told = CliRunner().invoke(main, [*argv, "--status"])
    assert "no limiter answers at `unix:/run/batchembed/limiter.sock`" in told.output
    words = (ROOT / "jobs" / "systemd" / "batchembed-limiter.service").read_text("utf-8")
    assert "BATCHEMBED_LIMITER=unix:/run/batchembed/limiter.sock" in words
    assert (service["RuntimeDirectory"], service["RuntimeDirectoryMode"]) == ("batchembed", "0700")
    assert service["Restart"] == "always"  # it ends with 0 when it is stopped


def test_the_timer_starts_the_service():
    """A timer starts the unit of its own name."""
    assert (ROOT / "jobs/systemd/batchembed.service").exists()
    timer = unit("batchembed.timer")
    assert "Unit" not in timer["Timer"]
    assert timer["Install"]["WantedBy"] == "timers.target"


def test_sigterm_from_systemd_is_a_clean_stop(home):
    """The process that gets the signal is the run itself; the next start goes on."""
    service = unit("batchembed.service")["Service"]
    command = f"cd {service['WorkingDirectory']} && exec {service['ExecStart']}"
    write(home / "corpus.parquet", table(texts(20)))
    with running(script=lambda seen: Fault(delay=0.2) if seen.number > 3 else None) as server:
        one = {"limits__texts_per_request": 1, "limits__concurrency": 1}
        write_job(home / "jobs/quickstart.toml", settings("corpus.parquet", server, **one))
        process = started(command, home)
        until(lambda: server.bill.answered > 3)
        process.terminate()
        process.communicate(timeout=30)
        assert process.returncode == 143
        assert ended(command, home)[0] == 0
        assert server.bill.paid_twice == {}
