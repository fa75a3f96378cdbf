"""torch's product in bfloat16 on a device of its own, such as a GPU.

Vectors stay in the host's memory; the tiles of two panels are on the device at a time, and only
what passes the floors comes back. So the number of rows is bound by the host. Adding up is in
float32, as on the processor; the bound of `bfloat16` holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from batchembed.errors import MissingExtraError, UsageError
from batchembed.similarity.bfloat16 import Bfloat16
from batchembed.similarity.products import TINY, Block, Floats, Positions

# Larger blocks than the processor's: starting one costs a device more than making it.
DEVICE_TILE = 8192


class DeviceBlock:
    """Scores in bfloat16 on a device."""

    def __init__(self, scores: Any) -> None:
        self._scores = scores

    def floats(self) -> Floats:
        """Return the scores as float32 on the host."""
        scores: Floats = self._scores.float().cpu().numpy()
        return scores

    def above(self, rows: Floats, columns: Floats | None) -> tuple[Positions, Floats]:
        """Return (flat places, scores) of all above their row's or column's floor."""
        scores = self._scores.float()
        passed = scores > _on(scores, rows)[:, None]
        if columns is not None:
            passed |= scores > _on(scores, columns)
        flat = passed.flatten().nonzero().flatten()
        return flat.cpu().numpy(), scores.flatten()[flat].cpu().numpy()


def _on(scores: Any, floors: Floats) -> Any:
    return scores.new_tensor(floors)


class OnDevice:
    """torch's product in bfloat16 on `device`, as torch names it. Raises UsageError without it."""

    relative = Bfloat16.relative

    def __init__(self, device: str) -> None:
        if find_spec("torch") is None:
            raise MissingExtraError(
                f"comparing on `{device}` needs torch, which is not installed",
                hint="pip install 'batchembed[torch]'",
            )
        self._host = Bfloat16()
        import torch

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise UsageError(
                f"torch finds no `{device}` here", hint="leave --device out, or install its drivers"
            )
        self.name, self._device = f"bfloat16 on {device}", torch.device(device)

    def slack(self, dimensions: int) -> float:
        """Return how far adding up may move a score from the written one, at length 1."""
        return self._host.slack(dimensions)

    def operand(self, unit: Floats) -> Any:
        """Return the vectors in bfloat16 on the device."""
        return self._host.operand(unit).to(self._device)

    def rounding(self, unit: Floats, operand: Any) -> float:
        """Return how far a vector was moved, at most, as a part of its length."""
        return self._host.rounding(unit, operand.cpu()) + TINY

    def stripes(self, left: Any, right: Any, height: int) -> Iterator[tuple[int, Block]]:
        """Yield (first row, scores) of a block."""
        for start in range(0, len(left), height):
            yield start, DeviceBlock(left[start : start + height] @ right.t())

    def begin(self, threads: int = 1) -> None:
        """Keep torch to so many threads of the processor in this one."""
        self._host.begin(threads)

    def threads(self) -> int:
        """Return how many threads of the processor torch uses in this one."""
        return self._host.threads()
