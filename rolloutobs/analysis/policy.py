"""The policy: which signals are compared, how much evidence decides, how long to wait. Data, no behaviour.

Belongs here: `Policy`, its defaults, which need no configuration, and what values it may have. The signals
are in `rolloutobs.analysis.signals`, what is checked beside them in `safety`; reading files is
`rolloutobs.cli`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import log
from typing import Any

from rolloutobs import semconv
from rolloutobs.analysis.defaults import DEFAULT_SIGNALS
from rolloutobs.analysis.loading import from_plain, in_ranges, to_plain, updated
from rolloutobs.analysis.safety import OnSilence, Past, Resources, Share
from rolloutobs.analysis.signals import Kind, OnFailure, Required, Selector, Signal, Sources
from rolloutobs.errors import ConfigurationError, SettingError

__all__ = [
    "Kind",
    "OnFailure",
    "OnSilence",
    "Past",
    "Policy",
    "RealUsers",
    "Required",
    "Resources",
    "Selector",
    "Share",
    "Signal",
    "Sources",
]


_TINY = 1e-9
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
    """What evidence from browsers may do: anyone can post a beacon, and only a token says that a page was
    ours."""

    HOLD = "hold"
    SIGNED = "signed"
    """It holds; but what views with a token have shown rolls back, as far as it does not rest on one
    network."""
    ROLLBACK = "rollback"


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
    real_users: RealUsers = RealUsers.SIGNED
    """What evidence from browsers may do: ``hold`` promotion only; ``signed``: that, and roll back on what
    views with a token have shown; ``rollback``, whoever posted it."""
    strata_labels: tuple[str, ...] = ()
    """Further labels by which every signal that has strata is compared, e.g. ``caller_version`` (of callers
    that roll out at the same time) or ``cluster``: like with like only."""
    past: Past = field(default_factory=Past)
    share: Share = field(default_factory=Share)
    resources: Resources = field(default_factory=Resources)
    compared: tuple[Signal, ...] = field(init=False, repr=False, compare=False)
    """What is compared: the signals with `strata_labels`, and the signed part of what browsers post apart. It
    follows from the other settings."""

    def __post_init__(self) -> None:
        in_ranges(self, _POLICY_RANGES)
        object.__setattr__(self, "compared", _compared(self))
        names = [each.name for each in self.signals]
        if not names or len(set(names)) < len(names):
            raise SettingError(
                "signals", f"signals are {names!r}; give at least one, each with a name of its own"
            )
        if not self.exceedance_low < self.exceedance_high:
            raise SettingError(
                "exceedance_low",
                f"exceedance_low is {self.exceedance_low!r}; use less than exceedance_high, which is "
                f"{self.exceedance_high!r}",
            )
        if self.traffic not in names:
            known = ", ".join(map(repr, names))
            raise SettingError(
                "traffic", f"there is no signal {self.traffic!r} in the policy; it has {known}"
            )
        if not any(each.is_required for each in self.signals):
            raise SettingError(
                "signals",
                f"none of the signals {names!r} is required, so promotion would prove nothing; "
                "set required: yes on one",
            )

    def signal(self, name: str) -> Signal:
        """Return the signal called `name`.

        Raises:
            ConfigurationError: there is none.
        """
        for each in self.compared:
            if each.name == name:
                return each
        names = ", ".join(repr(each.name) for each in self.signals)
        raise ConfigurationError(f"there is no signal {name!r} in the policy; it has {names}")

    def may_roll_back(self, signal: Signal) -> bool:
        """Whether evidence of `signal` may roll back; otherwise it only holds promotion."""
        signed = self.real_users is RealUsers.SIGNED and signal.is_signed
        believed = not signal.is_from_browsers or self.real_users is RealUsers.ROLLBACK or signed
        return believed and signal.on_failure is OnFailure.ROLLBACK

    def is_robust(self, signal: Signal) -> bool:
        """Whether `signal` rolls back only on what no single network can have made up."""
        return signal.is_from_browsers and self.real_users is RealUsers.SIGNED and signal.is_signed

    def has_guard(self, signal: Signal) -> bool:
        """Whether the guard watches `signal`: a guard rolls back, so only where the signal may."""
        return signal.guard_ratio is not None and self.guard_weight > 0 and self.may_roll_back(signal)

    @property
    def rollback_weights(self) -> Mapping[str, float]:
        """Each signal's share of alpha; with `guard_weight` they sum to 1. Signals that only hold have
        none."""
        weights = {each.name: each.weight for each in self.compared if self.may_roll_back(each)}
        scale = (1.0 - self.guard_weight) / max(sum(weights.values()), _TINY)
        return {name: scale * weight for name, weight in weights.items()}

    def threshold(self, signal: Signal) -> float:
        """Return the nats at which `signal` alone rolls back, or, if it may not, at which it holds
        promotion."""
        if not self.may_roll_back(signal):
            return log(self.hold_evidence)
        return -log(self.alpha) - log(self.rollback_weights[signal.name])

    def only(self, *names: str) -> Policy:
        """Return the policy with these of its signals alone.

        Raises:
            ConfigurationError: one of them is not there.
        """
        known = {each.name: each for each in self.signals}
        for name in names:
            if name not in known:
                raise ConfigurationError(f"there is no signal {name!r}; use some of {', '.join(known)}")
        return replace(self, signals=tuple(known[name] for name in names))

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
            SettingError: an unknown key or a bad value; the message names the key.
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


def _compared(policy: Policy) -> tuple[Signal, ...]:
    """Return the signals with the policy's further strata, and the signed ones."""
    found = [
        replace(each, strata=(*each.strata, *(n for n in policy.strata_labels if n not in each.strata)))
        if each.strata
        else each
        for each in policy.signals
    ]
    if policy.real_users is RealUsers.SIGNED:
        found += [_signed(each) for each in found if each.is_from_browsers and each.sources is not None]
    return tuple(found)


def _signed(signal: Signal) -> Signal:
    """Return `signal` on signed views only, which may do more and is never required."""
    return replace(
        signal,
        name=f"{signal.name}_signed",
        title=f"{signal.title} (signed)",
        unit=f"signed {signal.unit}",
        exposures=_only_signed(signal.exposures),
        events=None if signal.events is None else _only_signed(signal.events),
        sources=None
        if signal.sources is None
        else replace(
            signal.sources,
            exposures=_only_signed(signal.sources.exposures),
            events=_only_signed(signal.sources.events),
        ),
        required=Required.NO,
    )


def _only_signed(selector: Selector) -> Selector:
    return replace(selector, labels={**selector.labels, semconv.LABEL_SIGNED: semconv.SIGNED_TRUE})


def _signals(changes: object) -> tuple[Signal, ...]:
    """Return the default signals with `changes` by name; new ones come last."""
    if not isinstance(changes, Mapping):
        raise SettingError(
            "signals", f"signals is {changes!r}; use a mapping from names of signals to their settings"
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
        raise SettingError(
            where, f"{where} is {change!r}; use a mapping of settings, without a name of its own"
        )
    return change
