"""What of a signal is compared, fixed from stable's past before any of it counts as evidence.

Belongs here: which bucket bounds, which strata, and their weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rolloutobs.analysis.evidence import Counts, Floats
from rolloutobs.analysis.policy import Policy, Signal

__all__ = ["Choice", "Index", "choose"]

Index = npt.NDArray[np.intp]

QUANTILES = (0.5, 0.05, 0.01)
"""Shares of slower requests at which promotion compares latency: p50, p95, p99."""


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """Channels, strata and weights. The rest is one more stratum, the last."""

    channels: Index
    """Channels of the frame that are compared, C of them."""
    pool: Floats
    """Weight of each channel in the pool, shape (C,); they sum to 1."""
    rows: Index
    """Rows that are judged on their own, busiest first; empty: only the pool is judged."""
    strata: Floats
    """Weight of each channel per row of `rows` and for the rest, shape (S + 1, C); each row sums to 1. Shape
    (0, C) where only the pool is judged."""
    promotion: Index
    """Positions in `channels` that promotion needs proof of."""


def choose(past: Counts, signal: Signal, policy: Policy) -> Choice:
    """Return what to compare, given what stable did before.

    Bounds: those that stable's past exceeds in 0.2 to 75 % of its requests, per stratum where it has enough
    of them; where none is in that range, the first one below it. Strata: the busiest 50.
    """
    exposures, events = past.stable, past.stable_events
    pool = _bounds(events.sum(axis=0), float(exposures.sum()), policy)
    order = np.argsort(-exposures, kind="stable")[: policy.strata_limit if signal.strata else 0]
    rows = order[exposures[order] > 0].astype(np.intp)
    masks = [
        _bounds(events[row], float(exposures[row]), policy)
        if exposures[row] >= policy.stratum_minimum
        else pool
        for row in rows
    ]
    stacked = np.array([*masks, pool]) if masks else np.zeros((0, len(pool)), dtype=bool)
    channels = np.flatnonzero(pool | stacked.any(axis=0))
    used = stacked[:, channels]
    return Choice(
        channels=channels,
        pool=pool[channels] / pool.sum(),
        rows=rows,
        strata=used / np.maximum(used.sum(axis=1, keepdims=True), 1),
        promotion=_promotion(events.sum(axis=0)[channels], float(exposures.sum()), pool[channels]),
    )


def _bounds(events: Floats, exposures: float, policy: Policy) -> npt.NDArray[np.bool_]:
    """Return which channels are compared; a count's only channel always is."""
    if len(events) == 1:
        return np.ones(1, dtype=bool)
    share = events / max(exposures, 1.0)
    inside: npt.NDArray[np.bool_] = (share >= policy.exceedance_low) & (share <= policy.exceedance_high)
    if not inside.any():
        # All faster than the lowest bound, or slower than all but the highest.
        below = np.flatnonzero(share <= policy.exceedance_high)
        inside[below[0] if len(below) else -1] = True
    return inside


def _promotion(events: Floats, exposures: float, pool: npt.NDArray[np.bool_]) -> Index:
    if len(events) == 1:
        return np.zeros(1, dtype=np.intp)
    share = np.maximum(events / max(exposures, 1.0), 1e-9)
    distance = np.abs(np.log(share[None, :]) - np.log(np.array(QUANTILES))[:, None])
    distance[:, ~pool] = np.inf
    return np.unique(distance.argmin(axis=1)).astype(np.intp)
