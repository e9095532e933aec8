"""The signals: what is compared, its series, its tolerances, and the words for it. Data, no behaviour.

Belongs here: `Signal`, `Selector` and their words. The default signals are in `defaults`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rolloutobs import semconv
from rolloutobs.analysis.loading import in_ranges
from rolloutobs.errors import SettingError

__all__ = [
    "PROCESS_RESTARTS",
    "PROCESS_SECONDS",
    "Kind",
    "OnFailure",
    "Required",
    "Selector",
    "Signal",
    "Sources",
]

PROCESS_SECONDS = "rolloutobs:process_seconds"
"""Seconds that processes were seen running: no target exposes it, it follows from their start times."""
PROCESS_RESTARTS = "rolloutobs:process_restarts"
"""Processes that began anew at an address that is known: their start time moved."""

_TINY = 1e-9
_SIGNAL_RANGES = {
    "weight": (_TINY, 1e9),
    "tolerance_ratio": (1.0, 100.0),
    "tolerance_difference": (0.0, 1.0),
    "margin_ratio": (1.0, 100.0),
    "margin_difference": (0.0, 1.0),
    "guard_ratio": (1.0, 100.0),
    "guard_difference": (0.0, 1.0),
    "absolute_limit": (0.0, 1.0),
    "lag_seconds": (0.0, 3600.0),
}


class Kind(StrEnum):
    """How a signal's numbers are read."""

    RATIO = "ratio"
    """events / exposures, both counters; more is worse (errors per request, JS errors per page view)."""
    LATENCY = "latency"
    """a classic histogram; each bucket bound gives exceedances / requests; more is worse."""
    CONVERSION = "conversion"
    """events / exposures where less is worse (checkouts per page view)."""
    COUNT = "count"
    """events per exposure, where one exposure may have many (log records per request, restarts per second);
    more is worse."""
    PAIRS = "pairs"
    """failed / run synthetic checks, the same check against both tracks in the same tick; more is worse."""


class Required(StrEnum):
    """Whether promotion waits for a signal's proof."""

    AUTO = "auto"
    """Yes for errors and latency of servers, no for the rest; what is not required still holds promotion
    while it carries evidence against the canary."""
    YES = "yes"
    NO = "no"


