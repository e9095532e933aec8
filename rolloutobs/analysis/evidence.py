"""The arithmetic of the verdict: e-values, their wealth over time, the design effect.

Belongs here: pure functions and small states over numpy arrays, vectorised over strata (R), channels (C: one
for counts, the bucket bounds for latency) and alternatives (G). Does not belong here: signals, time,
decisions.

Everything is in log space and natural units (nats).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = [
    "Clip",
    "Counts",
    "DesignEffect",
    "Floats",
    "Null",
    "Wealth",
    "fewer_than",
    "growth_weights",
    "log_e",
    "log_e_split",
    "log_e_sum",
    "log_mean_exp",
    "log_mix",
    "mean_reaches",
    "more_than",
    "not_fewer_than",
    "not_more_than",
]

Floats = npt.NDArray[np.float64]

# Grids: 14 ratios from 1.1 to 32 times the boundary against the canary, 12 from .95 down to .1 for it.
# Source: docs/verdict.md, "the grids"; a coarser or finer one moves decisions by less than a tick.
_AGAINST = np.exp(np.linspace(np.log(1.1), np.log(32.0), 14))
_FOR = np.concatenate([np.exp(np.linspace(np.log(0.95), np.log(0.25), 10)), [0.16, 0.1]])


@dataclass(frozen=True, slots=True, eq=False)
class Null:
    """A claim about the canary's rate, to be refuted: it is on the other side of ``ratio * stable +
    difference``.

    The alternatives in `grid` are ratios canary / stable; all above `ratio` refute "at most", all below "at
    least".
    """

    ratio: float
    difference: float
    grid: Floats


def more_than(ratio: float, difference: float) -> Null:
    """Return the null "at most": evidence grows when the canary's rate is higher."""
    return Null(ratio, difference, ratio * _AGAINST)


def not_more_than(ratio: float, difference: float) -> Null:
    """Return the null "at least": evidence grows when the canary's rate is below this margin."""
    return Null(ratio, difference, ratio * _FOR)


def fewer_than(ratio: float, difference: float) -> Null:
    """Return the null "at least stable's rate / `ratio` - `difference`": evidence grows when the rate is
    lower."""
    return Null(1.0 / ratio, -difference, 1.0 / (ratio * _AGAINST))


def not_fewer_than(ratio: float, difference: float) -> Null:
    """Return the null "at most stable's rate / `ratio` - `difference`": evidence grows when the rate is
    higher."""
    return Null(1.0 / ratio, -difference, 1.0 / (ratio * _FOR))


