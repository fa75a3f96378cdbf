"""The knee of a server that computes: what its batches take is measured, and the search simulated.

A whole measurement of a real run's search is `python -m benchmarks pacing-knee`; what stands in
the way of one here is that speed on a busy machine proves nothing.
"""

import random
from statistics import mean

import numpy as np
import pytest

from batchembed.pacing import Rates
from benchmarks.pacing import encoder, knee
from benchmarks.pacing.ours import Ours
from benchmarks.pacing.servers import Server
from benchmarks.pacing.world import run

SEEDS = (11, 12, 13)
FIXED = (1, 2, 4, 8, 12, 16, 20, 24, 32, 48, 64)
SECONDS = 600


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """The seconds that batches of 1, 2, … texts take at `benchmarks/pacing/encoder.py`."""
    folder = tmp_path_factory.mktemp("knee")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
            patch.setenv(name, "1")
        with knee.server() as url:
            rows = {1: 60, 3: 120, 8: 240, 16: 480, 24: 480}
            found = [knee.run(url, folder, number, count) for number, count in rows.items()]
    took: dict[int, float] = {}
    for size, seconds in (told for one in found for told in one.batches):
        took[size] = min(seconds, took.get(size, seconds))  # others on the machine only add to it
    sizes = sorted(took)
    assert (sizes[0], sizes[-1]) == (1, encoder.BATCH)
    least = np.minimum.accumulate([took[size] for size in sizes][::-1])[::-1]
    whole = np.arange(1, encoder.BATCH + 1)
    curve = np.interp(whole, sizes, least).tolist()
    print("milliseconds of a batch:", [round(1000 * one, 1) for one in curve])
    return curve


def at(batch, rates, seed):
    """Answers a second and their mean latency, after a third of the time, with such limits."""
    seen = run(Ours(rates, random.Random(seed)), Server(batch=batch), seconds=SECONDS, seed=seed)
    begin = SECONDS // 3
    lately = seen.latencies[int(sum(seen.accepted[:begin])) :]
    return sum(seen.accepted[begin:]) / (SECONDS - begin), mean(lately)


@pytest.mark.slow
def test_on_the_curve_of_a_real_server(batch):
    """95 % of what the best fixed number brings, at most 1.5 times the latency there."""
    fixed = {n: at(batch, Rates(concurrency=n, fixed=True), SEEDS[0]) for n in FIXED}
    most = max(rate for rate, _ in fixed.values())
    number = min(n for n, (rate, _) in fixed.items() if rate >= knee.NEAR * most)
    best, latency = fixed[number]
    auto = [at(batch, Rates(concurrency=256, unpaced=64), seed) for seed in SEEDS]
    share, times = mean(one[0] for one in auto) / best, mean(one[1] for one in auto) / latency
    print(f"best {number}: {best:.1f}/s, {latency:.3f} s; auto {share:.1%}, {times:.2f} times")
    assert share >= knee.LEAST
    assert times <= knee.SLOWEST
    assert times < fixed[64][1] / latency, "the control: whoever opens 64 and stays waits longer"
