"""The policy: which signals are compared, how much evidence decides, how long to wait. Data, no behaviour.

Belongs here: `Past`, `Share`, `Policy`, their defaults, which need no configuration, and what values
they may have. The signals are in `rolloutobs.analysis.signals`; reading files is `rolloutobs.cli`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from rolloutobs.analysis.loading import from_plain, in_ranges, to_plain, updated
from rolloutobs.analysis.signals import DEFAULT_SIGNALS, Kind, OnFailure, Required, Selector, Signal
from rolloutobs.errors import ConfigurationError

__all__ = [
    "Kind",
    "OnFailure",
    "OnSilence",
    "Past",
    "Policy",
    "RealUsers",
    "Required",
    "Selector",
    "Share",
    "Signal",
]


_TINY = 1e-9
_PAST_RANGES = {
    "minimum_seconds": (0.0, 1e9),
    "block_seconds": (_TINY, 1e9),
    "after_seconds": (0.0, 1e9),
    "hold_seconds": (0.0, 1e9),
    "ratio": (1.0, 100.0),
    "difference": (0.0, 1.0),
    "evidence": (1.0, 1e9),
    "limit_events": (1, 1e9),
}
_SHARE_RANGES = {
    "weight": (_TINY, 1.0 - _TINY),
    "hold_factor": (_TINY, 0.99),
    "rollback_factor": (_TINY, 0.99),
    "hold_evidence": (1.0, 1e9),
    "rollback_evidence": (1.0, 1e9),
    "rollback_after_seconds": (0.0, 1e9),
    "silence_seconds": (_TINY, 1e9),
    "lag_seconds": (0.0, 1e9),
    "restart_seconds": (_TINY, 1e9),
}
_POLICY_RANGES = {
    "alpha": (_TINY, 0.5),
    "promote_alpha": (_TINY, 0.5),
    "guard_weight": (0.0, 0.99),
    "warmup_seconds": (0.0, 1e9),
    "minimum_seconds": (0.0, 1e9),
    "deadline_seconds": (1.0, 1e9),
    "tick_seconds": (0.0, 3600.0),
    "phi_seconds": (0.0, 3600.0),
    "clip_nats": (_TINY, 1e9),
    "clip_refill": (_TINY, 1e9),
    "restart_seconds": (0.0, 1e9),
    "strata_limit": (0, 10_000),
    "stratum_minimum": (1, 1e9),
    "exceedance_low": (0.0, 1.0),
    "exceedance_high": (0.0, 1.0),
    "hold_evidence": (1.0, 1e9),
}


class RealUsers(StrEnum):
    """What evidence from browsers that nobody vouches for may do: anyone can post a beacon."""

    HOLD = "hold"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True)
class Past:
    """Stable against its own past: where a dependency fails, both tracks suffer, and nothing gets promoted.

    Every default is from the simulations behind `docs/verdict.md`, "stable against its own past".
    """

    minimum_seconds: float = 600.0
    """Pre-history that the comparison needs; with less there is only the absolute limit. Best is 1800."""
    block_seconds: float = 300.0
    """Blocks of the pre-history whose scatter gives the design effect."""
    windows_seconds: tuple[float, ...] = (60.0, 300.0)
    """Windows of stable's present; the longest is also the window of the absolute limit."""
    after_seconds: float = 300.0
    """Since the canary took traffic, before the first comparison."""
    hold_seconds: float = 600.0
    """Promotion stays held this long after the comparison last fired."""
    ratio: float = 2.0
    difference: float = 0.01
    """Worse means: above `ratio` times the past's rate plus `difference`."""
    evidence: float = 20.0
    """E-value that holds promotion."""
    limit_events: int = 10
    """Canary events that an absolute limit needs in its window."""

    def __post_init__(self) -> None:
        in_ranges(self, _PAST_RANGES)
        if not self.windows_seconds or min(self.windows_seconds) <= 0:
            raise ConfigurationError(f"windows_seconds is {self.windows_seconds!r}; use lengths above 0")


