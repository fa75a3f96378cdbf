"""The provider's key: found where the job says, refused where it must not stand, never told."""

import stat
import sys
import tomllib

import pytest

from batchembed.errors import ActionNeededError, JobError
from batchembed.job import Access, from_dict, load, secret
from batchembed.job import secrets as module

LEAST = {
    "corpus": {"path": "a.parquet", "text": "body"},
    "model": {"provider": "aleph-alpha", "name": "m"},
    "output": {"path": "runs/a"},
}
CANARY = "CANARY7d2f1c9e"

# Put together from pieces, so that this file holds nothing that a scanner takes for a key.
KEYLIKE = {
    "a short one": "sk" + "-" + CANARY,
    "a long one": "sk" + "-proj-" + CANARY * 3,
    "a bearer": "Bearer " + CANARY,
    "a token of the web": "eyJ" + CANARY + ".eyJ" + CANARY + "." + CANARY,
    "a hub's": "hf" + "_" + CANARY * 2,
    "a cloud's": "AKIA" + CANARY.upper() * 2,
    "inside a command": "curl -H x: sk" + "-" + CANARY * 2,
    "inside an address": "https://me:" + CANARY + "@host/v1",
    "as a parameter": "https://host/v1?api-key=" + CANARY,
}

PLACES = {
    "corpus.text": lambda key: {"corpus": {"path": "a", "text": key}},
    "corpus.path": lambda key: {"corpus": {"path": ["a", key], "text": "t"}},
    "model.base_url": lambda key: {"model": {"provider": "openai", "base_url": key}},
    "model.controls.match": lambda key: {
        "model": {"provider": "local", "controls": [{"match": key, "factor": 1}]}
    },
    "access.key_env": lambda key: {"access": {"key_env": key}},
    "access.key_file": lambda key: {"access": {"key_file": key}},
    "access.key_command": lambda key: {"access": {"key_command": ["echo", key]}},
    "access.tags": lambda key: {"access": {"tags": [key]}},
    "zzz": lambda key: {"zzz": key},
}


