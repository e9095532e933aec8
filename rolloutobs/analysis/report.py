"""The report of an analysis: as text for a terminal, as JSON for machines. The HTML page is `page`. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rolloutobs._version import __version__
from rolloutobs.analysis.conclusion import Override, Report, exit_code
from rolloutobs.analysis.history import Moment, thinned
from rolloutobs.analysis.model import (
    Decision,
    Evidence,
    MetricVerdict,
    Outcome,
    PairCount,
    Side,
    StratumVerdict,
    Verdict,
)
from rolloutobs.analysis.wording import duration
from rolloutobs.analysis.words import (
    UNKNOWN,
    bound_of,
    count,
    interval,
    is_seen,
    nats,
    of,
    outcome_of,
    percent,
    rates,
    stratum_name,
    times,
    used,
)

__all__ = ["SCHEMA", "Override", "Paint", "Report", "exit_code", "to_json", "to_mapping", "to_text"]

SCHEMA: Final = 1
"""Version of the JSON report: fields are added under the same number, and removed or changed under the
next."""

_MOMENTS: Final = 240
"""Moments in the JSON report, at most."""

Paint = Callable[[str, str], str]
"""Colours a text in a style: ``good``, ``bad``, ``undecided``, ``canary``, ``stable``, ``faint`` or
``strong``."""


# --- JSON ----------------------------------------------------------------------------------------------


def to_json(report: Report) -> str:
    """Return the report as JSON; what is not known, or not finite, is ``null``."""
    return json.dumps(to_mapping(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_mapping(report: Report) -> dict[str, Any]:
    """Return the report as plain data, the stable schema of the JSON report."""
    verdict = report.verdict
    return {
        "schema": SCHEMA,
        "tool": f"rolloutobs {__version__}",
        "decision": report.decision.value,
        "reason": report.reason,
        "decided_by": report.decided_by or None,
        "exit_code": exit_code(report.decision),
        "interrupted": report.interrupted,
        "page": report.is_page,
        "owner": report.rails.owner or None,
        "guard_rails": {"rollback": report.rails.rollback.value, "why": report.rails.why or None},
        "override": None
        if report.override is None
        else {
            "decision": report.override.decision.value,
            "reason": report.override.reason,
            "who": report.override.who or None,
            "evidence_decision": verdict.decision.value,
        },
        "bake": None
        if report.bake is None
        else {
            "outcome": report.bake.as_bake().value,
            "reason": report.bake.verdict.reason,
            "decided_by": report.bake.verdict.decided_by or None,
            "interrupted": report.bake.interrupted,
            **_phase(report.bake),
        },
        "app": report.app or None,
        **_phase(report),
    }


def _phase(report: Report) -> dict[str, Any]:
    """Return what there is to tell of a rollout, or of the bake after it."""
    verdict = report.verdict
    return {
        "canary_version": verdict.canary_version or None,
        "stable_version": verdict.stable_version or None,
        "began": _timestamp(report.began),
        "ended": _timestamp(report.ended),
        "canary_seconds": _finite(verdict.at),
        "requests": _pair(verdict.requests),
        "metrics": [_metric(metric) for metric in verdict.metrics],
        "missing": [
            {
                "signal": each.signal,
                "reason": each.reason,
                "nats": _finite(each.nats),
                "eta_seconds": _finite(each.eta_seconds),
                "canary_exposures": _finite(each.exposures),
                "canary_share": _finite(each.share),
            }
            for each in verdict.missing
        ],
        "resources": [asdict(each) for each in verdict.resources],
        "holds": list(verdict.holds),
        "notes": list(report.notes),
        "displays": {
            name: [
                {"track": key[0], "labels": list(key[1:]), "count": n} for key, n in sorted(counts.items())
            ]
            for name, counts in sorted(report.history.displays.items())
            if not name.endswith("_durations")
        },
        "history": [_moment(moment) for moment in thinned(report.history.moments, _MOMENTS)],
    }


def _timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _pair(pair: PairCount) -> dict[str, Any]:
    canary, stable = rates(pair)
    return {
        "canary": {
            "events": pair.canary_events,
            "exposures": pair.canary_exposures,
            "ratio": _finite(canary),
        },
        "stable": {
            "events": pair.stable_events,
            "exposures": pair.stable_exposures,
            "ratio": _finite(stable),
        },
    }


def _metric(metric: MetricVerdict) -> dict[str, Any]:
    return {
        "signal": metric.signal,
        "title": metric.title,
        "outcome": metric.outcome.value,
        "required": metric.required,
        "bound_seconds": _finite(metric.bound) if metric.bound_unit == "s" else None,
        "bound": _finite(metric.bound),
        "bound_unit": metric.bound_unit,
        "total": _pair(metric.total),
        "ratio": _ratio(metric),
        "evidence": {
            e.side.value: {"nats": _finite(e.nats), "threshold": _finite(e.threshold)}
            for e in metric.evidence
        },
        "worst": [
            {
                "stratum": dict(each.stratum),
                "total": _pair(each.total),
                "nats": _finite(each.nats),
                "ratio": _ratio(each),
            }
            for each in metric.worst
        ],
        "note": metric.note or None,
    }


def _ratio(owner: MetricVerdict | StratumVerdict) -> dict[str, Any]:
    ratio = owner.ratio
    return {
        "estimate": _finite(ratio.estimate),
        "low": _finite(ratio.low),
        "high": _finite(ratio.high),
        "confidence": _finite(ratio.confidence),
    }


def _moment(moment: Moment) -> dict[str, Any]:
    return {
        "start": round(moment.start, 3),
        "end": round(moment.end, 3),
        "stale": sorted(moment.stale),
        "counts": {name: _pair(pair) for name, pair in moment.counts.items()},
        "evidence": {
            name: {side.value: _finite(nats) for side, nats in sides.items()}
            for name, sides in moment.evidence.items()
        },
    }


# --- text ----------------------------------------------------------------------------------------------

_DECISION_STYLE: Final[Mapping[Decision, str]] = {
    Decision.PROMOTE: "good",
    Decision.ROLLBACK: "bad",
    Decision.HOLD: "undecided",
}
_OUTCOME_STYLE: Final[Mapping[Outcome, str]] = {
    Outcome.PASS: "good",
    Outcome.FAIL: "bad",
    Outcome.INCONCLUSIVE: "faint",
    Outcome.ERROR: "undecided",
}


def plain(text: str, style: str) -> str:
    """Return `text` without colour."""
    del style
    return text


def to_text(report: Report, paint: Paint = plain, *, worst: bool = False) -> str:
    """Return the report for a terminal: a table of all signals, what is missing, and the sentence, last.

    Args:
        report: what to tell.
        paint: how to colour it.
        worst: also list the most suspicious strata of each signal.
    """
    verdict = report.verdict
    lines = [*_heading(report, paint), "", *table(verdict, paint)]
    if worst:
        lines += _worst(verdict)
    lines += [f"  {used(each)}" for each in verdict.resources]
    lines += [f"  {m.signal}: {m.note}" for m in verdict.metrics if m.note and is_seen(m)]
    holds = verdict.holds if report.decision is Decision.HOLD and report.bake is None else ()
    lines += [f"  - {paint(text, 'undecided')}" for text in (*holds, *report.notes)]
    if report.bake is not None:
        bake = report.bake
        lines += ["", *_heading(bake, paint, "after promotion, "), "", *table(bake.verdict, paint)]
        lines += [f"  - {paint(text, 'undecided')}" for text in bake.notes]
    elif report.interrupted and verdict.decision is Decision.HOLD:
        lines.append("  - stopped before it was decided")
    style = "bad" if report.is_page else _DECISION_STYLE[report.decision]
    return "\n".join([*lines, "", paint(report.reason, style)]) + "\n"


def _heading(report: Report, paint: Paint, phase: str = "") -> list[str]:
    verdict = report.verdict
    canary = paint(f"canary {verdict.canary_version or '?'}", "canary")
    stable = paint(f"stable {verdict.stable_version or '?'}", "stable")
    requests = verdict.requests
    owner = f" (owner: {report.rails.owner})" if report.rails.owner else ""
    return [
        f"{report.app or 'app'}{owner}: {phase}{canary} against {stable}, "
        f"{duration(max(verdict.at, 0.0))} of canary traffic, {count(requests.canary_exposures)} and "
        f"{count(requests.stable_exposures)} requests"
    ]


def table(verdict: Verdict, paint: Paint = plain) -> list[str]:
    """Return a table with a row per signal: outcome, both tracks, ratio, evidence against and for the
    canary.

    Signals of which nothing was seen, and which nobody asked for, are named below it.
    """
    if not verdict.metrics:
        return ["  no signal has been compared yet"]
    shown = [metric for metric in verdict.metrics if metric.required or is_seen(metric)]
    head = ("signal", "", "canary", "stable", "ratio", "against", "for")
    rows = [head] + [_row(metric) for metric in shown]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = []
    for number, row in enumerate(rows):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number == 0:
            lines.append(paint("  " + "  ".join(cells).rstrip(), "faint"))
            continue
        metric = shown[number - 1]
        cells[1] = paint(cells[1], _OUTCOME_STYLE[metric.outcome])
        cells[2], cells[3] = paint(cells[2], "canary"), paint(cells[3], "stable")
        lines.append("  " + "  ".join(cells).rstrip())
    unseen = [metric.signal for metric in verdict.metrics if metric not in shown]
    if unseen:
        lines.append(paint(f"  nothing was seen of: {', '.join(unseen)}", "faint"))
    return lines


def _row(metric: MetricVerdict) -> tuple[str, ...]:
    total = metric.total
    canary, stable = rates(total)
    bounds = interval(metric.ratio)
    name = metric.signal if metric.bound is None else f"{metric.signal} > {bound_of(metric)}"
    return (
        name,
        outcome_of(metric),
        f"{of(total.canary_events, total.canary_exposures)} ({percent(canary)})",
        f"{of(total.stable_events, total.stable_exposures)} ({percent(stable)})",
        times(metric.ratio.estimate) + (f" ({bounds})" if bounds else ""),
        _gauge(strongest(metric.evidence, (Side.ROLLBACK, Side.GUARD))),
        _gauge(strongest(metric.evidence, (Side.PROMOTE,))),
    )


def strongest(evidence: Iterable[Evidence], sides: Sequence[Side]) -> Evidence | None:
    """Return the evidence of these sides that is nearest to its threshold; ``None``: there is none."""
    found = [e for e in evidence if e.side in sides and math.isfinite(e.threshold) and not math.isnan(e.nats)]
    return max(found, key=lambda e: e.nats - e.threshold, default=None)


def _gauge(evidence: Evidence | None) -> str:
    return UNKNOWN if evidence is None else f"{nats(evidence.nats)} of {nats(evidence.threshold)}"


def bar(share: float, cells: int) -> str:
    """Return a bar of `cells` characters that is full at 1; eighths of a cell are drawn."""
    eighths = round(min(max(share, 0.0), 1.0) * cells * 8) if math.isfinite(share) else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")).ljust(cells, "·")


def _worst(verdict: Verdict) -> list[str]:
    lines = []
    for metric in verdict.metrics:
        for each in (found for found in metric.worst if found.nats > 0):
            canary, stable = rates(each.total)
            lines.append(
                f"    {metric.signal} on {stratum_name(each.stratum)}: {percent(canary)} against "
                f"{percent(stable)}, {times(each.ratio.estimate)}, {nats(each.nats)} nats"
            )
    return ["", "  most suspicious:", *lines] if lines else []