class OnSilence(StrEnum):
    """What follows when the canary gets less traffic than it was given."""

    ROLLBACK = "rollback"
    HOLD = "hold"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class Share:
    """The canary gets the traffic that is configured for it, or something is wrong with it: it is dead,
    refuses connections, or fails its probes. Without a weight, here or in the ticks, nothing is tested.

    Every default is from the simulations behind `docs/verdict.md`, "the share of the traffic".
    """

    weight: float | None = None
    """Share of the traffic that is configured for the canary, 0 to 1, where the ticks do not say it."""
    on_silence: OnSilence = OnSilence.ROLLBACK
    """``rollback``: proven to get less than `rollback_factor` of its weight rolls back; ``hold``: it only
    holds promotion; ``ignore``: no test."""
    hold_factor: float = 0.5
    """Less than so much of the weight holds promotion, at `hold_evidence`."""
    hold_evidence: float = 20.0
    rollback_factor: float = 0.4
    """Less than so much of the weight rolls back, at `rollback_evidence`, which is a bound of its own beside
    alpha: 1 in 100."""
    rollback_evidence: float = 100.0
    rollback_after_seconds: float = 300.0
    """Since the canary took traffic; routing may take some time to settle."""
    silence_seconds: float = 300.0
    """Window of the share that sentences tell."""
    lag_seconds: float = 75.0
    """The lowest weight of so long a time counts, since a change takes a while to work and to be counted."""
    restart_seconds: float = 60.0
    """Beside the test from the start a new one begins this often, for canaries that die later."""

    def __post_init__(self) -> None:
        in_ranges(self, _SHARE_RANGES)


