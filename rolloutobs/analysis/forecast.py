"""How much more traffic promotion needs, if things stay as they look.

Belongs here: the expected growth of evidence, and when it reaches a threshold. A forecast decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rolloutobs.analysis.evidence import Clip, Floats, Null, mean_reaches

__all__ = ["Forecast", "Horizon", "Prospect", "forecast", "horizon"]

_SHARES = np.concatenate([np.geomspace(0.002, 0.2, 13), np.linspace(0.25, 0.9, 14)])
_FOREVER = 30 * 86400.0
"""Beyond a month it is the same as never."""


@dataclass(frozen=True, slots=True, eq=False)
class Prospect:
    """Where the proof of one signal stands; all of its P channels must get there."""

    log: Floats
    """Log wealth per channel and alternative, (P, G)."""
    null: Null
    threshold: float
    clip: Clip
    canary_rates: Floats
    """Events per exposure that the canary is expected to show, (P,); `stable_rates` likewise."""
    stable_rates: Floats
    phi: Floats
    """Design effects, (P,)."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is missing; ``None`` where it cannot be reached."""

    exposures: float | None
    eta_seconds: float | None
    share: float | None
    """The smallest share of the traffic that meets the deadline."""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far a forecast looks."""

    seconds: float
    again: bool
    """The deadline has (nearly) passed, and the forecast looks as far again."""


def horizon(deadline_seconds: float, at: float) -> Horizon:
    """Return how far to look at `at` seconds: a hold at the deadline should say, too, what would decide."""
    remaining = deadline_seconds - at
    again = remaining <= 0.1 * deadline_seconds
    return Horizon(deadline_seconds if again else remaining, again)


def forecast(prospect: Prospect, per_second: float, share: float, remaining_seconds: float) -> Forecast:
    """Return what `prospect` still needs.

    Args:
        prospect: where the proof stands; the slowest of its channels counts.
        per_second: exposures of both tracks together.
        share: the canary's share of them, 0 to 1.
        remaining_seconds: how soon it should be reached by a larger share.
    """
    if per_second <= 0:
        return Forecast(None, None, None)
    eta = _seconds(prospect, per_second, share) if share > 0 else np.inf
    shares = _SHARES[np.greater(_SHARES, share)]
    growth = _growth(prospect, shares) * (per_second * shares)[:, None, None]
    in_time = shares[_reaches(prospect, growth, np.full(len(shares), remaining_seconds))]
    return Forecast(
        exposures=eta * per_second * share if eta < _FOREVER else None,
        eta_seconds=eta if eta < _FOREVER else None,
        share=float(in_time[0]) if len(in_time) else None,
    )


def _seconds(prospect: Prospect, per_second: float, share: float) -> float:
    """Return the seconds to the threshold, inf where it is not reached."""
    growth = _growth(prospect, np.array([share])) * (per_second * share)
    # Bisection on a logarithmic scale: 20 steps from a second to a month leave an error below 0.01 %.
    low, high = 0.0, float(np.log(_FOREVER))
    if not _reaches(prospect, growth, np.array([_FOREVER]))[0]:
        return np.inf
    for _ in range(20):
        middle = 0.5 * (low + high)
        there = bool(_reaches(prospect, growth, np.array([np.exp(middle)]))[0])
        low, high = (low, middle) if there else (middle, high)
    return float(np.exp(high))


def _reaches(prospect: Prospect, growth: Floats, seconds: Floats) -> Floats:
    """Tell at which shares every channel is proven after `seconds`."""
    elapsed = seconds[:, None, None]
    most = prospect.clip.nats + prospect.clip.refill * elapsed
    logs = prospect.log + np.minimum(growth * elapsed, most)
    return np.asarray(np.all(mean_reaches(logs, prospect.threshold), axis=1))


def _growth(prospect: Prospect, shares: Floats) -> Floats:
    """Return the expected nats per canary exposure, (shares, P, G): the mean of formula (1) of
    docs/verdict.md."""
    null, stable = prospect.null, ((1.0 - shares) / shares)[:, None, None]
    canary_rates, stable_rates, phi = (
        each[:, None] for each in (prospect.canary_rates, prospect.stable_rates, prospect.phi)
    )
    b = (null.ratio + stable) / (null.grid + stable)
    a = b * null.grid / null.ratio
    nats = canary_rates * np.log(a) + stable_rates * stable * np.log(b)
    return np.asarray((nats - null.difference * (a - 1.0)) / phi)