def everything_said(error):
    """What a person or a log could see of an error, its causes included."""
    said = []
    while error is not None:
        said += [str(error), repr(error), repr(error.args), repr(getattr(error, "hint", ""))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(said)


@pytest.mark.parametrize("key", KEYLIKE.values(), ids=KEYLIKE)
@pytest.mark.parametrize("place", PLACES)
def test_what_looks_like_a_key_is_refused_wherever_it_stands_and_never_echoed(place, key):
    """The message names the place and says where keys belong instead."""
    with pytest.raises(JobError) as found:
        from_dict({**LEAST, **PLACES[place](key)}, where="job.toml")
    assert f"`{place}`" in found.value.message
    assert "access.key_env" in found.value.hint
    assert CANARY.lower() not in everything_said(found.value).lower()


@pytest.mark.parametrize(
    "name",
    ["api_key", "api-key", "apikey", "API_KEY", "key", "token", "aa_token", "secret", "password",
     "client_secret", "bearer", "authorization", "credentials"],
)  # fmt: skip
@pytest.mark.parametrize("table", ["model", "access", "limits"])
def test_a_setting_that_is_named_like_a_key_is_refused_whatever_it_holds(table, name):
    """`api_key = …` is not merely unknown: its value may be the real one, and is not shown."""
    given = {**LEAST, table: {**LEAST.get(table, {}), name: CANARY}}
    with pytest.raises(JobError, match="no place for one") as found:
        from_dict(given, where="job.toml")
    assert f"`{table}.{name}`" in found.value.message
    assert CANARY not in everything_said(found.value)


def test_a_key_as_the_name_of_a_setting_is_not_echoed_either():
    """A key on the wrong side of the equals sign stays unsaid."""
    with pytest.raises(JobError) as found:
        from_dict({**LEAST, "access": {KEYLIKE["a long one"]: 1}}, where="job.toml")
    assert CANARY not in everything_said(found.value)


def test_a_key_in_place_of_its_variable_is_seen_though_it_has_no_known_form():
    """Forty letters and digits in `key_env` are a key, not the name of a variable."""
    key = "a8f3" + CANARY * 3
    with pytest.raises(JobError, match="no place for one") as found:
        from_dict({**LEAST, "access": {"key_env": key}}, where="job.toml")
    assert key not in everything_said(found.value)


@pytest.mark.parametrize("setting", ["key_env", "key_file", "key_command", "timeout", "device"])
def test_what_stands_in_access_by_mistake_is_never_shown(setting):
    """A wrong value in [access] may be the key in a form that nobody knows."""
    with pytest.raises(JobError) as found:
        from_dict({**LEAST, "access": {setting: [{CANARY: CANARY}]}}, where="job.toml")
    assert f"`access.{setting}`" in found.value.message
    assert CANARY not in everything_said(found.value)


def test_the_value_of_an_unknown_setting_is_never_shown():
    """Whatever it is, it was not meant for us."""
    with pytest.raises(JobError) as found:
        from_dict({**LEAST, "access": {"aa": CANARY}}, where="job.toml")
    assert CANARY not in everything_said(found.value)


def test_an_override_with_a_key_is_refused_and_not_echoed(tmp_path):
    """`--set` is no back door, not even with a value that cannot be read."""
    path = tmp_path / "job.toml"
    path.write_text(from_dict(LEAST, where="x").to_toml())
    for override in (
        f"access.api_key={CANARY}",
        f'access.key_env="{CANARY}',
        KEYLIKE["a long one"],
        f"access.{KEYLIKE['a long one']}=1",
        f"{KEYLIKE['a short one']}.x=1",
        f"corpus.path.{KEYLIKE['a short one']}.x=1",
    ):
        with pytest.raises(JobError) as found:
            load(path, overrides=[override])
        assert CANARY not in everything_said(found.value)


@pytest.mark.parametrize(
    "table",
    [
        {"limits": {"tokens_per_minute": 100, "tokens_per_request": 10}},
        {"access": {"key_env": "AA_TOKEN"}},
        {"access": {"key_env": "OPENAI_API_KEY_2"}},
        {"access": {"key_file": "~/.keys/sk-team/aleph-alpha.key"}},
        {"access": {"key_command": "pass show sk-team/aleph-alpha"}},
        {"corpus": {"path": "data/sk-SK.parquet", "text": "token"}},
        {"corpus": {"path": "s3://bucket/sk-something-rather-long/a.parquet", "text": "key"}},
    ],
)
def test_what_only_sounds_like_a_key_is_let_through(table):
    """Limits of tokens, names of variables, paths and columns are no keys."""
    from_dict({**LEAST, **table}, where="job.toml")


def test_keys_are_seen_only_because_they_are_looked_for(monkeypatch):
    """Without the search, the same job is accepted: the search is what refuses it."""
    given = {**LEAST, "access": {"tags": [KEYLIKE["a long one"]]}}
    monkeypatch.setattr(module, "refuse_keys", lambda *_, **__: None)
    assert from_dict(given, where="x").access.tags == (KEYLIKE["a long one"],)


def test_the_written_job_says_where_the_key_is_and_not_what_it_is(tmp_path):
    """job.toml names variable, file or command; the key is nowhere in it, nor in any repr."""
    path = key_file(tmp_path, CANARY)
    for access in ({"key_env": "MINE"}, {"key_file": str(path)}, {"key_command": f"cat {path}"}):
        job = from_dict({**LEAST, "access": access}, where="x")
        assert secret(job.access, "AA_TOKEN", environ={"MINE": CANARY}) == CANARY
        assert CANARY not in job.to_toml() + repr(job) + str(job)
        assert tomllib.loads(job.to_toml())["access"].keys() & access.keys()


def key_file(folder, content, mode=0o600):
    path = folder / "key"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


def refused(access, variable=None, environ=None):
    with pytest.raises(ActionNeededError) as found:
        secret(access, variable, environ=environ or {})
    assert found.value.exit_code == 4
    assert CANARY not in everything_said(found.value)
    return str(found.value)


def test_a_provider_without_a_key_needs_none():
    """No variable, and nothing in [access]: there is no key and nothing is wrong."""
    assert secret(Access(), None, environ={"AA_TOKEN": CANARY}) is None


def test_the_providers_variable_is_read_from_the_environment_that_is_given(monkeypatch):
    """The key is the variable's value without blanks around it; ours is not looked at."""
    monkeypatch.setenv("AA_TOKEN", "other")
    assert secret(Access(), "AA_TOKEN", environ={"AA_TOKEN": f" {CANARY}\n"}) == CANARY
    assert "`AA_TOKEN` is not set" in refused(Access(), "AA_TOKEN", {})


def test_the_jobs_own_variable_goes_before_the_providers():
    """`key_env` names another variable, also for a provider that needs no key."""
    environ = {"AA_TOKEN": "usual", "MINE": CANARY}
    assert secret(Access(key_env="MINE"), "AA_TOKEN", environ=environ) == CANARY
    assert secret(Access(key_env="MINE"), None, environ=environ) == CANARY
    assert "`MINE` is not set" in refused(Access(key_env="MINE"), None, {"AA_TOKEN": "usual"})


def test_a_missing_key_says_how_to_give_it():
    """The message names the variable, the hint the three ways to give a key."""
    said = refused(Access(), "AA_TOKEN", {"AA_TOKEN": "  "})
    assert "export AA_TOKEN=" in said
    assert "key_file" in said
    assert "key_command" in said


def test_a_key_file_holds_the_key(tmp_path):
    """White space around it does not count, and it goes before the environment."""
    access = Access(key_file=str(key_file(tmp_path, f"{CANARY}\r\n")))
    assert secret(access, "AA_TOKEN", environ={"AA_TOKEN": "other"}) == CANARY


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o601])
def test_a_key_file_that_others_can_read_is_refused(tmp_path, mode):
    """The hint is the command that mends it."""
    path = key_file(tmp_path, CANARY, mode)
    said = refused(Access(key_file=str(path)))
    assert f"mode {mode:o}" in said
    assert f"chmod 600 {path}" in said


