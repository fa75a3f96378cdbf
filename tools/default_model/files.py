"""Quantise the trained vectors and write the model's files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from default_model.teacher import TEACHER, FloatArray

NAME = "batchembed-static-en-1"
VERSION = "1"
LICENCE = "Apache-2.0"
LARGEST = 127
ALLOWED = 9_000_000  # bytes, all files together


def quantise(tokens: FloatArray) -> tuple[npt.NDArray[np.int8], FloatArray]:
    """Return int8 rows (tokens, d) and float32 scales (tokens,) whose product is near `tokens`."""
    scales = np.abs(tokens).max(axis=1) / np.float32(LARGEST)
    safe = np.where(scales > 0, scales, 1)[:, None]
    return np.rint(tokens / safe).astype(np.int8), scales.astype(np.float32)


def write_files(folder: Path, tokens: FloatArray, tokenizer: Tokenizer, *, texts: int) -> None:
    """Write rows.npy, scales.npy, tokenizer.json and, last, model.json into `folder`.

    Raises SystemExit if the files together come to more than 9 MB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, scales = quantise(tokens)
    np.save(folder / "rows.npy", rows)
    np.save(folder / "scales.npy", scales)
    plain = json.loads(tokenizer.to_str())
    (folder / "tokenizer.json").write_text(
        json.dumps(plain, ensure_ascii=False, separators=(",", ":")), encoding="utf-8"
    )
    made = [folder / name for name in ("rows.npy", "scales.npy", "tokenizer.json")]
    about = {
        "name": NAME,
        "version": VERSION,
        "dimensions": tokens.shape[1],
        "tokens": tokens.shape[0],
        "language": "en",
        "teacher": f"{TEACHER} (Apache-2.0)",
        "texts": texts,
        "licence": LICENCE,
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made},
    }
    (folder / "model.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"files: {size:,} bytes in {folder}")
    if size > ALLOWED:
        raise SystemExit(f"the model takes `{size}` bytes\nhint: keep it under {ALLOWED}")
