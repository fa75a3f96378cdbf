"""What we write is read, without batchembed, by those who will read it.

The readers weigh more than everything else and live in a venv of their own: `make interop`
makes it, or BATCHEMBED_INTEROP_PYTHON names a python that has them.
"""

import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest
from fakes import running, vector
from fakes.commands import ROOT, environment
from fakes.places import Place
from fakes.runs import output, rejects, texts

pytestmark = pytest.mark.slow
GIVEN = [*texts(40), "", "a POISON text", *texts(3)]
READERS = ("polars", "pandas", "duckdb", "datasets")
TYPES = {
    "polars": {"float32": "Float32 32", "float16": "Float16 32"},
    "pandas": {"float32": "float32 32", "float16": "float16 32"},
    "duckdb": {"float32": "FLOAT[32]"},
    "datasets": {"float32": "float32 32", "float16": "float16 32"},
}


@pytest.fixture(scope="session")
def python():
    """A python that has the readers."""
    named = os.environ.get("BATCHEMBED_INTEROP_PYTHON")
    found = Path(named or ROOT / ".venv-interop" / "bin" / "python")
    if not found.exists():
        pytest.skip(f"NOT TESTED: no readers at {found}; `make interop` installs them")
    return found


@pytest.fixture(scope="module", params=["float32", "float16"])
def run(request, commands, tmp_path_factory):
    """A run with two rejects and a comparison, in both number types."""
    with running() as server:
        job = Place(
            commands,
            tmp_path_factory.mktemp("readers"),
            GIVEN,
            server=server,
            output__dtype=request.param,
            similarity={"top_k": 2},
            limits__max_rejects=2,
        )
        job.run(code=3)
    return request.param, job


def read(python, reader, run):
    """What a reader says of a run."""
    command = [str(python), str(Path(__file__).with_name("reading.py")), reader, str(run)]
    home = {"HOME": str(run.parent), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(home), timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def right(dtype):
    """The vector of each row, by the stand-in's rule."""
    kind = {"float32": "<f4", "float16": "<f2"}[dtype]
    return [
        vector(text).astype(kind).astype(float).tolist() if text and "POISON" not in text else None
        for text in GIVEN
    ]


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_sees_the_table_as_it_is(python, run, reader):
    """Rows in order, columns, vectors to the last bit, nulls, keys, rejects and neighbours."""
    dtype, job = run
    if dtype not in TYPES[reader]:
        pytest.skip(f"{reader} knows no half precision")
    found = read(python, reader, job.out)
    assert found["type"] == TYPES[reader][dtype]
    for number, (row, text, wanted) in enumerate(
        zip(found["rows"], GIVEN, right(dtype), strict=True)
    ):
        assert row[:3] == [f"id-{number:06d}", text, number]
        assert row[3] == wanted
    assert found["filtered"] == ["id-000040", "id-000041"]
    keys = output(job.out)["embedding_key"].to_pylist()
    assert found["keys"] == [key and key.hex() for key in keys]
    assert found["keys"][0] == found["keys"][42], "equal texts have equal keys"
    told = [[r["row"], r["id"], r["reason"]] for r in rejects(job.out)]
    assert (
        found["rejects"] == told == [[40, "id-000040", "empty_text"], [41, "id-000041", "refused"]]
    )
    with pa.ipc.open_file((job.out / "similarity" / "top_k.arrow").read_bytes()) as file:
        near = file.read_all()["neighbors"].to_pylist()
    assert found["near"] == [row and [n["id"] for n in row] for row in near]
    assert found["near"][40] is None
    if reader == "duckdb":
        assert found["least"] == pytest.approx(1, abs=1e-5)
