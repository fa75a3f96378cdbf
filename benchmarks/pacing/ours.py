"""Our pacer as a scheme: the step that runs of jobs use, unchanged."""

from __future__ import annotations

import random

import numpy as np

from batchembed.exchange import Response, Throttled, Told, Unavailable
from batchembed.pacing.state import Permit, Rates
from batchembed.pacing.step import admit, begin, learn, ready
from benchmarks.pacing.servers import Answer

NO_VECTORS = np.zeros((0, 1), np.float32)


class Ours:
    """The pacer's pure step."""

    def __init__(self, rates: Rates, rng: random.Random) -> None:
        self.rates, self.rng = rates, rng
        self.state = begin(rates, 0.0)

    def ready(self, now: float) -> float:
        """Return when a request may start."""
        return ready(self.state, now)

    def start(self, now: float, worker: int, tokens: float) -> Permit:
        """Note a start."""
        del worker
        self.state, permit = admit(self.state, tokens, 1, now)
        return permit

    def settle(
        self, now: float, worker: int, permit: Permit, answer: Answer, tokens: float
    ) -> float:
        """Note an answer."""
        del worker
        outcome: Response | Throttled | Unavailable
        told = None
        if answer.told is not None:
            limit, left, reset = answer.told
            told = Told(requests_per_minute=limit, requests_left=left, requests_reset=reset)
        if answer.kind == "accepted":
            outcome = Response(NO_VECTORS, round(tokens), told=told)
        elif answer.kind == "throttled":
            outcome = Throttled("429", answer.wait, told)
        else:
            outcome = Unavailable("503", answer.wait)
        draw = self.rng.random()
        self.state = learn(self.state, self.rates, permit, outcome, now=now, draw=draw)
        return 0.0
