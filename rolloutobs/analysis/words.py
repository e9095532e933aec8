"""Counts, rates and ratios in the words of reports, in the style of the verdict's sentences. Pure."""

from __future__ import annotations

import math

from rolloutobs.analysis.model import MetricVerdict, Outcome, PairCount, Ratio, ResourceVerdict, Stratum
from rolloutobs.analysis.wording import amount, bound_text, duration, number, seconds_bound, stratum_text
from rolloutobs.analysis.wording import percent as _percent

__all__ = [
    "UNKNOWN",
    "bound_of",
    "count",
    "interval",
    "is_seen",
    "name_of",
    "nats",
    "of",
    "outcome_of",
    "percent",
    "rates",
    "seconds",
    "stratum_name",
    "times",
    "used",
]

UNKNOWN = "–"
"""What stands where nothing is known."""


def count(value: float) -> str:
    """Return a count with groups of thousands: ``12,345``."""
    return f"{value:,.0f}"


def percent(value: float | None) -> str:
    """Return a ratio from 0 to 1 as percent with two significant digits."""
    return UNKNOWN if value is None or math.isnan(value) else _percent(value)


def seconds(value: float | None) -> str:
    """Return a latency: ``380 ms``, ``1.2 s``."""
    return UNKNOWN if value is None or math.isnan(value) else seconds_bound(value)


def times(value: float | None) -> str:
    """Return a ratio of canary to stable: ``4.1x``."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return "∞" if math.isinf(value) else f"{number(value)}x"


def interval(ratio: Ratio) -> str:
    """Return the bounds of a ratio: ``1.9 to 9.2``, ``at least 1.9``, or the empty string."""
    if ratio.low is None and ratio.high is None:
        return ""
    if ratio.high is None or math.isinf(ratio.high):
        return f"at least {number(ratio.low or 0.0)}"
    return f"{number(ratio.low or 0.0)} to {number(ratio.high)}"


def nats(value: float) -> str:
    """Return evidence with one decimal, without a negative zero."""
    return f"{round(value, 1) + 0.0:.1f}"


def of(events: float, exposures: float) -> str:
    """Return ``31 of 410``."""
    return f"{count(events)} of {count(exposures)}"


def rates(pair: PairCount) -> tuple[float | None, float | None]:
    """Return canary's and stable's events per exposure; ``None`` where there was no exposure."""
    canary = pair.canary_events / pair.canary_exposures if pair.canary_exposures else None
    stable = pair.stable_events / pair.stable_exposures if pair.stable_exposures else None
    return canary, stable


def stratum_name(stratum: Stratum) -> str:
    """Return the values of a stratum: ``POST /checkout``; without labels it is ``all``."""
    return stratum_text(stratum) if stratum else "all"


def is_seen(metric: MetricVerdict) -> bool:
    """Tell whether a signal had any exposure at all, on either track."""
    return bool(metric.total.canary_exposures or metric.total.stable_exposures)


def outcome_of(metric: MetricVerdict) -> str:
    """Return the outcome in one word: ``pass``, ``fail``, ``error``, ``open`` or ``unseen``."""
    if metric.outcome is Outcome.INCONCLUSIVE:
        return "open" if is_seen(metric) else "unseen"
    return metric.outcome.value


def used(found: ResourceVerdict) -> str:
    """Return what processes use: ``memory: 210 MiB of memory against 180 MiB of memory ...``."""
    against = "of a limit of" if found.resource == "memory_growth" else "against"
    mine, theirs = (amount(value, found.resource) for value in (found.canary, found.stable))
    older = "" if found.same_age else ", stable's are older"
    name = found.resource.replace("_", " ")
    return f"{name} per process: {mine} {against} {theirs} (age {duration(found.age_seconds)}{older})"


def name_of(metric: MetricVerdict) -> str:
    """Return the title of a signal, for latency with the bound it speaks of: ``slow answers (> 380 ms)``."""
    return metric.title if metric.bound is None else f"{metric.title} (> {bound_of(metric)})"


def bound_of(metric: MetricVerdict) -> str:
    """Return the bucket bound that a metric speaks of, in its unit."""
    return UNKNOWN if metric.bound is None else bound_text(metric.bound, metric.bound_unit)
