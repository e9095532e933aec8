"""What is checked beside the signals: stable's own past, the share of the traffic, memory and CPU. Data.

Belongs here: the settings of each check, their defaults, and what values they may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from rolloutobs.analysis.loading import in_ranges
from rolloutobs.analysis.signals import OnFailure
from rolloutobs.errors import SettingError

__all__ = ["OnSilence", "Past", "Resources", "Share"]

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
_RESOURCES_RANGES = {
    "memory_ratio": (1.0, 100.0),
    "memory_difference_bytes": (0.0, 1e15),
    "cpu_ratio": (1.0, 100.0),
    "cpu_difference_cores": (0.0, 1e4),
    "memory_limit_bytes": (1.0, 1e15),
    "horizon_seconds": (0.0, 1e9),
    "minimum_seconds": (0.0, 1e9),
}


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
            raise SettingError(
                "windows_seconds", f"windows_seconds is {self.windows_seconds!r}; use lengths above 0"
            )


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
class Resources:
    """Memory and CPU of processes, compared at the same age. Few processes say too little for a bound on
    being wrong, so this can hold a promotion and never rolls back.

    Defaults are wide, as processes differ: docs/verdict.md, "memory and CPU".
    """

    on_failure: OnFailure = OnFailure.PAUSE
    """``pause`` holds promotion; ``log`` only shows it."""
    memory_ratio: float = 1.5
    """The middle canary process may have so many times the memory of the largest stable one ..."""
    memory_difference_bytes: float = 64.0 * 2**20
    """... and so much more."""
    cpu_ratio: float = 2.0
    """The same for CPU time, per second and per request: both must be above, for traffic differs."""
    cpu_difference_cores: float = 0.1
    memory_limit_bytes: float | None = None
    """Memory at which a process is killed; ``None``: not known, and growth alone holds nothing."""
    horizon_seconds: float = 3600.0
    """Memory of the canary that grows steadily and reaches the limit so soon holds promotion."""
    minimum_seconds: float = 300.0
    """Age from which a canary process is compared; after warm-up its memory still grows for a while."""

    def __post_init__(self) -> None:
        in_ranges(self, _RESOURCES_RANGES)
        if self.on_failure is OnFailure.ROLLBACK:
            raise SettingError(
                "on_failure", "on_failure is 'rollback'; use 'pause' or 'log', memory and CPU never roll back"
            )