def test_the_mode_is_what_refuses_it(tmp_path, monkeypatch):
    """Without the look at the mode, the same file gives its key."""
    path = key_file(tmp_path, CANARY, 0o644)
    monkeypatch.setattr(stat, "S_IRWXG", 0)
    monkeypatch.setattr(stat, "S_IRWXO", 0)
    assert secret(Access(key_file=str(path)), None, environ={}) == CANARY


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "empty key"),
        (" \n", "empty key"),
        (f"{CANARY}\nsecond", "no key: it has"),
        (f"{CANARY} x", "no key: it has"),
        (f"{CANARY}é", "no key: it has"),
        (b"\xff\xfe" + CANARY.encode(), "not text"),
    ],
)
def test_a_file_that_holds_no_key_is_refused(tmp_path, content, says):
    """Nothing, two lines, a blank or an accent could not stand in a header."""
    assert says in refused(Access(key_file=str(key_file(tmp_path, content))))


def test_a_key_file_that_is_not_there_is_named(tmp_path):
    """A missing file and a folder say so."""
    assert "No such file" in refused(Access(key_file=str(tmp_path / "none")))
    assert "cannot be read" in refused(Access(key_file=str(tmp_path)))


def test_a_home_folder_is_understood(tmp_path, monkeypatch):
    """`~` is the only thing in a path that is looked up."""
    key_file(tmp_path, CANARY)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert secret(Access(key_file="~/key"), None, environ={}) == CANARY


def command(code):
    return Access(key_command=(sys.executable, "-c", code))


def test_a_command_prints_the_key():
    """What it says on stderr is its own business."""
    code = f"import sys; print('{CANARY}'); print('hello', file=sys.stderr)"
    assert secret(command(code), "AA_TOKEN", environ={}) == CANARY


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (f"print('{CANARY}'); raise SystemExit(3)", "exit code 3"),
        ("", "empty key"),
        (f"print('{CANARY}'); print('{CANARY}')", "no key: it has"),
        (r"import sys; sys.stdout.buffer.write(b'\xff')", "not text"),
    ],
)
def test_a_command_that_gives_no_key_is_refused(code, says):
    """Its output is not shown: half of a key is a key to somebody."""
    assert says in refused(command(code))


def test_a_command_that_cannot_be_started_is_named():
    """A program that is not there is said to be missing."""
    said = refused(Access(key_command=("no-such-program-here",)))
    assert "no key from `no-such-program-here`" in said


def test_a_command_that_takes_too_long_is_ended(monkeypatch):
    """A command that waits for a password nobody types does not hang the run."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    assert "longer than" in refused(command("import time; time.sleep(60)"))


def test_no_shell_reads_the_command(tmp_path):
    """Semicolons and redirections are arguments, not commands."""
    marker = tmp_path / "marker"
    job = from_dict(
        {**LEAST, "access": {"key_command": f"echo {CANARY};touch {marker}"}}, where="x"
    )
    refused(job.access)
    assert not marker.exists()


def test_the_mode_of_the_file_that_is_read_is_the_one_that_was_looked_at(tmp_path):
    """A link to a private file is private; the mode of the link itself does not count."""
    link = tmp_path / "link"
    link.symlink_to(key_file(tmp_path, CANARY))
    assert secret(Access(key_file=str(link)), None, environ={}) == CANARY
