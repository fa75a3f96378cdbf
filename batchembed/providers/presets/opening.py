"""How a provider's dialect is opened; what a dialect needs is loaded here and not before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchembed.exchange import Dialect
from batchembed.providers.access import Access
from batchembed.providers.entries import ProviderInfo
from batchembed.spec import Spec

if TYPE_CHECKING:
    from batchembed.providers.batches import Jobs


def openai(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:  # noqa: ARG001 - an Opener
    """Return OpenAI's form, with the host's own differences."""
    from batchembed.providers.openai import OpenAI

    return OpenAI(spec, about.limits_of(spec), about.model_of(spec.name), about.form)


def aleph_alpha(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:
    """Return Aleph Alpha's form."""
    from batchembed.providers.aleph_alpha.dialect import AlephAlpha

    return AlephAlpha(
        spec,
        about.limits_of(spec),
        nice=access.nice,
        hosting=access.hosting,
        tags=access.tags,
        tokenizer=access.tokenizer,
    )


def cohere(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:  # noqa: ARG001 - an Opener
    """Return Cohere's form, version 2."""
    from batchembed.providers.cohere import Cohere

    return Cohere(spec, about.limits_of(spec), about.model_of(spec.name))


def voyage(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:
    """Return OpenAI's form, or that of the multimodal route for models that have one."""
    from batchembed.providers.voyage import MULTIMODAL, Multimodal

    if spec.name.startswith(MULTIMODAL):
        return Multimodal(spec, about.limits_of(spec), about.model_of(spec.name))
    return openai(about, spec, access)


def gemini(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:  # noqa: ARG001 - an Opener
    """Return Gemini's form."""
    from batchembed.providers.gemini import Gemini

    return Gemini(spec, about.limits_of(spec), about.model_of(spec.name))


def described(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:  # noqa: ARG001 - an Opener
    """Return the form that the job describes."""
    from batchembed.providers.described import Http

    assert spec.http is not None  # see its `check`
    return Http(spec, about.limits_of(spec), spec.http)


def tei(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:  # noqa: ARG001 - an Opener
    """Return the native form of text-embeddings-inference."""
    from batchembed.providers.tei import Tei

    return Tei(spec, about.limits_of(spec))


def ollama(about: ProviderInfo, spec: Spec, access: Access) -> Dialect:  # noqa: ARG001 - an Opener
    """Return Ollama's native form."""
    from batchembed.providers.ollama import Ollama

    return Ollama(spec, about.limits_of(spec))


def openai_jobs() -> Jobs:
    """Return the form of OpenAI's batch lane."""
    from batchembed.providers import batches

    return batches.OPENAI


def voyage_jobs() -> Jobs:
    """Return the form of Voyage's batch lane."""
    from batchembed.providers import batches

    return batches.VOYAGE


def mistral_jobs() -> Jobs:
    """Return the form of Mistral's batch lane."""
    from batchembed.providers.mistral_jobs import MistralJobs

    return MistralJobs()
