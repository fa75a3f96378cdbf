"""The files of a static model: where they are, what they say they are, whether they are that."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from batchembed.errors import DamagedError

EMBEDDED: Final = Path(__file__).parent / "default_model"
_HINT: Final = "reinstall batchembed"


def identity(folder: Path, dimensions: int | None) -> tuple[str, str, int]:
    """Return name, version and dimensions of the model in `folder`, without loading it.

    Raises ValueError if `dimensions` is not between 1 and the model's own; None: all of them.
    """
    about = _about(folder)
    own = int(about["dimensions"])
    wanted = own if dimensions is None else dimensions
    if not 1 <= wanted <= own:
        raise ValueError(f"`{about['name']}` has 1 to {own} dimensions, not `{dimensions}`")
    return about["name"], about["version"], wanted


def checked(folder: Path) -> None:
    """Raise DamagedError unless every file of the model is as it was made."""
    try:
        for name, wanted in _about(folder)["sha256"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != wanted:
                raise DamagedError(f"`{folder / name}` is not as it was made", hint=_HINT)
    except (OSError, KeyError) as error:
        raise _unreadable(folder, error) from error


def _about(folder: Path) -> dict[str, Any]:
    try:
        about: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from error
    return about


def _unreadable(folder: Path, error: Exception) -> DamagedError:
    return DamagedError(f"the model in `{folder}` cannot be read: {error}", hint=_HINT)
