"""The nouns of the analysis: what is observed per tick, and what a verdict says.

Belongs here: frozen data that crosses modules, and the `Source` protocol. No behaviour beyond validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

__all__ = [
    "Decision",
    "Evidence",
    "HistogramPair",
    "MetricVerdict",
    "Missing",
    "Outcome",
    "PairCount",
    "PodCount",
    "PodHistogram",
    "PodUse",
    "Ratio",
    "Reading",
    "ResourceVerdict",
    "Sample",
    "ShareVerdict",
    "Side",
    "Source",
    "Stratum",
    "StratumVerdict",
    "Suspect",
    "Tick",
    "Unjudged",
    "Verdict",
]

Stratum = tuple[tuple[str, str], ...]
"""Labels of a stratum as sorted (name, value) pairs: ``(("method", "POST"), ("route", "/checkout"))``."""


class Decision(StrEnum):
    """What to do with the rollout. Undecided is ``HOLD``."""

    PROMOTE = "promote"
    HOLD = "hold"
    ROLLBACK = "rollback"


class Outcome(StrEnum):
    """What one metric says: proven not worse, proven worse, not enough to say, or could not be read."""

    PASS = "pass"  # noqa: S105 - a word, not a secret
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class Side(StrEnum):
    """Which claim a piece of evidence supports."""

    ROLLBACK = "rollback"
    PROMOTE = "promote"
    GUARD = "guard"
    """The blatant-failure guard, active from second 0."""
    PAST = "past"
    """Stable against its own pre-history: can only hold."""
    HOLD = "hold"
    """Against the canary, but of a signal that may not roll back (unsigned browsers): can only hold."""


@dataclass(frozen=True, slots=True)
class PairCount:
    """Events out of exposures on both tracks in one tick and stratum; all integers but pod-seconds."""

    canary_events: int
    canary_exposures: float
    stable_events: int
    stable_exposures: float


@dataclass(frozen=True, slots=True)
class PodCount:
    """Events out of exposures of one stable pod in one tick, for the design effect."""

    events: int
    exposures: float


@dataclass(frozen=True, slots=True)
class PodHistogram:
    """Bucket counts of one stable pod in one tick, not cumulative, one more than `bounds`."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HistogramPair:
    """Bucket counts of one tick and stratum, not cumulative, one more than `bounds` (the last is above all).

    Tracks whose bounds differ are brought to the bounds they share before they get here.
    """

    bounds: tuple[float, ...]
    canary: tuple[int, ...]
    stable: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PodUse:
    """What one process used in one tick; ``None``: not known."""

    pod: str
    canary: bool
    age_seconds: float
    """At the end of the tick."""
    seconds: float
    memory_bytes: float | None
    """In RAM, at the end of the tick."""
    cpu_seconds: float | None
    requests: float
    """Exposures of the traffic signal that it had."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What happened between `start` and `end`, seconds since the canary first took traffic (negative before).

    Keys of the outer mappings are names of signals in the policy. A stratum without traffic may be absent.
    `stale` names tracks whose targets did not answer: such a tick carries no counts of theirs and is never
    read as silence.
    """

    start: float
    end: float
    counts: Mapping[str, Mapping[Stratum, PairCount]] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[Stratum, HistogramPair]] = field(default_factory=dict)
    stable_pods: Mapping[str, Mapping[str, PodCount]] = field(default_factory=dict)
    """Per signal (counts) and stable pod, summed over strata."""
    stable_pod_histograms: Mapping[str, Mapping[str, PodHistogram]] = field(default_factory=dict)
    """Per latency signal and stable pod, summed over strata. Without it latency cannot promote."""
    by_pod_age: bool = False
    """True: canary pods younger than the policy's warm-up are left out of `counts` and `histograms` and
    stand in `cold_counts`. False: pod ages are not known, and the engine takes the rollout's first seconds
    as warm-up."""
    cold_counts: Mapping[str, Mapping[Stratum, PairCount]] = field(default_factory=dict)
    """Canary counts of pods that are warming up (their stable fields are 0): only the guard looks at them."""
    sources: Mapping[str, Mapping[str, PairCount]] = field(default_factory=dict)
    """Per signal and group of networks, over all strata: the same events and exposures by where they came
    from. What no group is named for is not there."""
    baseline: frozenset[str] = frozenset()
    """Signals whose stable side is the baseline alone: the old version, freshly started."""
    aside: Mapping[str, float] = field(default_factory=dict)
    """Per such signal, exposures of the old version that are not compared."""
    uses: tuple[PodUse, ...] = ()
    """Memory and CPU of processes of both tracks."""
    stale: frozenset[str] = frozenset()
    weight: float | None = None
    """Share of the traffic that is configured for the canary, 0 to 1, the lowest in this tick. ``None``: not
    known; `Policy.share` may have one."""
    canary_version: str = ""
    stable_version: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Log evidence in nats against its threshold; decided when ``nats >= threshold``."""

    side: Side
    nats: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """canary / stable with its confidence sequence (valid at every look). ``None``: not known."""

    estimate: float | None
    low: float | None
    high: float | None
    confidence: float


@dataclass(frozen=True, slots=True)
class StratumVerdict:
    """One route (or other stratum) worth naming: its counts since the start, evidence in nats and ratio."""

    stratum: Stratum
    total: PairCount
    nats: float
    ratio: Ratio


@dataclass(frozen=True, slots=True)
class Suspect:
    """A stratum on the list of those that are worse: of all on it, at most 1 in 20 is expected to be there by
    chance (e-BH). The list explains; it decides nothing."""

    signal: str
    stratum: Stratum
    nats: float


@dataclass(frozen=True, slots=True)
class Unjudged:
    """A stratum of which the canary has shown too little to be judged on its own."""

    stratum: Stratum
    canary_exposures: float
    stable_exposures: float


@dataclass(frozen=True, slots=True)
class MetricVerdict:
    """What one signal says after all ticks so far."""

    signal: str
    title: str
    outcome: Outcome
    required: bool
    """Promotion waits for its proof."""
    total: PairCount
    evidence: tuple[Evidence, ...]
    ratio: Ratio
    worst: tuple[StratumVerdict, ...]
    """Most suspicious strata first, at most five."""
    bound: float | None = None
    """For latency: the bucket bound in seconds that the ratio and the totals speak of."""
    bound_unit: str = "s"
    """Unit of `bound`; empty for layout shifts."""
    note: str = ""
    unjudged: tuple[Unjudged, ...] = ()
    """Strata with fewer canary exposures than `Policy.stratum_minimum`, most stable traffic first, at most
    twenty: promotion says nothing of them."""
    unjudged_strata: int = 0
    """How many there are in all."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Why promotion waits: one signal, the nats still missing, and when they come at the present rate."""

    signal: str
    reason: str
    nats: float | None = None
    eta_seconds: float | None = None
    """``None``: not reachable at the present estimate (or nothing seen yet)."""
    exposures: float | None = None
    """Canary exposures still needed at the present estimate."""
    share: float | None = None
    """Canary share of the traffic (0 to 1) that would meet the deadline (when that has passed: as long a time
    again); ``None`` if none would."""


