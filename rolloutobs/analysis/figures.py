"""What the HTML report plots: traffic, error ratios, latency, evidence. Pure.

Belongs here: which numbers go into which plot. How a plot is drawn is `charts`; real users and checks are
`extras`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rolloutobs.analysis.charts import Axis, Plot, linear_axis, log_axis
from rolloutobs.analysis.history import History, Moment, merged, thinned
from rolloutobs.analysis.model import HistogramPair, MetricVerdict, PairCount, Side, Stratum
from rolloutobs.analysis.wording import duration
from rolloutobs.analysis.words import is_seen, name_of, percent, rates, seconds, stratum_name

__all__ = [
    "Figure",
    "Spread",
    "error_figures",
    "evidence_figures",
    "latency_figures",
    "spread",
    "traffic_figure",
]

_SINCE: Final = "since the canary took traffic"
_POINTS: Final = 90
"""Points of a line over time, at most."""
_PER_POINT: Final = 40
"""Exposures of the quieter track that a point of a share should have, so that the line is not only noise."""
_TRACKS: Final = ("canary", "stable")


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with its words."""

    title: str
    svg: str
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Quantiles of one track's latencies in seconds, from buckets."""

    track: str
    requests: int
    p50: float | None
    p95: float | None
    p99: float | None


# --- over time -----------------------------------------------------------------------------------------


def _times(moments: Sequence[Moment]) -> Axis:
    """Return the axis of time; it ends where the moments do."""
    return linear_axis((v for m in moments for v in (m.start, m.end)), duration, _SINCE, tight=True, most=6)


def _over_time(
    moments: Sequence[Moment],
    signal: str,
    value: Callable[[PairCount, float], tuple[float | None, float | None]],
) -> tuple[list[tuple[float, float | None]], list[tuple[float, float | None]]]:
    """Return the points of canary and stable, in the middle of each moment."""
    canary, stable = [], []
    for moment in moments:
        middle = (moment.start + moment.end) / 2
        pair = moment.counts.get(signal)
        ours, theirs = (None, None) if pair is None else value(pair, moment.end - moment.start)
        canary.append((middle, ours if moment.end > 0 else None))
        stable.append((middle, theirs))
    return canary, stable


def _time_plot(
    moments: Sequence[Moment],
    lines: Sequence[Sequence[tuple[float, float | None]]],
    show: Callable[[float], str],
    title: str,
    least: float,
) -> Plot:
    """Return a plot of canary and stable over time, pre-history shaded; its y axis goes up to `least` at
    least."""
    x = _times(moments)
    y = linear_axis([least, *(v for line in lines for _, v in line if v is not None)], show)
    plot = Plot(x, y, title)
    if x.low < 0:
        plot.shade(x.low, 0.0, "past")
        plot.down(0.0, "canary begins", "mute")
    for points, track in zip(lines, _TRACKS, strict=True):
        plot.line(points, track, track)
    return plot


def traffic_figure(history: History, signal: str) -> Figure | None:
    """Plot requests per second of both tracks; ``None`` without traffic."""
    moments = thinned(history.moments, _POINTS)
    if not any(signal in m.counts for m in moments):
        return None

    def rate(pair: PairCount, span: float) -> tuple[float | None, float | None]:
        return pair.canary_exposures / span, pair.stable_exposures / span

    lines = _over_time(moments, signal, rate)
    plot = _time_plot(moments, lines, lambda v: f"{v:g}", "Requests per second by track over time", 1.0)
    return Figure("Traffic, requests per second", plot.svg())


