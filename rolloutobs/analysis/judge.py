"""One signal over a whole rollout: what it has seen, and the evidence for and against the canary.

Belongs here: the grid of time, the order in which an interval is used, and the mixture of pool and strata.
Does not belong here: formulas (`evidence`), words (`wording`), decisions that involve more than one signal
(`verdict`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from rolloutobs.analysis.choice import Choice, Index, choose
from rolloutobs.analysis.evidence import (
    Clip,
    Counts,
    DesignEffect,
    Floats,
    Null,
    Wealth,
    fewer_than,
    growth_weights,
    log_e_split,
    log_e_sum,
    log_mean_exp,
    log_mix,
    more_than,
    not_fewer_than,
    not_more_than,
)
from rolloutobs.analysis.frame import Frame, Lag
from rolloutobs.analysis.intervals import RatioSequence
from rolloutobs.analysis.model import Tick
from rolloutobs.analysis.networks import Networks
from rolloutobs.analysis.past import StablePast
from rolloutobs.analysis.policy import Kind, Policy, Signal

__all__ = ["Against", "Grid", "SignalJudge"]

_RATE_SECONDS = 60.0
"""The present rate of exposures is their mean over so long."""


class Grid:
    """Tells when a multiple of `seconds` was passed; for 0 seconds at every step."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def passed(self, start: float, end: float) -> float | None:
        """Take the step from `start` to `end`; return the seconds since the last passing, or ``None`` if
        none."""
        if self._since is None:
            self._since = start
        since = self._since
        # Scrapes are never exactly on time: one that is a thousandth early has passed.
        slack = 1e-3 * self._seconds
        if self._seconds > 0 and (end + slack) // self._seconds <= (since + slack) // self._seconds:
            return None
        self._since = end
        return end - since


class Against:
    """Log wealth against the canary: over all strata together, and of each.

    Attributes:
        pool_nats: log evidence of all strata together.
        strata_nats: of each row of the choice and of the rest, shape (S + 1,), or (0,) where only the pool is
        judged. nats: of the signal.
    """

    def __init__(self, choice: Choice, null: Null, policy: Policy) -> None:
        clip = Clip(policy.clip_nats, policy.clip_refill)
        restarts = policy.restart_seconds > 0
        channels = len(choice.channels)
        self._choice, self._null = choice, null
        self.pool = Wealth((channels,), null, clip, restarts=restarts)
        self.strata = Wealth((len(choice.strata), channels), null, clip, restarts=restarts)
        self._sum_up()

    def gain(self, counts: Counts, phi: Floats, seconds: float) -> None:
        """Take the counts of an interval, with the design effects (C,) known before it."""
        each, rest = log_e_split(counts, self._null, self._choice.rows)
        each /= phi[:, None]
        rest /= phi[:, None]
        self.pool.gain(each.sum(axis=0) + rest, seconds)
        if len(each):
            self.strata.gain(np.concatenate([each, rest[None]]), seconds)
        self._sum_up()

    def restart(self) -> None:
        """Begin once more, beside what runs."""
        self.pool.restart()
        self.strata.restart()
        self._sum_up()

    def _sum_up(self) -> None:
        """Mix the channels, then half the pool and half the mean of the strata."""
        self.pool_nats = float(log_mix(self.pool.nats, self._choice.pool))
        self.strata_nats = np.zeros(0)
        self.nats = self.pool_nats
        if len(self._choice.strata):
            self.strata_nats = log_mix(self.strata.nats, self._choice.strata)
            halves = np.array([self.pool_nats, float(log_mean_exp(self.strata_nats))])
            self.nats = float(log_mean_exp(halves))


