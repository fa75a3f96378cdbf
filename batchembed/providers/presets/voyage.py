"""Voyage: many models, each with its own limits, and two that take images."""

from __future__ import annotations

from batchembed.exchange import Limits
from batchembed.providers.entries import Form, Model, ProviderInfo
from batchembed.providers.presets import opening

IMAGES = frozenset({"image", "prompt"})
MOST_BYTES = 8 << 20  # texts and images of a request, which are in memory at once
ROLES_OF_ITS_OWN = frozenset({"dimensions", "normalize", "base_url"})
_SIZES = (256, 512, 1024, 2048)


def _voyage_models() -> tuple[Model, ...]:
    table: tuple[tuple[str, tuple[int, ...], int, int], ...] = (
        ("voyage-4", _SIZES, 32_000, 320_000),
        ("voyage-4-large", _SIZES, 32_000, 120_000),
        ("voyage-4-lite", _SIZES, 32_000, 1_000_000),
        ("voyage-3.5", _SIZES, 32_000, 320_000),
        ("voyage-3.5-lite", _SIZES, 32_000, 1_000_000),
        ("voyage-3-large", _SIZES, 32_000, 120_000),
        ("voyage-code-3", _SIZES, 32_000, 120_000),
        ("voyage-finance-2", (), 32_000, 120_000),
        ("voyage-law-2", (), 16_000, 120_000),
    )
    known = (
        Model(
            name=name,
            dimensions=1024,
            sizes=sizes,
            tokens_per_text=context,
            tokens_per_request=most,
        )
        for name, sizes, context, most in table
    )
    multimodal = (
        Model(
            name=name,
            dimensions=1024,
            sizes=sizes,
            tokens_per_text=32_000,
            tokens_per_request=320_000,
            pieces=IMAGES,
            lane=False,
        )
        for name, sizes in (("voyage-multimodal-3", ()), ("voyage-multimodal-3.5", _SIZES))
    )
    return (*known, *multimodal, Model())


VOYAGE = ProviderInfo(
    name="voyage",
    title="Voyage AI",
    dialect=opening.voyage,
    model="voyage-4",
    models=_voyage_models(),
    base_url="https://api.voyageai.com/v1",
    takes=ROLES_OF_ITS_OWN,
    roles={"symmetric": None, "document": "document", "query": "query"},
    images=True,
    limits=Limits(texts_per_request=1000, tokens_per_request=120_000, bytes_per_request=MOST_BYTES),
    lane="12 h, a third off",
    jobs=opening.voyage_jobs,
    key_variable="VOYAGE_API_KEY",
    form=Form(
        dimensions="output_dimension",
        role="input_type",
        sends={"truncation": False, "encoding_format": "base64"},
    ),
    note="keys that begin with al- need base_url = https://ai.mongodb.com/v1",
)