def growth_weights(null: Null, rates: Floats) -> Floats:
    """Return weights of the alternatives, (C, G), by which evidence grows fast if the canary is like stable.

    Seven tenths lie around the alternative of the fastest growth, which for a small share of the traffic is
    ``1 / (1 + difference / (ratio * rate))``: there the derivative of the mean of formula (1) is 0. The rest
    is even, for canaries that are better or somewhat worse. Any weights are honest that are fixed before.

    Args:
        null: what is to be refuted.
        rates: stable's events per exposure in the past, (C,).

    Source: docs/verdict.md, "the grids"; Gruenwald, de Heide and Koolen (arXiv 1906.07801).
    """
    logs = np.log(null.grid)
    slack = 1.0 + null.difference / (null.ratio * np.maximum(rates, 1e-9))
    best = -np.log(np.maximum(slack, 1e-9))
    best = np.clip(best, logs.min(), logs.max())[:, None]
    width = 1.5 * abs(logs[1] - logs[0])
    near = np.exp(-0.5 * ((logs - best) / width) ** 2)
    near /= near.sum(axis=1, keepdims=True)
    return np.asarray(0.7 * near + 0.3 / len(logs))


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Events (R, C) out of exposures (R,) of both tracks in one interval. Rows without traffic are zeros."""

    canary_events: Floats
    canary: Floats
    stable_events: Floats
    stable: Floats

    @classmethod
    def zeros(cls, rows: int, channels: int) -> Counts:
        """Return an interval in which nothing happened."""
        return cls(np.zeros((rows, channels)), np.zeros(rows), np.zeros((rows, channels)), np.zeros(rows))

    def plus(self, other: Counts) -> Counts:
        """Return the sum; the one with fewer rows has no traffic in the others."""
        if not len(self.canary) or not len(other.canary):
            return other if len(other.canary) else self
        rows = max(len(self.canary), len(other.canary))
        one, two = self.padded(rows), other.padded(rows)
        return Counts(
            one.canary_events + two.canary_events,
            one.canary + two.canary,
            one.stable_events + two.stable_events,
            one.stable + two.stable,
        )

    def padded(self, rows: int) -> Counts:
        """Return the same with as many rows, the new ones without traffic."""
        short = rows - len(self.canary)
        if not short:
            return self
        return Counts(*(np.concatenate([each, np.zeros((short, *each.shape[1:]))]) for each in self.parts))

    def minus(self, other: Counts) -> Counts:
        """Return the difference, both of the same shape."""
        return Counts(*(a - b for a, b in zip(self.parts, other.parts, strict=True)))

    def rows(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Counts:
        """Return the counts of the strata `index` only."""
        return Counts(*(each[index] for each in self.parts))

    def channels(self, index: npt.NDArray[np.intp]) -> Counts:
        """Return the counts of the channels `index` only."""
        return Counts(self.canary_events[:, index], self.canary, self.stable_events[:, index], self.stable)

    def compared_with(self, canary: Floats, stable: Floats) -> Counts:
        """Return the same events out of other exposures."""
        return Counts(self.canary_events, canary, self.stable_events, stable)

    @property
    def parts(self) -> tuple[Floats, Floats, Floats, Floats]:
        """The four arrays, in order."""
        return self.canary_events, self.canary, self.stable_events, self.stable


def log_e(counts: Counts, null: Null) -> Floats:
    """Return log e-values, shape (R, C, G), one per alternative of `null`.

    Their exponentials have mean at most 1 wherever the null is true, for any rates of stable and any
    exposures, which are conditioned on. A row in which a track has no exposures gives 0.

    Source: docs/verdict.md, formula (1); for difference = 0 the conditional binomial likelihood ratio of
    Lindon and Malek (arXiv 2011.03567) and Turner, Ly and Gruenwald (arXiv 2106.02693).
    """
    return _each(counts, _factors(counts, null))


def log_e_sum(counts: Counts, null: Null) -> Floats:
    """Return ``log_e(counts, null).sum(axis=0)``, shape (C, G), by matrix products."""
    return _sum(counts, _factors(counts, null))


def log_e_split(counts: Counts, null: Null, rows: npt.NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return log e-values of the strata `rows`, (S, C, G), and those of all others together, (C, G)."""
    factors = _factors(counts, null)
    others = np.ones(len(counts.canary), dtype=bool)
    others[rows] = False
    each = _each(counts.rows(rows), tuple(f[rows] for f in factors))
    return each, _sum(counts.rows(others), tuple(f[others] for f in factors))


def _factors(counts: Counts, null: Null) -> tuple[Floats, ...]:
    """Return log a, log b and the slack of formula (1), each (R, G); zeros where a track had no exposures."""
    seen = (counts.canary > 0) & (counts.stable > 0)
    n_c, n_s = np.where(seen, counts.canary, 1.0)[:, None], np.where(seen, counts.stable, 1.0)[:, None]
    times = null.grid / null.ratio
    b = (n_c * null.ratio + n_s) / (n_c * null.grid + n_s)
    log_b = np.log(b)
    mask = seen[:, None]
    return (log_b + np.log(times)) * mask, log_b * mask, (n_c * null.difference) * (b * times - 1.0) * mask


