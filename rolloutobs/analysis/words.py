"""Numbers, times and strata in the words of reports. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rolloutobs.analysis.model import MetricVerdict, PairCount, Ratio, Stratum

__all__ = [
    "count",
    "duration",
    "interval",
    "name_of",
    "of",
    "percent",
    "rates",
    "seconds",
    "stratum_name",
    "times",
]


def count(value: float) -> str:
    """Return a count with thin groups of thousands: ``12 345``."""
    return f"{value:,.0f}".replace(",", "\u202f")


def percent(value: float | None) -> str:
    """Return a ratio from 0 to 1 as percent with two significant digits; ``None`` or NaN: a dash."""
    if value is None or math.isnan(value):
        return "–"
    shown = value * 100
    if shown == 0 or shown >= 99.95:
        return f"{shown:.0f} %"
    digits = 1 if shown >= 9.95 else min(4, max(1, 1 - math.floor(math.log10(shown))))
    return f"{shown:.{digits}f} %"


def seconds(value: float | None) -> str:
    """Return a latency: ``380 ms``, ``1.2 s``."""
    if value is None:
        return "–"
    if value < 0.9995:
        return f"{value * 1000:.3g} ms"
    return f"{value:.3g} s"


def duration(value: float) -> str:
    """Return a time span: ``41 s``, ``12 min 30 s``, ``2 h 05 min``."""
    whole = round(abs(value))
    sign = "-" if value < 0 and whole else ""
    if whole < 120:
        return f"{sign}{whole} s"
    if whole < 7200:
        return f"{sign}{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    return f"{sign}{whole // 3600} h {whole % 3600 // 60:02d} min"


def times(value: float | None) -> str:
    """Return a ratio of canary to stable: ``4.1x``; ``None``: a dash."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value >= 9.95:
        return f"{value:.0f}x"
    return f"{value:.1f}x" if value >= 0.995 else f"{value:.2f}x"


def interval(ratio: Ratio) -> str:
    """Return the bounds of a ratio: ``1.9x to 9.2x``, ``at least 1.9x``, or the empty string."""
    if ratio.low is None and ratio.high is None:
        return ""
    if ratio.high is None or math.isinf(ratio.high):
        return f"at least {times(ratio.low)}"
    return f"{times(ratio.low or 0.0)} to {times(ratio.high)}"


def of(events: float, exposures: float) -> str:
    """Return ``31 of 410``."""
    return f"{count(events)} of {count(exposures)}"


def rates(pair: PairCount) -> tuple[float | None, float | None]:
    """Return canary's and stable's events per exposure; ``None`` where there was no exposure."""
    canary = pair.canary_events / pair.canary_exposures if pair.canary_exposures else None
    stable = pair.stable_events / pair.stable_exposures if pair.stable_exposures else None
    return canary, stable


def stratum_name(stratum: Stratum) -> str:
    """Return the values of a stratum: ``POST /checkout``; the empty stratum is ``all``."""
    return " ".join(_values(stratum)) or "all"


def _values(stratum: Stratum) -> Iterable[str]:
    for label, value in stratum:
        if value:
            yield value
        elif label == "route":
            yield "(no route)"


def name_of(metric: MetricVerdict) -> str:
    """Return the title of a signal, for latency with the bound it speaks of: ``slow answers (> 380 ms)``."""
    return metric.title if metric.bound is None else f"{metric.title} (> {seconds(metric.bound)})"
