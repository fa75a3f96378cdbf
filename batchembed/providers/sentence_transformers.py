"""Models of the sentence-transformers library, from a folder or by name; nothing is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from batchembed.errors import JobError, MissingExtraError
from batchembed.exchange import Request, Response, TooLarge
from batchembed.providers.local import TORCH_LIMITS, LocalProvider
from batchembed.spec import Spec

TOO_LONG = "too_long"
DEVICES = ("auto", "cpu", "cuda")


def open_model(spec: Spec, *, device: str = "auto") -> LocalProvider:
    """Return the model that `spec` names as a provider.

    Raises MissingExtraError without the library, JobError for a model or device it cannot load.
    """
    if device not in DEVICES:
        raise JobError(f"device `{device}` is not known", hint="known are: " + ", ".join(DEVICES))
    model = _load(spec, None if device == "auto" else device)
    encoder = Encoder(spec, model)
    return LocalProvider(encoder.encode, TORCH_LIMITS)


class Encoder:
    """Embeds requests with one loaded model; texts longer than it can read are left out."""

    def __init__(self, spec: Spec, model: Any) -> None:
        self._spec = spec
        self._model = model
        self._prefixes = dict(spec.prefixes)
        self._version = f"{spec.name} ({type(model).__module__.partition('.')[0]})"

    def encode(self, request: Request) -> Response | TooLarge:
        """Return the vectors of `request`, shape (n, d); too long texts are named, not cut.

        One alone is said to be so where the job wants anything else for it than a reject.
        """
        prefix = self._prefixes.get(request.role, "")
        texts = [prefix + text for text in request.texts]
        lengths = self._lengths(texts)
        longest = self._model.max_seq_length
        unusable = {i: TOO_LONG for i, n in enumerate(lengths) if longest and n > longest}
        if longest and unusable and len(texts) == 1 and self._spec.on_long_text != "reject":
            reason = f"the model reads {longest:,} tokens, and the text has {lengths[0]:,}"
            return TooLarge(reason, share=longest / lengths[0])
        kept = [i for i in range(len(texts)) if i not in unusable]
        vectors = np.zeros((len(texts), self._dimensions()), dtype=np.float32)
        if kept:
            found = self._model.encode(
                [texts[i] for i in kept],
                batch_size=32,
                convert_to_numpy=True,
                normalize_embeddings=self._spec.normalize,
                show_progress_bar=False,
            )
            vectors[kept] = np.asarray(found, dtype=np.float32)
        tokens = sum(lengths[i] for i in kept)
        return Response(vectors, tokens, self._version, unusable=unusable, proven=True)

    def _dimensions(self) -> int:
        if self._spec.dimensions:
            return self._spec.dimensions
        now = getattr(self._model, "get_embedding_dimension", None)  # its name since 6.0
        return int((now or self._model.get_sentence_embedding_dimension)())

    def _lengths(self, texts: list[str]) -> list[int]:
        """Return how many tokens each text has, special ones included, with none cut off."""
        found = self._model.tokenizer(texts, truncation=False, padding=False, verbose=False)
        return [len(ids) for ids in found["input_ids"]]


def _load(spec: Spec, device: str | None) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise MissingExtraError(
            f"the model `{spec.name}` needs sentence-transformers",
            hint="pip install 'batchembed[sentence-transformers]'",
        ) from error
    try:
        return SentenceTransformer(
            str(Path(spec.name)), device=device, truncate_dim=spec.dimensions
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise JobError(
            f"the model `{spec.name}` cannot be loaded: {' '.join(str(error).split())[:200]}",
            hint="name a folder that holds a model, or a model of the Hugging Face hub",
        ) from error
