"""The report as Markdown, for a comment on a pull request or a job summary. Pure."""

from __future__ import annotations

from typing import Final

from rolloutobs.analysis.model import Decision, Evidence, MetricVerdict, Side
from rolloutobs.analysis.report import Report, strongest
from rolloutobs.analysis.wording import duration
from rolloutobs.analysis.words import (
    UNKNOWN,
    count,
    interval,
    is_seen,
    name_of,
    nats,
    of,
    outcome_of,
    percent,
    rates,
    stratum_name,
    times,
)

__all__ = ["to_markdown"]

_BADGES: Final = {Decision.PROMOTE: "🟢", Decision.ROLLBACK: "🔴", Decision.HOLD: "🟡"}
_SPECIAL: Final = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{char: f"\\{char}" for char in "\\`*_[]|#~"}}
)


def to_markdown(report: Report) -> str:
    """Return the report: decision and sentence first, a table of the signals, and the rest folded away.

    What comes from outside (routes, versions, names) is escaped, so that it cannot become a link or a tag.
    """
    verdict = report.verdict
    badge = _BADGES[Decision.ROLLBACK if report.is_page else report.decision]
    title = f"{badge} {report.decision.name}{', PAGE' if report.is_page else ''}"
    versions = f"canary {verdict.canary_version or '?'} against stable {verdict.stable_version or '?'}"
    requests = verdict.requests
    lines = [
        f"### {title}: {_plain(report.app or 'app')}, {_plain(versions)}",
        "",
        _plain(report.reason),
        "",
        f"{duration(max(verdict.at, 0.0))} of canary traffic, {count(requests.canary_exposures)} requests of "
        f"the canary and {count(requests.stable_exposures)} of stable.{_owner(report)}",
        "",
        "| signal | | canary | stable | ratio | against | for |",
        "|---|---|---|---|---|---|---|",
        *(_row(metric) for metric in verdict.metrics if is_seen(metric)),
    ]
    unseen = [metric.signal for metric in verdict.metrics if not is_seen(metric)]
    if unseen:
        lines += ["", f"Nothing was seen of: {_plain(', '.join(unseen))}."]
    lines += _folded("Most suspicious", _worst(report))
    holds = verdict.holds if report.decision is Decision.HOLD else ()
    lines += _folded("Holds and notes", [_plain(text) for text in (*holds, *report.notes)])
    return "\n".join(lines) + "\n"


def _owner(report: Report) -> str:
    return f" Owner: {_plain(report.rails.owner)}." if report.rails.owner else ""


def _row(metric: MetricVerdict) -> str:
    canary, stable = rates(metric.total)
    bounds = interval(metric.ratio)
    name = name_of(metric)
    cells = (
        _plain(name),
        outcome_of(metric),
        f"{of(metric.total.canary_events, metric.total.canary_exposures)} ({percent(canary)})",
        f"{of(metric.total.stable_events, metric.total.stable_exposures)} ({percent(stable)})",
        times(metric.ratio.estimate) + (f" ({bounds})" if bounds else ""),
        _gauge(strongest(metric.evidence, (Side.ROLLBACK, Side.GUARD))),
        _gauge(strongest(metric.evidence, (Side.PROMOTE,))),
    )
    return f"| {' | '.join(cells)} |"


def _gauge(evidence: Evidence | None) -> str:
    return UNKNOWN if evidence is None else f"{nats(evidence.nats)} of {nats(evidence.threshold)} nats"


def _worst(report: Report) -> list[str]:
    found = []
    for metric in report.verdict.metrics:
        for each in (stratum for stratum in metric.worst if stratum.nats > 0):
            canary, stable = rates(each.total)
            found.append(
                f"{_plain(metric.signal)} on {_plain(stratum_name(each.stratum))}: {percent(canary)} against "
                f"{percent(stable)}, {times(each.ratio.estimate)}, {nats(each.nats)} nats"
            )
    return found


def _folded(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    return [
        "",
        f"<details><summary>{title}</summary>",
        "",
        *(f"- {line}" for line in lines),
        "",
        "</details>",
    ]


def _plain(text: str) -> str:
    return " ".join(text.split()).translate(_SPECIAL).replace("@", "@\u200b")
