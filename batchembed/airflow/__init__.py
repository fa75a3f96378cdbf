"""What Airflow is offered: an operator, and what `airflow providers list` tells of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from batchembed.version import VERSION

if TYPE_CHECKING:
    from batchembed.airflow.operator import BatchEmbedOperator

__all__ = ["BatchEmbedOperator", "get_provider_info"]


def get_provider_info() -> dict[str, Any]:
    """Tell Airflow what this package brings.

    Airflow calls it while it reads its own settings, when none of it can be imported yet.
    """
    return {
        "package-name": "batchembed",
        "name": "batchembed",
        "description": "Batch embedding jobs: paced, checkpointed, resumable.",
        "versions": [VERSION],
    }


def __getattr__(name: str) -> object:
    """Import the operator when it is first used."""
    if name != "BatchEmbedOperator":
        raise AttributeError(f"module `batchembed.airflow` has no attribute `{name}`")
    return getattr(import_module("batchembed.airflow.operator"), name)
