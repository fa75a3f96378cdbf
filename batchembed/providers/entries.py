"""What is known of a provider: how it is reached, what it can do, and how its API differs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from batchembed.exchange import Dialect, Limits, Role
from batchembed.providers.access import Access
from batchembed.spec import Spec

if TYPE_CHECKING:
    from batchembed.providers.batches import Jobs

Roles: TypeAlias = Mapping[Role, str | None]
"""What a provider calls each role; None where it has the role and needs no word for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What is known of the models whose names begin with `name`; "" stands for all others.

    `dimensions` is the length of their vectors and `sizes` the other lengths that may be asked
    for; None where only the server knows. `prefixes` are the words by which they are told a role.
    `roles`, `takes` and `controls` are as in ProviderInfo, and take its place where given.
    `pieces` are the settings of [corpus] by which it embeds more than texts. `lane`: the batch
    lane takes it.
    """

    name: str = ""
    dimensions: int | None = None
    sizes: Collection[int] | None = None
    tokens_per_text: int | None = None
    tokens_per_request: int | None = None
    prefixes: Mapping[Role, str] = field(default_factory=dict)
    roles: Roles | None = None
    takes: frozenset[str] | None = None
    controls: bool | None = None
    pieces: frozenset[str] = frozenset()
    lane: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one host's `/embeddings` differs from OpenAI's.

    `path` may hold `{model}`. `dimensions`, `role` and `normalize` are the names of the fields by
    which these are asked for, "" where there is none; `sends` goes out with every request.
    `report` is what the server can be asked about itself: see `reports`.
    """

    path: str = "embeddings"
    query: Mapping[str, str] = field(default_factory=dict)
    dimensions: str = "dimensions"
    role: str = ""
    normalize: str = ""
    sends: Mapping[str, Any] = field(default_factory=lambda: {"encoding_format": "base64"})
    report: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderInfo:
    """One provider: how it is reached, what it can do, and what `batchembed providers` tells.

    `model` is used when a job names none; "" when it must. `base_url` is the provider's own
    address, None where the job must say it. `takes` are the settings of [model] that it honours.
    The key of `key_variable` goes into `key_header`; to no host but the provider's own when
    `own_host_only`, unless the job names it; without it nothing can be had when `key_needed`.
    `elsewhere` are the limits at another address than its own, `bounds` finds them out where they
    depend on more than the model. `check` raises JobError for what no table can say, and `wishes`
    (spec, roles, controls, pieces of prompts) takes the place of what is said by tables.
    `dialect` opens its wire form; None for models on this machine. `lane` names its batch API,
    and `jobs` opens the form of that.
    `cuts`: it may cut long texts without a word, and no request can say that it must not.
    """

    name: str
    title: str
    dialect: Opener | None
    model: str = ""
    models: Sequence[Model] = (Model(),)
    base_url: str | None = None
    takes: frozenset[str] = frozenset({"dimensions", "normalize", "prefixes"})
    roles: Roles = field(default_factory=dict)
    controls: bool = False
    images: bool = False
    lane: str = ""
    jobs: Callable[[], Jobs] | None = None
    cuts: bool = False
    limits: Limits = field(default_factory=Limits)
    elsewhere: Limits | None = None
    bounds: Callable[[Spec], Limits] | None = None
    key_variable: str | None = None
    key_header: str = "Authorization"
    key_needed: bool = True
    own_host_only: bool = True
    form: Form = field(default_factory=Form)
    check: Callable[[Spec], None] | None = None
    wishes: Callable[[Spec, Iterable[Role], bool, Iterable[str]], None] | None = None
    note: str = ""

    def model_of(self, name: str) -> Model:
        """Return what is known of the model `name`, whatever stands for the provider filled in."""
        fitting = [model for model in self.models if name.startswith(model.name)]
        found = max(fitting, key=lambda model: len(model.name), default=Model())
        return replace(
            found,
            roles=self.roles if found.roles is None else found.roles,
            takes=self.takes if found.takes is None else found.takes,
            controls=self.controls if found.controls is None else found.controls,
        )

    def limits_of(self, spec: Spec) -> Limits:
        """Return what one request may hold, as far as it is known beforehand."""
        if self.bounds is not None:
            return self.bounds(spec)
        if self.elsewhere is not None and spec.base_url not in (None, self.base_url):
            return self.elsewhere
        model, own = self.model_of(spec.name), self.limits
        return replace(
            own,
            tokens_per_text=model.tokens_per_text or own.tokens_per_text,
            tokens_per_request=model.tokens_per_request or own.tokens_per_request,
        )


Opener: TypeAlias = Callable[[ProviderInfo, Spec, Access], Dialect]
"""Makes the dialect of a provider for a checked spec."""
