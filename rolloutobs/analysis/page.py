"""The report as one self-contained HTML page: no script, no external resource, light and dark. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from rolloutobs._version import __version__
from rolloutobs.analysis import extras, figures
from rolloutobs.analysis.model import Decision, Evidence, MetricVerdict, PairCount, Ratio, Side
from rolloutobs.analysis.report import Report, strongest
from rolloutobs.analysis.wording import duration
from rolloutobs.analysis.words import (
    count,
    interval,
    is_seen,
    name_of,
    nats,
    of,
    outcome_of,
    percent,
    rates,
    seconds,
    stratum_name,
    times,
)

__all__ = ["to_html"]

_NOTHING: Final = Markup()
_FOREST_LOW: Final = 1 / 8
_FOREST_HIGH: Final = 32.0
"""The range of ratios that is drawn; the mixture of the engine looks for at most 32 times as often."""
_FOREST_WIDTH: Final = 150.0


@dataclass(frozen=True, slots=True)
class _Gauge:
    """Evidence as a bar."""

    share: float
    """Of the way to the threshold, from 0 to 1."""
    text: str
    reached: bool


@dataclass(frozen=True, slots=True)
class _Row:
    """One signal in the table."""

    name: str
    outcome: str
    css: str
    required: bool
    canary: str
    canary_rate: str
    stable: str
    stable_rate: str
    ratio: str
    interval: str
    forest: str
    against: _Gauge | None
    proof: _Gauge | None
    note: str


@dataclass(frozen=True, slots=True)
class _Route:
    """One stratum with both tracks, as bars on one scale."""

    name: str
    canary: str
    stable: str
    canary_share: float
    stable_share: float
    canary_of: str
    stable_of: str


def to_html(report: Report, *, above: Markup = _NOTHING, below: Markup = _NOTHING) -> str:
    """Return the page; a bake comes before the rollout that it followed.

    Args:
        report: what is shown.
        above: HTML that goes before it.
        below: HTML that goes after it.
    """
    phases = [_phase(report, "The rollout, until it was promoted")]
    if report.bake is not None:
        phases.insert(0, _phase(report.bake, "The bake, after promotion"))
    latest = report.bake or report
    return _template().render(
        report=report,
        verdict=latest.verdict,
        above=above,
        below=below,
        version=__version__,
        began=_local(report.began),
        took=duration(max(latest.ended - report.began, 0.0)),
        canary_took=duration(max(latest.verdict.at, 0.0)),
        phases=phases,
    )


def _phase(report: Report, title: str) -> dict[str, Any]:
    """Return what the template shows of a rollout, or of the bake after it."""
    verdict, history = report.verdict, report.history
    latency = [m for m in verdict.metrics if m.signal in history.histograms]
    counted = [m for m in verdict.metrics if _has_events(history.strata.get(m.signal, {}).values())]
    traffic = next((m.signal for m in verdict.metrics), "")
    return {
        "title": title,
        "verdict": verdict,
        "took": duration(max(report.ended - report.began, 0.0)),
        "undecided": report.decision is Decision.HOLD and report.bake is None,
        "interrupted": report.interrupted,
        "notes": report.notes,
        "rows": [_row(metric) for metric in verdict.metrics if metric.required or is_seen(metric)],
        "unseen": [m.title for m in verdict.metrics if not (m.required or is_seen(m))],
        "traffic": figures.traffic_figure(history, traffic),
        "errors": [figure for metric in counted for figure in figures.error_figures(history, metric)],
        "routes": [(name_of(m), _routes(figures.routes(history, m.signal))) for m in counted],
        "latency": [(name_of(m), figures.latency_figures(history, m)) for m in latency],
        "evidence": figures.evidence_figures(history, verdict.metrics),
        "worst": [(m, each) for m in verdict.metrics for each in m.worst if each.nats > 0],
        "views": extras.page_views(history),
        "vitals": extras.vitals(history),
        "js_errors": extras.js_errors(history)[:10],
        "events": extras.events(history),
        "checks": extras.checks(history),
    }


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("rolloutobs.analysis"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=count,
        nats=nats,
        percent=percent,
        seconds=seconds,
        times=times,
        stratum=stratum_name,
        duration=duration,
    )
    environment.globals.update(rates=rates, of=of, float_inf=math.inf, safe=Markup)
    return environment.get_template("report.html.j2")


def _has_events(pairs: Iterable[PairCount]) -> bool:
    """Tell whether a plot of a signal would show more than two lines at zero."""
    return any(pair.canary_events or pair.stable_events for pair in pairs)


def _local(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _row(metric: MetricVerdict) -> _Row:
    total = metric.total
    canary, stable = rates(total)
    return _Row(
        name=name_of(metric),
        outcome=outcome_of(metric),
        css=metric.outcome.value,
        required=metric.required,
        canary=of(total.canary_events, total.canary_exposures),
        canary_rate=percent(canary),
        stable=of(total.stable_events, total.stable_exposures),
        stable_rate=percent(stable),
        ratio=times(metric.ratio.estimate),
        interval=interval(metric.ratio),
        forest=_forest(metric.ratio),
        against=_gauge(strongest(metric.evidence, (Side.ROLLBACK, Side.GUARD))),
        proof=_gauge(strongest(metric.evidence, (Side.PROMOTE,))),
        note=metric.note,
    )


def _gauge(evidence: Evidence | None) -> _Gauge | None:
    if evidence is None:
        return None
    share = min(max(evidence.nats / evidence.threshold, 0.0), 1.0) if evidence.threshold > 0 else 1.0
    text = f"{nats(evidence.nats)} of {nats(evidence.threshold)}"
    return _Gauge(share, text, evidence.nats >= evidence.threshold)


def _forest(ratio: Ratio) -> str:
    """Return the ratio with its bounds on a logarithmic scale, drawn to fit into a row."""
    if ratio.estimate is None and ratio.low is None and ratio.high is None:
        return ""
    one = _place(1.0)
    low, high = _place(ratio.low), _place(math.inf if ratio.high is None else ratio.high)
    dot = "" if ratio.estimate is None else f'<circle cx="{_place(ratio.estimate):.1f}" cy="9" r="4"/>'
    return (
        f'<svg class="forest" viewBox="0 0 {_FOREST_WIDTH:g} 18" aria-hidden="true">'
        f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="0" y2="18"/>'
        f'<line class="bounds" x1="{low:.1f}" x2="{high:.1f}" y1="9" y2="9"/>{dot}</svg>'
    )


def _place(ratio: float | None) -> float:
    inside = min(max(ratio or 0.0, _FOREST_LOW), _FOREST_HIGH)
    share = math.log(inside / _FOREST_LOW) / math.log(_FOREST_HIGH / _FOREST_LOW)
    return 5 + share * (_FOREST_WIDTH - 10)


def _routes(found: Sequence[tuple[str, PairCount]], most: int = 12) -> list[_Route]:
    """Return the strata with most canary traffic; the longest bar is the highest rate of all."""
    shown = found[:most]
    highest = max((rate for _, pair in shown for rate in rates(pair) if rate is not None), default=0.0) or 1.0

    def route(name: str, pair: PairCount) -> _Route:
        canary, stable = rates(pair)
        return _Route(
            name,
            percent(canary),
            percent(stable),
            (canary or 0.0) / highest,
            (stable or 0.0) / highest,
            of(pair.canary_events, pair.canary_exposures),
            of(pair.stable_events, pair.stable_exposures),
        )

    return [route(name, pair) for name, pair in shown]