@dataclass(frozen=True, slots=True)
class ShareVerdict:
    """Whether the canary gets the traffic that it was given; evidence is that it gets too little."""

    weight: float
    """Configured share, 0 to 1: the lowest of the last 75 s, 0 in the first ones."""
    received: float | None
    """Its share of the requests in the last 5 min; ``None``: neither track had any."""
    evidence: tuple[Evidence, ...]
    """For a hold (less than half of the weight) and for a rollback (less than 0.4 of it)."""


@dataclass(frozen=True, slots=True)
class ResourceVerdict:
    """Memory (bytes) or CPU (cores) of the canary's processes; it can hold, and never rolls back."""

    resource: str
    """``memory``, ``cpu``, or ``memory_growth`` against the limit."""
    canary: float
    """Of the middle process."""
    stable: float
    """Of the largest process of stable; for growth the limit."""
    age_seconds: float
    """Of the canary's processes."""
    same_age: bool
    """Stable's processes were compared at that age; otherwise they are older."""
    above: bool
    """Beyond what the policy allows."""
    left_seconds: float | None = None
    """For growth: until the limit is reached."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision after a tick, and everything that it rests on. A rollback stays a rollback."""

    decision: Decision
    reason: str
    """One plain sentence about the statistic that decided."""
    at: float
    """End of the last tick, seconds since the canary first took traffic."""
    decided_by: str
    """Name of the signal that decided, ``"share"`` for a canary that gets too little traffic, or the empty
    string."""
    metrics: tuple[MetricVerdict, ...]
    requests: PairCount
    """Exposures of the policy's traffic signal per track since the start, and its events."""
    missing: tuple[Missing, ...] = ()
    holds: tuple[str, ...] = ()
    """Sentences of safety checks that hold promotion now (stable against its past, stale sources, ...)."""
    canary_version: str = ""
    stable_version: str = ""
    share: ShareVerdict | None = None
    """``None``: no weight is known, so that nothing is tested."""
    suspects: tuple[Suspect, ...] = ()
    """Strata that are worse, of all signals together, most evidence first."""
    resources: tuple[ResourceVerdict, ...] = ()
    """What could be compared of memory and CPU."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One counter sample as exposed: for histograms the ``_bucket`` series, cumulative, with ``le``."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters of every target at one moment, raw: resets are the reader's business (`ticks`)."""

    at: float
    """Unix seconds."""
    targets: Mapping[str, tuple[Sample, ...]]
    """Samples by target (a pod, a URL, or one name for a Prometheus); a target that failed is absent."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why each target that failed could not be read."""
    weight: float | None = None
    """Share of the traffic that is configured for the canary at that moment, 0 to 1; ``None``: not known."""
    notes: Sequence[str] = ()
    """What else could not be read: it does not concern the counters."""
    sums: frozenset[str] = frozenset()
    """Targets that are sums over processes of stable: compared, but no pod."""
    parts: frozenset[str] = frozenset()
    """Targets whose counters are in a sum as well: they only tell how much pods differ."""
    before: Mapping[str, tuple[Sample, ...]] = field(default_factory=dict)
    """Where stable's counters of a target stood at the last reading, if it has others now: a process that
    left a sum, or became a part of one."""


class Source(Protocol):
    """Where counters come from: straight scraping of targets, or the Prometheus HTTP API."""

    async def read(self) -> Reading:
        """Return the present state of the counters; a target that fails is reported in it, never raised."""