def error_figures(history: History, metric: MetricVerdict) -> list[Figure]:
    """Plot events per exposure of a signal over time; nothing for a signal that was not seen."""
    seen = [m for m in history.moments if m.counts.get(metric.signal)]
    if not seen:
        return []
    exposures = min(sum(getattr(m.counts[metric.signal], f"{t}_exposures") for m in seen) for t in _TRACKS)
    moments = thinned(seen, int(min(max(exposures / _PER_POINT, 6), _POINTS // 2)))
    lines = _over_time(moments, metric.signal, lambda pair, _: rates(pair))
    title = f"{metric.title[:1].upper()}{metric.title[1:]} over time, share"
    return [Figure(title, _time_plot(moments, lines, percent, title, 0.02).svg())]


# --- evidence ------------------------------------------------------------------------------------------

_SIDES: Final = (
    (Side.ROLLBACK, "against", "bad"),
    (Side.GUARD, "guard", "guard"),
    (Side.PROMOTE, "for", "good"),
)


def evidence_figures(history: History, metrics: Iterable[MetricVerdict]) -> list[Figure]:
    """Plot the evidence of each signal over time with its thresholds, both sides in one plot."""
    moments = thinned([m for m in history.moments if m.evidence], 4 * _POINTS)
    return [_evidence_figure(moments, metric) for metric in metrics if moments and is_seen(metric)]


def _evidence_figure(moments: Sequence[Moment], metric: MetricVerdict) -> Figure:
    thresholds = {e.side: e.threshold for e in metric.evidence if math.isfinite(e.threshold)}
    drawn = [(side, label, css) for side, label, css in _SIDES if side in thresholds]
    lines = {side: _nats(moments, metric.signal, side) for side, _, _ in drawn}
    values = [v for line in lines.values() for _, v in line if v is not None]
    highest = max((*thresholds.values(), 1.0))
    top = min(max(highest * 1.3, *values, 0.0), highest * 3)
    bottom = max(min(values, default=0.0), -top)
    plot = Plot(
        _times(moments),
        linear_axis((bottom, top), lambda v: f"{v:g}"),
        f"Evidence on {metric.title} over time",
    )
    for side, label, css in drawn:
        plot.across(thresholds[side], f"{_decides(metric, side)} at {thresholds[side]:.1f}", css)
        plot.line(lines[side], css, label)
    return Figure(name_of(metric), plot.svg())


def _decides(metric: MetricVerdict, side: Side) -> str:
    if side is Side.PROMOTE:
        return "proven" if metric.required else "proof (not required)"
    return "blatant" if side is Side.GUARD else "decides against"


def _nats(moments: Sequence[Moment], signal: str, side: Side) -> list[tuple[float, float | None]]:
    points = [(m.end, m.evidence.get(signal, {}).get(side)) for m in moments]
    return [(at, None if value is None or not math.isfinite(value) else value) for at, value in points]


# --- latency -------------------------------------------------------------------------------------------


def latency_figures(
    history: History, metric: MetricVerdict, most: int = 4
) -> list[tuple[Figure, list[Spread]]]:
    """Plot the latency distribution of all routes, and of those that are most suspicious or busiest.

    Returns:
        Each plot with the quantiles of both tracks.
    """
    by_stratum = history.histograms.get(metric.signal, {})
    pooled: HistogramPair | None = None
    for pair in by_stratum.values():
        pooled = merged(pooled, pair)
    if pooled is None:
        return []
    busiest = sorted(by_stratum, key=lambda s: -sum(by_stratum[s].canary))
    shown: list[Stratum] = [
        each.stratum for each in metric.worst if each.stratum in by_stratum and each.nats > 0
    ]
    shown += [stratum for stratum in busiest if stratum not in shown]
    found = [_latency("all routes", pooled, metric.bound)]
    if len(by_stratum) > 1:
        found += [_latency(stratum_name(s), by_stratum[s], metric.bound) for s in shown[: most - 1]]
    return found


def _latency(name: str, whole: HistogramPair, bound: float | None) -> tuple[Figure, list[Spread]]:
    pair = _trimmed(whole)
    edges = _edges(pair)
    sides = {"stable": pair.stable, "canary": pair.canary}
    shares = {side: [c / max(sum(counts), 1) for c in counts] for side, counts in sides.items()}
    top = linear_axis([v for each in shares.values() for v in each], percent)
    plot = Plot(log_axis(edges[0], edges[-1], seconds, "duration"), top, f"Latency of {name} by track")
    for side, heights in shares.items():
        plot.steps(edges, heights, side, side)
    if bound is not None and edges[0] < bound < edges[-1]:
        plot.down(bound, seconds(bound), "mute")
    spreads = [spread(side, whole.bounds, getattr(whole, side)) for side in ("canary", "stable")]
    return Figure(name, plot.svg()), spreads


def _trimmed(pair: HistogramPair) -> HistogramPair:
    """Leave out the empty buckets at both ends, but for one, so that the plot shows what there is."""
    used = [i for i, (a, b) in enumerate(zip(pair.canary, pair.stable, strict=True)) if a or b]
    low, high = max(used[0] - 1, 0), min(used[-1] + 1, len(pair.bounds))
    if high - low < 2:
        return pair
    kept = slice(low, high + 1)
    return HistogramPair(pair.bounds[low:high], pair.canary[kept], pair.stable[kept])


def _edges(pair: HistogramPair) -> list[float]:
    """Return bucket edges for a logarithmic axis: the first and last bucket get a width like their
    neighbours'."""
    bounds = pair.bounds
    factor = bounds[1] / bounds[0] if len(bounds) > 1 and bounds[0] > 0 else 2.0
    first = bounds[0] if bounds[0] > 0 else 1e-3
    return [first / factor, *(max(b, first) for b in bounds), bounds[-1] * factor]


def spread(track: str, bounds: Sequence[float], counts: Sequence[int]) -> Spread:
    """Return quantiles from buckets (not cumulative), interpolated linearly inside a bucket.

    A quantile above the last bound is not known: ``inf``. Without requests all are ``None``.
    """
    total = sum(counts)
    p50, p95, p99 = (quantile(bounds, counts, q) for q in (0.5, 0.95, 0.99))
    return Spread(track, total, p50, p95, p99)


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """Return one quantile, as `spread` does."""
    rank = share * sum(counts)
    below = 0
    if rank <= 0:
        return None
    for i, inside in enumerate(counts[: len(bounds)]):
        if below + inside >= rank and inside:
            left = bounds[i - 1] if i else 0.0
            return left + (bounds[i] - left) * (rank - below) / inside
        below += inside
    return math.inf


def routes(history: History, signal: str) -> list[tuple[str, PairCount]]:
    """Return the counts of each stratum of a signal, busiest on the canary first."""
    strata = history.strata.get(signal, {})
    order = sorted(strata, key=lambda s: (-strata[s].canary_exposures, s))
    return [(stratum_name(s), strata[s]) for s in order]