class OnFailure(StrEnum):
    """What a signal that is worse on the canary leads to."""

    ROLLBACK = "rollback"
    PAUSE = "pause"
    """It holds promotion, until a person or the deadline ends it."""
    LOG = "log"
    """It stands in the report and decides nothing."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Series of one metric. Label values are exact; a value that starts with ``~`` is an anchored regular
    expression; the empty string selects series without the label, as in PromQL."""

    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sources:
    """The same counts by groups of networks, so that what no more than one of them shows can be told."""

    exposures: Selector
    events: Selector
    label: str = semconv.LABEL_SOURCE
    """Label whose values are the groups."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that is compared. For ``Kind.LATENCY`` `exposures` names the histogram (without suffix) and
    `events` is not used."""

    name: str
    title: str
    kind: Kind
    exposures: Selector
    events: Selector | None = None
    strata: tuple[str, ...] = ()
    """Labels that make a stratum, e.g. ``("method", "route")``."""
    phrase: str = "shows {title} on {stratum}"
    """What the canary does too often (or, for conversions, too seldom), after "canary 1.2.0"; ``{stratum}``,
    ``{bound}`` (latency: "380 ms") and ``{title}`` are filled in."""
    everywhere: str = "all routes together"
    """What ``{stratum}`` says when no single stratum stands out."""
    unit: str = "requests"
    """Plural name of an exposure."""
    weight: float = 1.0
    """Share of the rollback budget alpha, relative to the other signals that may roll back."""
    tolerance_ratio: float = 1.1
    """r0: the canary may have r0 times stable's rate plus `tolerance_difference` before it counts against it.
    Pods differ, so 1 is not a tolerance."""
    tolerance_difference: float = 0.0002
    """d0, a ratio of exposures (0.0002 = 0.02 %): a service without errors must not fail on its third one."""
    margin_ratio: float = 1.5
    """m: promotion proves that the canary is below m times stable's rate plus `margin_difference`."""
    margin_difference: float = 0.001
    """d1, a ratio of exposures."""
    guard_ratio: float | None = None
    """The blatant-failure guard, at work from second 0 (no warm-up): worse than this times stable's rate plus
    `guard_difference`; ``None``: no guard on this signal."""
    guard_difference: float = 0.1
    absolute_limit: float | None = None
    """Promotion is held while the canary's rate over the longest window of `Past` is above this; ``None``: no
    limit."""
    required: Required = Required.AUTO
    on_failure: OnFailure = OnFailure.ROLLBACK
    """What happens when it fails: ``rollback``, ``pause`` (promotion is held) or ``log`` (nothing)."""
    from_browsers: bool | None = None
    """Posted by real browsers: `Policy.real_users` says what it may do. ``None``: if `exposures` is a
    ``rum_`` metric."""
    sources: Sources | None = None
    """Of what browsers post: the same counts by where they came from. With them, signed views may roll back
    (`Policy.real_users`), as far as no single group of networks makes the difference; ``None``: they only
    hold."""
    bounds: tuple[float, ...] = ()
    """For latency: compare these bucket bounds only. Empty, or a histogram has none of them: all it has."""
    bound_unit: str = "s"
    """Unit of the bounds: ``"s"``, or the empty string for layout shifts."""
    lag_seconds: float | None = None
    """How long events may come after the exposures that they belong to. ``None``: 60 for conversions and what
    browsers post, else 0."""
    past: bool = False
    """Stable is compared with its own past on this signal."""

    def __post_init__(self) -> None:
        in_ranges(self, _SIGNAL_RANGES)
        if self.events is None and self.kind is not Kind.LATENCY:
            raise SettingError(
                "events", f"events of {self.name} is missing; a signal of kind {self.kind} counts events"
            )
        if self.guard_ratio is not None and self.kind is Kind.LATENCY:
            raise SettingError(
                "guard_ratio",
                f"guard_ratio of {self.name} is {self.guard_ratio!r}; leave it out, a guard counts events",
            )
        if self.required is Required.YES and not self.decides:
            raise SettingError(
                "required",
                f"required of {self.name} is 'yes' and on_failure is 'log'; "
                "what decides nothing is not required",
            )
        try:
            self.phrase.format(stratum="", bound="", title="")
        except (KeyError, IndexError, ValueError) as error:
            raise SettingError(
                "phrase",
                f"phrase is {self.phrase!r}, which cannot be filled in ({error}); use {{stratum}}, {{bound}} "
                "or {title}",
            ) from None

    @property
    def is_signed(self) -> bool:
        """Whether it counts only what views with a valid token have shown."""
        return self.exposures.labels.get(semconv.LABEL_SIGNED) == semconv.SIGNED_TRUE

    @property
    def is_from_browsers(self) -> bool:
        """Whether anyone with a browser can post its counts."""
        return self.exposures.metric.startswith("rum_") if self.from_browsers is None else self.from_browsers

    @property
    def lag(self) -> float:
        """The lag in seconds."""
        if self.lag_seconds is None:
            return 60.0 if self.is_from_browsers or self.kind is Kind.CONVERSION else 0.0
        return self.lag_seconds

    @property
    def decides(self) -> bool:
        """Whether it may roll back or hold anything."""
        return self.on_failure is not OnFailure.LOG

    @property
    def is_required(self) -> bool:
        """Whether promotion waits for this signal's proof."""
        if not self.decides:
            return False
        if self.required is Required.AUTO:
            return self.kind in (Kind.RATIO, Kind.LATENCY) and not self.is_from_browsers
        return self.required is Required.YES

    @property
    def needs_pods(self) -> bool:
        """Whether its design effect comes from stable pods, and the age of a pod matters to it: checks are
        apart by design, browsers have no pods, and a restart makes its process young."""
        return self.kind is not Kind.PAIRS and not self.is_from_browsers and not self.is_of_processes

    @property
    def is_of_processes(self) -> bool:
        """Whether its exposures are running time: processes run before they get traffic."""
        return self.exposures.metric == PROCESS_SECONDS