class SignalJudge:
    """The state of one signal. All counts are of the judged time (after warm-up), unless they are called
    `seen`.

    Attributes:
        threshold: nats at which the signal alone rolls back or, if it may not, holds promotion.
        frame: strata and bounds.
        choice: what is compared; ``None`` until stable was seen.
        against: evidence for a rollback; ``None`` until then.
        guard: wealth of the blatant-failure guard, shape (1, G), or ``None``.
        total: counts since the start, rows and channels of the frame.
        seen: the same with what the canary did while it was warming up.
        ignored: histograms that had other bucket bounds, up to the last interval.
        ratio: confidence sequences, pool; ``None`` until there is a choice.
        baseline_seconds: time in which the canary was compared with the baseline instead of stable.
        networks: what is left of the evidence without single networks; ``None``: not asked for.
    """

    def __init__(self, signal: Signal, policy: Policy) -> None:
        self.signal = signal
        self._policy = policy
        self.threshold = policy.threshold(signal)
        self.frame = Frame(signal, policy)
        self.past = StablePast(policy.past)
        self.choice: Choice | None = None
        self.against: Against | None = None
        self.promotion: Wealth | None = None
        self.guard: Wealth | None = None
        self.phi: DesignEffect | None = None
        self.ratio = RatioSequence((0,))
        self.strata_ratio = RatioSequence((0, 0))
        self.total = Counts.zeros(0, 1)
        self.seen = Counts.zeros(0, 1)
        self.ignored = 0
        self._weighted = Counts.zeros(0, 1)
        self.rates: deque[tuple[float, float, float]] = deque()
        self._stable_past = Counts.zeros(0, 1)
        self._pending = (Counts.zeros(0, 1), Counts.zeros(0, 1))
        self._phi_counts = Counts.zeros(0, 1)
        self._phi_pods: dict[str, tuple[Floats, float]] = {}
        self._grid, self._phi_grid = Grid(policy.tick_seconds), Grid(policy.phi_seconds)
        self._restarts = Grid(policy.restart_seconds)
        self._lag = Lag(signal.lag)
        self.baseline_seconds = 0.0
        self._baseline_pending = 0.0
        self._nulls(signal)
        self.networks = Networks(signal, policy, self.null_against) if policy.is_robust(signal) else None

    def _nulls(self, signal: Signal) -> None:
        fewer = signal.kind is Kind.CONVERSION
        self.null_against = (fewer_than if fewer else more_than)(
            signal.tolerance_ratio, signal.tolerance_difference
        )
        self.null_promotion = (not_fewer_than if fewer else not_more_than)(
            signal.margin_ratio, signal.margin_difference
        )
        self.null_guard = None
        if signal.guard_ratio is not None and self._policy.has_guard(signal):
            null = fewer_than if fewer else more_than
            self.null_guard = null(signal.guard_ratio, signal.guard_difference)
            self.guard = Wealth((1,), self.null_guard, Clip(self._policy.clip_nats, self._policy.clip_refill))

    # --- time ---------------------------------------------------------------------------------------------

    def prehistory(self, tick: Tick) -> None:
        """Take a tick from before the canary took traffic: only stable's side of it."""
        counts, _ = self._read(tick)
        stable = Counts(0.0 * counts.canary_events, 0.0 * counts.canary, counts.stable_events, counts.stable)
        if self.phi is None:
            return
        self._stable_past = self._stable_past.plus(stable)
        self.past.prehistory(tick.start, tick.end, stable)
        if self._phi_grid.passed(tick.start, tick.end) is not None:
            self._close_phi()

    def observe(self, tick: Tick) -> bool:
        """Take a tick; return whether an interval of the grid was closed by it, and the evidence has
        changed."""
        warm, cold = self._read(tick)
        if self.signal.name in tick.baseline:
            self._baseline_pending += tick.end - tick.start
        if self.networks is not None and tick.start >= self._policy.warmup_seconds:
            self.networks.read(tick.sources.get(self.signal.name, {}))
        if self.phi is not None:
            self._pending = (self._pending[0].plus(warm), self._pending[1].plus(cold))
        seconds = self._grid.passed(tick.start, tick.end)
        if seconds is None:
            return False
        if self.phi is not None and (self.frame.strata or self.signal.name == self._policy.traffic):
            self._close(seconds, tick)
        return True

    def _read(self, tick: Tick) -> tuple[Counts, Counts]:
        counts = self.frame.read(tick)
        channels = self.frame.channels
        if self.phi is None and channels:
            self.phi = DesignEffect(channels, many=self.signal.kind is Kind.COUNT)
            empty = Counts.zeros(0, channels)
            self.total = self.seen = self._weighted = self._stable_past = self._phi_counts = empty
            self._pending = (empty, empty)
        for pod, (events, exposures) in self.frame.pods(tick).items():
            old = self._phi_pods.get(pod, (np.zeros(channels), 0.0))
            self._phi_pods[pod] = (old[0] + events, old[1] + exposures)
        return counts

    def _close(self, seconds: float, tick: Tick) -> None:
        """Use the interval that ends with `tick`: with the design effect and the choice of before it."""
        rows, channels = len(self.frame.strata), self.frame.channels
        warm, cold = self._pending[0].padded(rows), self._pending[1]
        self._pending = (Counts.zeros(0, channels), Counts.zeros(0, channels))
        both = warm.plus(cold)
        canary, stable = self._lag.exposures(seconds, both.canary, both.stable)
        lagged = warm
        if self.signal.lag > 0:
            # Events of warm pods stand against the warm pods' part of the exposures only.
            part = np.divide(warm.canary, both.canary, out=np.zeros_like(canary), where=both.canary > 0)
            lagged = warm.compared_with(part * canary, stable)
        self._use(warm, lagged, seconds)
        if self.guard is not None and self.null_guard is not None and self.phi is not None:
            logs = log_e_sum(both.compared_with(canary, stable), self.null_guard)
            self.guard.gain(logs / self.phi.value[:, None], seconds)
        self.seen = self.seen.plus(both)
        self.ignored = self.frame.ignored
        self.baseline_seconds, self._baseline_pending = self.baseline_seconds + self._baseline_pending, 0.0
        self.past.observe(tick.end, both)
        self._rate(seconds, both)
        self._phi_counts = self._phi_counts.plus(lagged)
        if self._phi_grid.passed(tick.end - seconds, tick.end) is not None:
            self._close_phi()
        late = self._restarts.passed(tick.end - seconds, tick.end) is not None
        if late and self._policy.restart_seconds > 0 and self.against is not None:
            self.against.restart()
            if self.networks is not None:
                self.networks.restart()

    def _begin(self) -> None:
        """Fix what is compared, from what stable did so far; what shows it is not evidence itself."""
        policy = self._policy
        self.choice = choose(self._stable_past, self.signal, policy)
        self.against = Against(self.choice, self.null_against, policy)
        clip = Clip(policy.clip_nats, policy.clip_refill)
        past = self._stable_past
        rates = past.stable_events.sum(axis=0) / max(float(past.stable.sum()), 1.0)
        needed = self.choice.channels[self.choice.promotion]
        weights = growth_weights(self.null_promotion, rates[needed])
        self.promotion = Wealth((len(needed),), self.null_promotion, clip, weights=weights)
        channels = len(self.choice.channels)
        self.ratio = RatioSequence((channels,))
        self.strata_ratio = RatioSequence((len(self.choice.rows), channels))

    def _use(self, warm: Counts, lagged: Counts, seconds: float) -> None:
        begun = warm.canary.sum() > 0
        if self.choice is None:
            if begun and self._stable_past.stable.sum() > 0:
                self._begin()
            else:
                self._stable_past = self._stable_past.plus(warm)
        if self.choice is None or self.against is None or self.promotion is None or self.phi is None:
            return
        if begun:
            self.total = self.total.plus(warm)
            self._mantel_haenszel(lagged)
        compared = lagged.channels(self.choice.channels)
        phi = self.phi.value[self.choice.channels]
        self.against.gain(compared, phi, seconds)
        if self.networks is not None:
            self.networks.gain(float(phi.max()), seconds)
        needed = compared.channels(self.choice.promotion)
        strict = self.phi.for_promotion[self.choice.channels][self.choice.promotion]
        self.promotion.gain(log_e_sum(needed, self.null_promotion) / strict[:, None], seconds)
        terms = RatioSequence.terms(compared)
        self.ratio.add_pool(terms, phi)
        self.strata_ratio.add_rows(terms, self.choice.rows, phi)

    def _mantel_haenszel(self, counts: Counts) -> None:
        n = np.maximum(counts.canary + counts.stable, 1e-9)[:, None]
        zeros = np.zeros_like(counts.canary)
        # Weighted events, in the fields of a Counts to grow along with its rows.
        self._weighted = self._weighted.plus(
            Counts(
                counts.canary_events * counts.stable[:, None] / n,
                zeros,
                counts.stable_events * counts.canary[:, None] / n,
                zeros,
            )
        )

    def _close_phi(self) -> None:
        if self.phi is None:
            return
        if self._phi_pods:
            events = np.array([events for events, _ in self._phi_pods.values()])
            self.phi.add_pods(events, np.array([exposures for _, exposures in self._phi_pods.values()]))
        self.phi.add(self._phi_counts)
        self._phi_pods = {}
        self._phi_counts = Counts.zeros(0, self.frame.channels)

    def _rate(self, seconds: float, counts: Counts) -> None:
        self.rates.append((seconds, float(counts.canary.sum()), float(counts.stable.sum())))
        while sum(each[0] for each in self.rates) - self.rates[0][0] >= _RATE_SECONDS:
            self.rates.popleft()

    # --- what it says -------------------------------------------------------------------------------------

    @property
    def nats(self) -> float:
        """Log evidence against the canary; 0 before there is any. Where single networks are left out, the
        least of all: a minimum of e-values is one."""
        if self.against is None:
            return 0.0
        return self.against.nats if self.networks is None else min(self.against.nats, self.networks.nats)

    @property
    def guard_nats(self) -> float | None:
        """Log evidence of the guard; ``None``: this signal has none."""
        return None if self.guard is None else float(self.guard.nats[0])

    @property
    def promotion_nats(self) -> float:
        """Log evidence that the canary is within the margin: the least of the channels that need it."""
        return 0.0 if self.promotion is None else float(self.promotion.nats.min())

    def ratios_of(self, groups: Sequence[Index], channel: int) -> list[float | None]:
        """Return the Mantel-Haenszel ratio canary / stable of one channel of the frame, per group of rows.

        Each interval counts by itself, so neither drift nor a changing share of the traffic distorts it.
        ``None``: stable had no events.
        """
        up, down = self._weighted.canary_events[:, channel], self._weighted.stable_events[:, channel]
        found = []
        for rows in groups:
            known = rows[rows < len(up)]
            below = float(down[known].sum())
            found.append(float(up[known].sum()) / below if below > 0 else None)
        return found

    @property
    def has_pods(self) -> bool:
        """Whether stable pods have shown how much their events scatter."""
        return self.phi is not None and bool(np.any(self.phi.pods_df > 0))

    @property
    def past_nats(self) -> float | None:
        """Log evidence that stable is worse than its own past; ``None``: not compared."""
        nats = self.past.nats() if self.signal.past else None
        if nats is None or self.choice is None:
            return None
        channels = self.choice.channels[self.choice.promotion]
        return float(log_mean_exp(nats[channels]))

    def past_change(self) -> tuple[int, float, float]:
        """Return the channel in which stable departs most from its past, its rate before, and its rate
        now."""
        nats = self.past.nats()
        if nats is None or self.choice is None:
            raise RuntimeError("stable was not compared with its past")
        channels = self.choice.channels[self.choice.promotion]
        channel = int(channels[nats[channels].argmax()])
        before, now = self.past.rates()
        return channel, float(before[channel]), float(now[channel])
