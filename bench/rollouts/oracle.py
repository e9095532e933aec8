"""The yardsticks: a sequential test that knows both distributions, and two lower bounds on requests.

Only for worlds of one route, whose truth is two pairs of distributions.
"""

from __future__ import annotations

import math

import numpy as np

from bench.rollouts.course import Course, Floats, Totals, first
from bench.simulate import Route, World
from rolloutobs.analysis.policy import Policy
from rolloutobs.analysis.simulate import bucket_shares

__all__ = ["extra_rate", "known_bound", "oracle", "two_sample_bound"]


def _categories(route: Route, world: World) -> tuple[Floats, Floats]:
    """Return the probabilities of what differs, canary and stable: failed or not, or the latency buckets."""
    if route.canary_errors is not None:
        ours, theirs = route.canary_errors, route.errors
        return np.array([ours, 1.0 - ours]), np.array([theirs, 1.0 - theirs])
    if route.canary_latency is None:
        raise ValueError("nothing differs between the tracks of this world")
    return bucket_shares(route.canary_latency, world.bounds), bucket_shares(route.latency, world.bounds)


def oracle(totals: Totals, world: World, alpha: float) -> Course:
    """Wald's one-sided sequential test, told both distributions and when the fault begins; no warm-up."""
    (route,) = world.routes
    ours, theirs = _categories(route, world)
    logs = np.log(np.maximum(ours, 1e-12) / np.maximum(theirs, 1e-12))
    if route.canary_errors is not None:
        counts = np.stack([totals.canary_errors, totals.canary - totals.canary_errors], axis=1)
    else:
        counts = totals.canary_buckets
    gains = np.where(totals.ends > world.onset, counts @ logs, 0.0)
    return Course(rollback=first(totals, np.cumsum(gains) >= -math.log(alpha)))


def extra_rate(world: World) -> float:
    """Return the part of the canary's requests that fail, or (latency) take more than 250 ms, and would not
    on stable."""
    (route,) = world.routes
    ours, theirs = _categories(route, world)
    if route.canary_errors is not None:
        return float(ours[0] - theirs[0])
    slow = world.bounds.index(0.25) + 1
    return float(ours[slow:].sum() - theirs[slow:].sum())


def known_bound(world: World, alpha: float) -> float:
    """Return log(1/alpha)/KL: canary requests that any test needs on average although it knows stable.

    Source: Wald 1945; Chernoff 1959.
    """
    ours, theirs = _categories(world.routes[0], world)
    seen = ours > 1e-12
    return -math.log(alpha) / float(np.sum(ours[seen] * np.log(ours[seen] / theirs[seen])))


def two_sample_bound(world: World, policy: Policy) -> float:
    """Return the canary requests that a test of "worse than the tolerance" needs on average where stable is
    only seen, not known: of all canaries within the tolerance, the pair of rates that is hardest to tell from
    the truth. For latency at the best single bucket bound.

    Source: Agrawal and Ramdas, arXiv 2504.19952.
    """
    route = world.routes[0]
    ours, theirs = _categories(route, world)
    per_canary = (1.0 - world.share) / world.share
    name = "errors" if route.canary_errors is not None else "latency"
    signal = policy.signal(name)
    if route.canary_errors is not None:
        pairs = [(ours[0], theirs[0])]
    else:
        pairs = [(ours[i:].sum(), theirs[i:].sum()) for i in range(1, len(ours))]
    rate = max(
        _hardest(float(p), float(q), (signal.tolerance_ratio, signal.tolerance_difference), per_canary)
        for p, q in pairs
    )
    return -math.log(policy.alpha) / rate if rate > 0 else math.inf


def _hardest(p_c: float, p_s: float, tolerance: tuple[float, float], per_canary: float) -> float:
    """Return the least nats per canary request over all stable rates q with the canary's at the tolerance."""
    ratio, difference = tolerance
    if p_c <= ratio * p_s + difference:
        return 0.0
    q = np.linspace(p_s, min(p_c, 1.0 - 1e-9), 20_001)
    at = np.minimum(ratio * q + difference, p_c)
    return float((_kl(p_c, at) + per_canary * _kl(p_s, q)).min())


def _kl(p: float, q: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        first = p * np.log(p / q) if p > 0 else 0.0 * q
        return np.asarray(first + ((1 - p) * np.log((1 - p) / (1 - q)) if p < 1 else 0.0))
