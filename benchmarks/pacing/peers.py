"""Other ways to meet a limit, written from their documented rules, as they run on virtual time.

The libraries themselves wait on the clock of the machine, so none of them can run here. Each is
what a careful user of it would write, and each retries what failed.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import Any

from benchmarks.pacing.servers import Answer


class Backoff:
    """stamina, tenacity: each request waits by itself, longer each time, with jitter.

    stamina's defaults: 0.1 s doubling up to 5 s, plus up to 1 s; here without a last attempt.
    """

    def __init__(self, rng: random.Random, open_at_once: int) -> None:
        self.rng, self.most, self.open = rng, open_at_once, 0
        self.tries: dict[int, int] = {}

    def ready(self, now: float) -> float:
        """Return now, while not too many are open."""
        return now if self.open < self.most else math.inf

    def start(self, now: float, worker: int, tokens: float) -> None:
        """Note a start."""
        del now, worker, tokens
        self.open += 1

    def settle(self, now: float, worker: int, permit: Any, answer: Answer, tokens: float) -> float:
        """Return how long this worker sleeps before it tries again."""
        del now, permit, tokens
        self.open -= 1
        if answer.kind == "accepted":
            self.tries.pop(worker, None)
            return 0.0
        tries = self.tries[worker] = self.tries.get(worker, 0) + 1
        wait = min(5.0, 0.1 * 2.0 ** (tries - 1)) + self.rng.random()
        return max(wait, answer.wait or 0.0)


class LeakyBucket(Backoff):
    """aiolimiter: a leaky bucket of `rate` requests in `period` seconds, empty at first.

    What is refused waits as with `Backoff`; the limiter does not hear of it.
    """

    def __init__(self, rng: random.Random, open_at_once: int, rate: float, period: float) -> None:
        super().__init__(rng, open_at_once)
        self.rate, self.period, self.level, self.at = rate, period, 0.0, 0.0

    def ready(self, now: float) -> float:
        """Return when the bucket has room for one more."""
        if self.open >= self.most:
            return math.inf
        leak = self.rate / self.period
        level = max(0.0, self.level - (now - self.at) * leak)
        return now + max(0.0, level + 1.0 - self.rate - 1e-9) / leak

    def start(self, now: float, worker: int, tokens: float) -> None:
        """Fill the bucket by one."""
        super().start(now, worker, tokens)
        leak = self.rate / self.period
        self.level = max(0.0, self.level - (now - self.at) * leak) + 1.0
        self.at = now


class Log(Backoff):
    """pyrate-limiter: at most `rate` starts in any `period` seconds, by a log of them."""

    def __init__(self, rng: random.Random, open_at_once: int, rate: float, period: float) -> None:
        super().__init__(rng, open_at_once)
        self.rate, self.period = rate, period
        self.starts: deque[float] = deque()

    def ready(self, now: float) -> float:
        """Return when the oldest start leaves the log, if it is full."""
        if self.open >= self.most:
            return math.inf
        while self.starts and self.starts[0] <= now - self.period:
            self.starts.popleft()
        return now if len(self.starts) < self.rate else self.starts[0] + self.period + 1e-6

    def start(self, now: float, worker: int, tokens: float) -> None:
        """Log a start."""
        super().start(now, worker, tokens)
        self.starts.append(now)


class Cookbook:
    """OpenAI's cookbook: a bucket of a minute, full at first; 15 s of pause after a 429."""

    def __init__(self, limit: float, share: float = 0.75) -> None:
        self.rate = limit * share
        self.full = self.level = 60.0 * self.rate
        self.at, self.paused = 0.0, 0.0

    def ready(self, now: float) -> float:
        """Return when the bucket holds one, and the pause is over."""
        level = min(self.full, self.level + (now - self.at) * self.rate)
        return max(now + max(0.0, 1.0 - level - 1e-9) / self.rate, self.paused)

    def start(self, now: float, worker: int, tokens: float) -> None:
        """Take one out; the script starts one at a time, a millisecond apart."""
        del worker, tokens
        self.level = min(self.full, self.level + (now - self.at) * self.rate) - 1.0
        self.at = now
        self.paused = max(self.paused, now + 0.001)

    def settle(self, now: float, worker: int, permit: Any, answer: Answer, tokens: float) -> float:
        """Pause for fifteen seconds after a 429."""
        del worker, permit, tokens
        if answer.kind == "throttled":
            self.paused = max(self.paused, now + 15.0)
        return 0.0


class Adaptive(Backoff):
    """AWS's adaptive mode: no limit until the first 429, then CUBIC; a retry waits with jitter.

    The rate is 0.7 of the measured one after a 429, then C (t - K)^3 + Wmax, at most twice what
    is measured; measured in half seconds, smoothed by 0.8; a bucket of one second of the rate.
    """

    BETA, SCALE, SMOOTH, SLOWEST = 0.7, 0.4, 0.8, 0.5

    def __init__(self, rng: random.Random, open_at_once: int) -> None:
        super().__init__(rng, open_at_once)
        self.rate, self.level, self.at = math.inf, 0.0, 0.0
        self.measured, self.slice, self.count = 0.0, 0.0, 0
        self.most_rate, self.throttled_at = 0.0, 0.0

    def ready(self, now: float) -> float:
        """Return when the bucket holds one."""
        if self.open >= self.most:
            return math.inf
        if self.rate == math.inf:
            return now
        return now + max(0.0, 1.0 - self._level(now) - 1e-9) / self.rate

    def start(self, now: float, worker: int, tokens: float) -> None:
        """Take one out."""
        super().start(now, worker, tokens)
        if self.rate < math.inf:
            self.level, self.at = self._level(now) - 1.0, now

    def settle(self, now: float, worker: int, permit: Any, answer: Answer, tokens: float) -> float:
        """Set the rate anew, by what came back."""
        self._measure(now)
        if answer.kind == "throttled":
            self.most_rate = (
                self.measured if self.rate == math.inf else min(self.rate, self.measured)
            )
            self.throttled_at = now
            rate = self.most_rate * self.BETA
        else:
            window = (self.most_rate * (1 - self.BETA) / self.SCALE) ** (1 / 3)
            rate = self.SCALE * (now - self.throttled_at - window) ** 3 + self.most_rate
        if answer.kind == "throttled" or self.rate < math.inf:
            level = self._level(now) if self.rate < math.inf else 0.0
            self.rate = max(self.SLOWEST, min(rate, 2.0 * self.measured))
            self.level, self.at = min(level, max(1.0, self.rate)), now
        wait = super().settle(now, worker, permit, answer, tokens)
        return min(20.0, wait)

    def _level(self, now: float) -> float:
        return min(max(1.0, self.rate), self.level + (now - self.at) * self.rate)

    def _measure(self, now: float) -> None:
        half = math.floor(now * 2) / 2
        self.count += 1
        if half > self.slice:
            rate = self.count / (half - self.slice)
            self.measured = self.SMOOTH * rate + (1 - self.SMOOTH) * self.measured
            self.count, self.slice = 0, half