def _each(counts: Counts, factors: tuple[Floats, ...]) -> Floats:
    log_a, log_b, slack = factors
    result: Floats = counts.canary_events[:, :, None] * log_a[:, None, :]
    result += counts.stable_events[:, :, None] * log_b[:, None, :]
    result -= slack[:, None, :]
    return result


def _sum(counts: Counts, factors: tuple[Floats, ...]) -> Floats:
    log_a, log_b, slack = factors
    return np.asarray(counts.canary_events.T @ log_a + counts.stable_events.T @ log_b - slack.sum(axis=0))


def log_mean_exp(logs: Floats) -> Floats:
    """Return ``log(mean(exp(logs)))`` over the last axis, safe against overflow."""
    top = logs.max(axis=-1, keepdims=True)
    sums = logs - top
    np.exp(sums, out=sums)
    result: Floats = np.log(sums.sum(axis=-1) / logs.shape[-1])
    result += top[..., 0]
    return result


def log_mix(logs: Floats, weights: Floats) -> Floats:
    """Return ``log(sum(weights * exp(logs)))`` over the last axis; -inf where all weights are 0."""
    top = np.max(logs, axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        result: Floats = np.log(np.sum(weights * np.exp(logs - top), axis=-1)) + top[..., 0]
    return result


def mean_reaches(logs: Floats, nats: float) -> npt.NDArray[np.bool_]:
    """Tell where ``log_mean_exp(logs)`` is at least `nats`, four times as fast."""
    found = np.minimum(logs - nats, 700.0)
    return np.asarray(np.exp(found, out=found).sum(axis=-1) >= logs.shape[-1])


@dataclass(frozen=True, slots=True)
class Clip:
    """The most that one component may gain: a token bucket, full at the start. Source: docs/verdict.md,
    "ticks"."""

    nats: float
    refill: float
    """Nats per second."""

    def capacity(self, seconds: float) -> float:
        """Return the bucket's size for an interval of `seconds`; long intervals may gain up to twice as
        much."""
        return max(self.nats, min(2.0 * self.nats, self.refill * seconds))


class Wealth:
    """Log wealth per component and alternative: the running product of clipped e-values.

    A clipped e-value is still one, so no single interval can decide, whatever happened in it. With
    `restarts`, half of the capital is kept for later beginnings: at the j-th `restart` a share 1/2/(j(j+1))
    of it enters (an e-detector with spent mass, Shin, Ramdas and Rinaldo 2023).
    """

    def __init__(
        self,
        components: tuple[int, ...],
        null: Null,
        clip: Clip,
        *,
        restarts: bool = False,
        weights: Floats | None = None,
    ) -> None:
        """Begin with the capital spread over the alternatives by `weights` (components, G), or evenly."""
        shape = (*components, len(null.grid))
        self._clip = clip
        self._starts = 0
        self.log: Floats = np.full(shape, np.log(0.5) if restarts else 0.0)
        if weights is not None:
            self.log += np.log(weights * shape[-1])
        self.budget: Floats = np.full(shape, clip.nats)
        self._nats: Floats | None = None

    def gain(self, logs: Floats, seconds: float) -> None:
        """Add the log e-values of an interval of `seconds`; the budget depends on the past only."""
        budget = self.budget
        budget += self._clip.refill * seconds
        np.minimum(budget, self._clip.capacity(seconds), out=budget)
        gained = np.minimum(logs, budget)
        self.log += gained
        budget -= np.maximum(gained, 0.0, out=gained)
        self._nats = None

    def fork(self, times: int) -> None:
        """Append `times` copies of the first component, which from now on go their own ways."""
        self.log = np.concatenate([self.log, np.repeat(self.log[:1], times, axis=0)])
        self.budget = np.concatenate([self.budget, np.repeat(self.budget[:1], times, axis=0)])
        self._nats = None

    def restart(self) -> None:
        """Begin once more, beside what runs."""
        self._starts += 1
        self.log = np.logaddexp(self.log, -np.log(2.0 * self._starts * (self._starts + 1)))
        self._nats = None

    @property
    def nats(self) -> Floats:
        """Log evidence per component: the mean over the alternatives."""
        if self._nats is None:
            self._nats = log_mean_exp(self.log)
        return self._nats


class DesignEffect:
    """How many times more than independent events vary, per channel; at least 1.

    The larger of two estimates, both shrunk towards 1.2 by 8 degrees of freedom: between stable pods within
    the same interval, and between the tracks' split of the events and the one that their running ratio
    expects (so a canary that is truly worse does not inflate it). Source: docs/verdict.md, "staying honest".

    Args:
        channels: how many.
        many: one exposure may have several events.
    """

    _PRIOR, _PRIOR_DF = 1.2, 8.0

    def __init__(self, channels: int, *, many: bool = False) -> None:
        self._many = many
        self.pods_chi2: Floats = np.zeros(channels)
        self.pods_df = 0.0
        self.online_chi2: Floats = np.zeros(channels)
        self.online_df: Floats = np.zeros(channels)
        self._up: Floats = np.zeros(channels)
        self._down: Floats = np.zeros(channels)

    def add_pods(self, events: Floats, exposures: Floats) -> None:
        """Take events (P, C) out of exposures (P,) of the stable pods in one interval; one pod alone says
        nothing."""
        busy = exposures > 0
        if np.count_nonzero(busy) < 2:
            return
        k, n = events[busy], exposures[busy]
        total = k.sum(axis=0)
        expected = np.outer(n / n.sum(), np.where(total > 0, total, 1.0))
        chi2 = ((k - expected) ** 2 / expected).sum(axis=0)
        self.pods_chi2 = self.pods_chi2 + np.where(total > 0, chi2, 0.0)
        self.pods_df = self.pods_df + (len(n) - 1) * (total > 0)

    def add(self, counts: Counts) -> None:
        """Take one interval of both tracks."""
        n = counts.canary + counts.stable
        share = np.divide(counts.canary, n, out=np.zeros_like(n), where=n > 0)[:, None]
        events = counts.canary_events + counts.stable_events
        # Mantel-Haenszel: weights that cancel each stratum's own rate. Half an event each way keeps it
        # finite.
        self._up = self._up + (counts.canary_events * (1.0 - share)).sum(axis=0)
        self._down = self._down + (counts.stable_events * share).sum(axis=0)
        ratio = (self._up + 0.5) / (self._down + 0.5)
        theta = share * ratio / (share * ratio + 1.0 - share)
        # An exposure that may have many events (a Poisson count) has no finite correction.
        finite = (
            np.ones_like(events)
            if self._many
            else np.clip(1.0 - events / np.maximum(n, 1.0)[:, None], 0.0, 1.0)
        )
        expected = (events * theta).sum(axis=0)
        variance = (events * theta * (1.0 - theta) * finite).sum(axis=0)
        use = (expected >= 0.2) & (variance > 1e-9)
        residual = (counts.canary_events - events * theta).sum(axis=0)
        chi2 = np.divide(residual**2, variance, out=np.zeros_like(variance), where=use)
        self.online_chi2 = self.online_chi2 + chi2
        self.online_df = self.online_df + use

    @property
    def from_pods(self) -> Floats:
        """The estimate between stable pods."""
        return self._shrunk(self.pods_chi2, np.asarray(self.pods_df))

    @property
    def value(self) -> Floats:
        """The design effect, per channel."""
        online = self._shrunk(self.online_chi2, self.online_df)
        return np.maximum(1.0, np.maximum(self.from_pods, online))

    @property
    def for_promotion(self) -> Floats:
        """The stricter one that promotion is divided by: quiet stretches look healthy."""
        phi = self.value
        return phi * (1.0 + np.minimum(0.5, phi - 1.0))

    def _shrunk(self, chi2: Floats, df: Floats) -> Floats:
        return (self._PRIOR * self._PRIOR_DF + chi2) / (self._PRIOR_DF + df)
