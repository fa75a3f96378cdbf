"""What must not be in the repository, and what must be beside what is."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Put together from pieces, so that this file does not hold what it looks for.
INDEX_HOSTS = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in [
            ("pypi", "org"), ("pypi", "python", "org"), ("python" + "hosted", "org"),
            ("anaconda", "org"), ("pkg", "dev"), ("jfrog", "io"), ("pypi", "nvidia", "com"),
            ("download", "pytorch", "org"),
        ]
    )
    + "|" + "--" + r"(?:extra-)?index" + "-url[ =]" + "|" + r"(?:artifactory|nexus|devpi)[\w.-]*/"
)  # fmt: skip
THIS_MACHINE = re.compile(r"(?<![\w.])/(?:" r"tmp|root|work|home)/")
PRIVATE = re.compile(
    "BEGIN [A-Z ]*" + "PRIVATE KEY|" + "AKIA" + r"[A-Z0-9]{16}|\bsk" + r"-[A-Za-z0-9]{40}"
)
DATA = {
    ".parquet",
    ".csv",
    ".tsv",
    ".jsonl",
    ".arrow",
    ".npz",
    ".npy",
    ".safetensors",
    ".gz",
    ".zst",
    ".png",
}


def files() -> list[Path]:
    """Every file that is, or would be, part of the repository."""
    told = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    if told.returncode:
        pytest.skip("not a git checkout: which files are ours cannot be known")
    paths = [ROOT / name for name in told.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def lines_with(pattern: re.Pattern[str], paths) -> list[str]:
    """Every line of the text files among `paths` in which `pattern` occurs, with its place."""
    found = []
    for path in paths:
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.name}:{n}: {line[:120]}"
            for n, line in enumerate(lines, 1)
            if pattern.search(line)
        ]
    return found


def source_files():
    return [
        path for path in files() if path.suffix in {".py", ".toml", ".yaml", ".yml", ".sh", ".json"}
    ]


def test_no_file_names_a_package_index():
    """Where packages come from is the business of whoever installs them, so no file says it."""
    assert lines_with(INDEX_HOSTS, [p for p in files() if p.name != "Makefile"]) == []


def test_the_makefile_names_no_package_index():
    """The Makefile leaves the index out when it locks, and names none."""
    assert all("--no-emit" in line for line in lines_with(INDEX_HOSTS, [ROOT / "Makefile"]))


def test_no_source_names_a_folder_of_the_machine_it_was_written_on():
    """Sources that work on one machine only do not work."""
    assert lines_with(THIS_MACHINE, source_files()) == []


def test_no_file_holds_a_key():
    """Nothing that looks like a real key or a private key is in the repository."""
    assert lines_with(PRIVATE, files()) == []


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (INDEX_HOSTS, "url = https://" + "pypi" + ".org/simple"),
        (INDEX_HOSTS, "https://files.python" + "hosted" + ".org/packages/x"),
        (INDEX_HOSTS, "--extra-" + "index-url https://example.com"),
        (INDEX_HOSTS, "https://company.example/" + "artifactory" + "/api"),
        (THIS_MACHINE, 'path = "' + "/tmp" + '/x"'),
        (THIS_MACHINE, "cd " + "/root" + "/x"),
        (PRIVATE, "-----BEGIN RSA " + "PRIVATE KEY-----"),
        (PRIVATE, "sk" + "-" + "a1" * 20),
    ],
)
def test_what_must_not_be_there_is_seen(pattern, line, tmp_path):
    """Each pattern, planted in a file, is found with its line number."""
    (tmp_path / "planted.py").write_text(f"first\n{line}\n")
    assert lines_with(pattern, [tmp_path / "planted.py"]) == [f"planted.py:2: {line}"]


def test_no_lock_file_that_remembers_its_index():
    """A uv or PEP 751 lock holds the address of the index it was made from."""
    names = {path.name for path in files()}
    assert not {name for name in names if name == "uv" + ".lock" or name.startswith("pylock")}


def test_every_data_file_has_its_licence_told():
    """A folder with data, or one above it, has a README or NOTICE that names origin and licence."""
    untold = []
    for path in files():
        if path.suffix in DATA and not path.is_relative_to(ROOT / "tests"):
            above = [a for a in path.parents if a.is_relative_to(ROOT) and a != ROOT]
            told = [a / n for a in above for n in ("README.md", "NOTICE") if (a / n).is_file()]
            if not any(re.search(r"(?i)licen[cs]e", t.read_text("utf-8")) for t in told):
                untold.append(str(path.relative_to(ROOT)))
    assert untold == []


def locked() -> dict[str, str]:
    """Each package of requirements.lock, with its lines."""
    text = (ROOT / "requirements.lock").read_text("utf-8")
    blocks = re.split(r"(?m)^(?=[A-Za-z0-9])", text)[1:]
    return {
        re.match(r"[A-Za-z0-9._-]+", block)[0].lower().replace("_", "-"): block for block in blocks
    }


def test_the_lock_pins_every_package_by_hash():
    """What is installed is what was tested, byte for byte, wherever it comes from."""
    assert locked()
    loose = [
        n for n, block in locked().items() if "==" not in block or "--hash=sha256:" not in block
    ]
    assert loose == []


def test_the_lock_covers_what_the_project_needs():
    """Every dependency, and every one of the group `dev`, is in requirements.lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups, needed = project["dependency-groups"], list(project["project"]["dependencies"])
    for entry in groups["dev"]:
        needed += groups[entry["include-group"]] if isinstance(entry, dict) else [entry]
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("_", "-") for line in needed}
    assert names - locked().keys() == set()
