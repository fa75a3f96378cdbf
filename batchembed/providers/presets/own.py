"""Models on this machine, and Aleph Alpha, whose limits depend on the call that is used."""

from __future__ import annotations

from collections.abc import Iterable

from batchembed.exchange import Limits, Role
from batchembed.providers.aleph_alpha import endpoints
from batchembed.providers.entries import Model, ProviderInfo, Roles
from batchembed.providers.presets import opening
from batchembed.spec import Spec

STATIC_MODEL = "batchembed-static-en-1"
STATIC_DIMENSIONS = 256
ONE_SPACE: Roles = {"symmetric": None, "document": None, "query": None}


def _local_limits(spec: Spec) -> Limits:
    from batchembed.providers import local

    return local.LIMITS if spec.name == STATIC_MODEL else local.TORCH_LIMITS


def _aleph_alpha_limits(spec: Spec) -> Limits:
    from batchembed.providers.aleph_alpha import dialect

    return dialect.limits(spec)


def _aleph_alpha_wishes(
    spec: Spec,
    roles: Iterable[Role],
    controls: bool,  # noqa: FBT001 - as ProviderInfo has it
    pieces: Iterable[str],
) -> None:
    endpoints.check_wishes(spec, roles=roles, controls=controls, pieces=pieces)


LOCAL = ProviderInfo(
    name="local",
    title="the embedded model, on this machine",
    dialect=None,
    model=STATIC_MODEL,
    models=(
        Model(
            name=STATIC_MODEL,
            dimensions=STATIC_DIMENSIONS,
            sizes=range(1, STATIC_DIMENSIONS + 1),
            roles=ONE_SPACE,
            takes=frozenset({"dimensions"}),
            controls=True,
        ),
        Model(),
    ),
    bounds=_local_limits,
    key_needed=False,
    note="English; no key, no network; another name loads it with sentence-transformers",
)

ALEPH_ALPHA = ProviderInfo(
    name="aleph-alpha",
    title="Aleph Alpha, for texts, images and token ids",
    dialect=opening.aleph_alpha,
    model="luminous-base",
    models=(
        Model(name="luminous-base", dimensions=5120, tokens_per_text=2048),
        Model(name="pharia-1-embedding-4608-control", dimensions=4608, tokens_per_text=2048),
        Model(),
    ),
    base_url="https://api.aleph-alpha.com",
    takes=frozenset(
        {
            *("dimensions", "normalize", "base_url", "endpoint", "instruction", "instructions"),
            *("layers", "pooling", "contextual_control_threshold", "control_log_additive"),
        }
    ),
    roles={"symmetric": "symmetric", "document": "document", "query": "query"},
    controls=True,
    images=True,
    bounds=_aleph_alpha_limits,
    check=endpoints.check,
    wishes=_aleph_alpha_wishes,
    key_variable="AA_TOKEN",
    own_host_only=False,
    note="128 dimensions or the model's own; layers, instructions; base_url for own hosts",
)
