"""Stable against its own past."""

from __future__ import annotations

import numpy as np
import pytest

from rolloutobs.analysis.evidence import Counts
from rolloutobs.analysis.past import StablePast
from rolloutobs.analysis.policy import Past


def both(k_c: int, n_c: int, k_s: int, n_s: int) -> Counts:
    return Counts(*(np.array(v, dtype=float) for v in ([[k_c]], [n_c], [[k_s]], [n_s])))


def stable_past(rng: np.random.Generator, seconds: int = 1800, scatter: float = 0.0) -> StablePast:
    past = StablePast(Past())
    for start in range(-seconds, 0, 15):
        if start % 300 == 0:
            rate = 0.005 * float(np.exp(rng.normal(0.0, scatter)))
        past.prehistory(start, start + 15, both(0, 0, int(rng.poisson(1500 * rate)), 1500))
    return past


def after(past: StablePast, rng: np.random.Generator, rate: float) -> float:
    for start in range(0, 300, 15):
        past.observe(start + 15, both(0, 100, int(rng.poisson(1500 * rate)), 1500))
    nats = past.nats()
    assert nats is not None
    return float(nats[0])


def test_the_same_rate_is_no_evidence_and_a_tenfold_one_is() -> None:
    rng = np.random.default_rng(1)
    assert after(stable_past(rng), rng, 0.005) < 0.0
    assert after(stable_past(rng), rng, 0.05) > np.log(20.0)


def test_a_past_that_scatters_needs_more() -> None:
    calm, wild = (stable_past(np.random.default_rng(2), scatter=s) for s in (0.0, 1.0))
    found = [after(past, np.random.default_rng(3), 0.03) for past in (calm, wild)]
    assert found[1] < 0.5 * found[0]


def test_short_history_is_not_compared() -> None:
    rng = np.random.default_rng(4)
    past = stable_past(rng, seconds=300)
    past.observe(15.0, both(0, 100, 500, 1500))
    assert past.seconds == 300.0
    assert past.nats() is None


def test_windows_and_the_absolute_limit() -> None:
    past = StablePast(Past(windows_seconds=(30.0, 60.0), limit_events=10))
    assert not past.beyond(0.05)
    for i in range(8):
        past.observe(15.0 * (i + 1), both(8 if i < 4 else 0, 100, i, 100))
        if i == 0:
            assert not past.beyond(0.05)  # 8 events are too few to speak of
        if i == 1:
            assert past.beyond(0.05)
    assert past.window(30.0).stable_events[0, 0] == 6 + 7
    assert past.window(60.0).canary[0] == 400.0
    assert not past.beyond(0.05)


@pytest.mark.parametrize("windows", [(60.0, 300.0), (300.0,)])
def test_sums_are_forgotten_with_the_longest_window(windows: tuple[float, ...]) -> None:
    past = StablePast(Past(windows_seconds=windows))
    for i in range(500):
        past.observe(15.0 * (i + 1), both(0, 10, 1, 100))
    assert len(past._sums) <= 300 / 15 + 1
    assert past.window(300.0).stable[0] == 2000.0
