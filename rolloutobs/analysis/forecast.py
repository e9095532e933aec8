"""How much more traffic promotion needs, if things stay as they look.

Belongs here: the expected growth of evidence, and when it reaches a threshold. A forecast decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rolloutobs.analysis.evidence import Clip, Floats, Null, log_mean_exp

__all__ = ["Forecast", "Prospect", "forecast"]

_SHARES = np.concatenate([np.geomspace(0.001, 0.2, 24), np.linspace(0.25, 0.9, 14)])
_FOREVER = 30 * 86400.0
"""Beyond a month it is the same as never."""


@dataclass(frozen=True, slots=True, eq=False)
class Prospect:
    """Where the proof of one channel stands."""

    log: Floats
    """Log wealth per alternative, (G,)."""
    null: Null
    threshold: float
    clip: Clip
    canary_rate: float
    """Events per exposure that the canary is expected to show; `stable_rate` likewise."""
    stable_rate: float
    phi: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is missing; ``None`` where it cannot be reached."""

    exposures: float | None
    eta_seconds: float | None
    share: float | None
    """The smallest share of the traffic that meets the deadline."""


def forecast(prospect: Prospect, per_second: float, share: float, remaining_seconds: float) -> Forecast:
    """Return what `prospect` still needs.

    Args:
        prospect: where the proof stands.
        per_second: exposures of both tracks together.
        share: the canary's share of them, 0 to 1.
        remaining_seconds: until the deadline; at most 0 when it has passed.
    """
    if per_second <= 0:
        return Forecast(None, None, None)
    eta = float(_seconds(prospect, per_second, np.array([share]))[0]) if share > 0 else np.inf
    shares = _SHARES[np.greater(_SHARES, share)]
    in_time = shares[_seconds(prospect, per_second, shares) <= remaining_seconds]
    return Forecast(
        exposures=eta * per_second * share if eta < _FOREVER else None,
        eta_seconds=eta if eta < _FOREVER else None,
        share=float(in_time[0]) if len(in_time) else None,
    )


def _seconds(prospect: Prospect, per_second: float, shares: Floats) -> Floats:
    """Return the seconds to the threshold at each share, inf where it is not reached."""
    growth = _growth(prospect, shares) * (per_second * shares)[:, None]
    low, high = np.zeros(len(shares)), np.full(len(shares), _FOREVER)
    reached = _reaches(prospect, growth, high)
    for _ in range(40):
        middle = 0.5 * (low + high)
        there = _reaches(prospect, growth, middle)
        low, high = np.where(there, low, middle), np.where(there, middle, high)
    return np.where(reached, high, np.inf)


def _reaches(prospect: Prospect, growth: Floats, seconds: Floats) -> Floats:
    most = (prospect.clip.nats + prospect.clip.refill * seconds)[:, None]
    logs = prospect.log + np.minimum(growth * seconds[:, None], most)
    return np.asarray(log_mean_exp(logs) >= prospect.threshold)


def _growth(prospect: Prospect, shares: Floats) -> Floats:
    """Return the expected nats per canary exposure, (shares, G): the mean of formula (1) of
    docs/verdict.md."""
    null, stable = prospect.null, ((1.0 - shares) / shares)[:, None]
    b = (null.ratio + stable) / (null.grid + stable)
    a = b * null.grid / null.ratio
    nats = prospect.canary_rate * np.log(a) + prospect.stable_rate * stable * np.log(b)
    return np.asarray((nats - null.difference * (a - 1.0)) / prospect.phi)