@dataclass(frozen=True, slots=True)
class Policy:
    """What decides, with defaults that need no configuration. Seconds, nats, and ratios from 0 to 1."""

    signals: tuple[Signal, ...] = DEFAULT_SIGNALS
    traffic: str = "errors"
    """Name of the signal whose exposures are called the rollout's requests."""
    alpha: float = 0.01
    """Bound on ever rolling back a canary that is inside its tolerances, however often one looks."""
    promote_alpha: float = 0.05
    """Bound on promoting a canary beyond a margin; each required signal proves itself at this level."""
    guard_weight: float = 0.1
    """Share of alpha that belongs to the guard."""
    warmup_seconds: float = 90.0
    """Left out of the comparison, the guard excepted: each canary pod's first seconds where pod ages are
    known, else the rollout's. Set it to what a cold start of the app takes."""
    minimum_seconds: float = 300.0
    """No promotion before this, since the canary took traffic."""
    deadline_seconds: float = 1800.0
    """When an undecided gate gives up; forecasts speak of it."""
    tick_seconds: float = 15.0
    """Evidence is computed on this grid; faster ticks are summed onto it. 0: every tick as it comes."""
    phi_seconds: float = 15.0
    """Grid of the design effect. On 1 s clusters of errors average away: keep it at 15 or above, except to
    demonstrate."""
    clip_nats: float = 1.5
    """The most evidence that one component may gain at once, so that no single scrape decides."""
    clip_refill: float = 0.1
    """Nats per second at which that budget refills."""
    restart_seconds: float = 180.0
    """Beside the comparison from the start a new one starts this often, to see late regressions. 0: never."""
    strata_limit: int = 50
    """The busiest strata of stable's past are judged on their own, the others as one more."""
    stratum_minimum: int = 200
    """Past requests of a stratum above which its own latency bounds are used instead of the pool's."""
    exceedance_low: float = 0.002
    exceedance_high: float = 0.75
    """Latency bounds are compared where stable's past share of slower requests lies between these two."""
    hold_evidence: float = 10.0
    """E-value against the canary, of a signal or of one stratum, that holds promotion while it lasts."""
    assume_independent: bool = False
    """Promote even where no per-pod counts of stable show how clustered its errors are. Clusters then look
    like proof: in simulation a quarter to a half of the canaries with twice the errors were promoted."""
    real_users: RealUsers = RealUsers.HOLD
    """What evidence from browsers may do: ``hold`` promotion only, or ``rollback`` as well."""
    past: Past = field(default_factory=Past)
    share: Share = field(default_factory=Share)

    def __post_init__(self) -> None:
        in_ranges(self, _POLICY_RANGES)
        names = [each.name for each in self.signals]
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(f"signals are {names!r}; give at least one, each with a name of its own")
        if not self.exceedance_low < self.exceedance_high:
            raise ConfigurationError(
                f"exceedance_low is {self.exceedance_low!r}; use less than exceedance_high, which is "
                f"{self.exceedance_high!r}"
            )
        self.signal(self.traffic)
        if not any(each.is_required for each in self.signals):
            raise ConfigurationError(
                f"none of the signals {names!r} is required, so promotion would prove nothing; "
                "set required: yes on one"
            )

    def signal(self, name: str) -> Signal:
        """Return the signal called `name`.

        Raises:
            ConfigurationError: there is none.
        """
        for each in self.signals:
            if each.name == name:
                return each
        names = ", ".join(repr(each.name) for each in self.signals)
        raise ConfigurationError(f"there is no signal {name!r} in the policy; it has {names}")

    def may_roll_back(self, signal: Signal) -> bool:
        """Whether evidence of `signal` may roll back; otherwise it only holds promotion."""
        believed = not signal.is_from_browsers or self.real_users is RealUsers.ROLLBACK
        return believed and signal.on_failure is OnFailure.ROLLBACK

    def has_guard(self, signal: Signal) -> bool:
        """Whether the guard watches `signal`: a guard rolls back, so only where the signal may."""
        return signal.guard_ratio is not None and self.guard_weight > 0 and self.may_roll_back(signal)

    @property
    def rollback_weights(self) -> Mapping[str, float]:
        """Each signal's share of alpha; with `guard_weight` they sum to 1. Signals that only hold have
        none."""
        weights = {each.name: each.weight for each in self.signals if self.may_roll_back(each)}
        scale = (1.0 - self.guard_weight) / max(sum(weights.values()), _TINY)
        return {name: scale * weight for name, weight in weights.items()}

    def baking(self) -> Policy:
        """Return the policy for watching on after promotion: new version against old pods that were kept.

        Both are judged afresh: nobody warms up, no weight is configured, and stable's own past is not that of
        this traffic; new comparisons begin every 3 min, for what shows late. It spends an alpha of its own.

        Give the engine the pre-history of several stable pods. How clustered errors are is not seen between
        the new version and one old pod: without it bursts roll back good versions.

        Source: docs/verdict.md, "bake".
        """
        return replace(
            self,
            signals=tuple(replace(each, past=False) for each in self.signals),
            warmup_seconds=0.0,
            restart_seconds=self.restart_seconds or 180.0,
            share=replace(self.share, on_silence=OnSilence.IGNORE),
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Policy:
        """Return the default policy with what `mapping` changes.

        Keys are field names. ``signals`` maps names to changes of a default signal, to a whole new signal (at
        least title, kind and exposures), or to ``None``, which drops a default one.

        Raises:
            ConfigurationError: an unknown key or a bad value; the message names the key.
        """
        rest = dict(mapping)
        changes = rest.pop("signals", {})
        traffic = rest.get("traffic", cls().traffic)
        changed: Policy = updated(replace(cls(), signals=_signals(changes), traffic=traffic), rest, "")
        return changed

    def to_mapping(self) -> dict[str, Any]:
        """Return every setting as plain data; ``Policy.from_mapping`` of it gives an equal policy."""
        plain: dict[str, Any] = to_plain(self)
        dropped = {
            each.name: None for each in DEFAULT_SIGNALS if each.name not in {s.name for s in self.signals}
        }
        named = {each.pop("name"): each for each in plain["signals"]}
        return {**plain, "signals": {**named, **dropped}}


def _signals(changes: object) -> tuple[Signal, ...]:
    """Return the default signals with `changes` by name; new ones come last."""
    if not isinstance(changes, Mapping):
        raise ConfigurationError(
            f"signals is {changes!r}; use a mapping from names of signals to their settings"
        )
    signals = {each.name: each for each in DEFAULT_SIGNALS}
    for name, change in changes.items():
        where = f"signals.{name}"
        if change is None:
            signals.pop(name, None)
        elif name in signals:
            signals[name] = updated(signals[name], change, where)
        else:
            signals[name] = from_plain(Signal, {"name": name, **_named(change, where)}, where)
    return tuple(signals.values())


def _named(change: object, where: str) -> Mapping[str, Any]:
    if not isinstance(change, Mapping) or "name" in change:
        raise ConfigurationError(
            f"{where} is {change!r}; use a mapping of settings, without a name of its own"
        )
    return change
