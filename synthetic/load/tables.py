"""How a load's results are told: text for people, plain data, JUnit, Markdown and one page for machines and
readers.

Belongs here: rendering. Decides nothing.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from synthetic.junit import xml_safe
from synthetic.load.histogram import Histogram
from synthetic.load.judging import QUANTILES, Bounds, LoadVerdict
from synthetic.load.results import LoadResult, TrackLoad
from synthetic.result import ExitCode

__all__ = ["load_as_dict", "load_html", "load_junit", "load_markdown", "load_text", "progress_line"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2330; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #e3e6ec }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.product { color: #c0392b } .pass { color: #2e8b57 } .infrastructure, .inconclusive { color: #9a7400 }
svg { width: 100%; height: auto } svg text { font: 11px system-ui, sans-serif; fill: #556 }
"""
_COLORS = {"stable": "#4c78a8", "canary": "#e4862b"}
_WIDTH, _HEIGHT, _LEFT = 900.0, 220.0, 60.0


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.0f} ms"


def progress_line(result: LoadResult) -> str:
    """Return what there is so far, in one line."""
    sides = "; ".join(
        f"{load.name} {load.requests} requests, {load.failures} failed, "
        f"p99 {_time(load.corrected.quantile(0.99))}"
        for load in result.tracks
    )
    return f"{result.seconds:4.0f} s: {sides}"


def load_text(result: LoadResult, verdict: LoadVerdict | None) -> str:
    """Return a load as a table with a line per track, the commonest errors, and the verdict if there is
    one."""
    lines = [f"{'track':<9}{'version':<13}{'requests':>9}{'failed':>9}{'p50':>10}{'p95':>10}{'p99':>10}"]
    for load in result.tracks:
        times = "".join(f"{_time(load.corrected.quantile(share)):>10}" for share in QUANTILES)
        lines.append(f"{load.name:<9}{load.version or '-':<13}{load.requests:>9}{load.failures:>9}{times}")
    if verdict is not None:
        told = ", ".join(_ratio_text(f"p{share * 100:g}", verdict.ratios[share]) for share in verdict.ratios)
        lines.append(f"  canary / stable: {told}")
    for load in result.tracks:
        worst = sorted(load.errors.items(), key=lambda each: -each[1])[:3]
        lines += [f"  {load.name}: {count} x {text}" for text, count in worst]
    lines += [f"  {count} x {text}" for text, count in list(result.problems.items())[:3]]
    if result.stopped:
        lines.append("stopped before its time was up")
    if verdict is not None:
        lines += [f"  {each.code.name.lower():<15} {each.text}" for each in verdict.findings]
        lines.append(f"=> {verdict.code.name.lower()}: {verdict.reason}")
    return "\n".join(lines)


def _ratio_text(name: str, ratio: Bounds) -> str:
    if ratio.value is None:
        return f"{name} -"
    if ratio.low is None or ratio.high is None:
        return f"{name} {ratio.value:.2f} (too few requests for bounds)"
    return f"{name} {ratio.value:.2f} (between {ratio.low:.2f} and {ratio.high:.2f})"


def load_as_dict(app: str, name: str, result: LoadResult, verdict: LoadVerdict | None) -> dict[str, Any]:
    """Return a load as plain data; times in seconds."""
    told: dict[str, Any] = {
        "app": app,
        "load": name,
        "exit_code": None if verdict is None else int(verdict.code),
        "result": None if verdict is None else verdict.code.name.lower(),
        "reason": "" if verdict is None else verdict.reason,
        "model": "open" if result.is_open else "closed",
        "seconds": round(result.seconds, 3),
        "stopped": result.stopped,
        "workers": result.workers,
        "lost_workers": result.lost,
        "late_arrivals": result.late,
        "worst_lag_seconds": round(result.worst_lag_seconds, 4),
        "problems": dict(result.problems),
        "tracks": {load.name: _track_as_dict(load) for load in result.tracks},
        "locust": dict(result.locust),
    }
    if verdict is not None:
        told["findings"] = [
            {"name": each.name, "result": each.code.name.lower(), "text": each.text}
            for each in verdict.findings
        ]
        told["nats"] = {name: round(nats, 4) for name, nats in verdict.nats.items()}
        told["ratios"] = {
            f"p{share * 100:g}": {"value": each.value, "low": each.low, "high": each.high}
            for share, each in verdict.ratios.items()
        }
    return told


def _track_as_dict(load: TrackLoad) -> dict[str, Any]:
    return {
        "version": load.version,
        "requests": load.requests,
        "failures": load.failures,
        **_quantiles(load.corrected),
        "uncorrected": _quantiles(load.service),
        "arrivals": load.arrivals,
        "crowded": load.crowded,
        "cut": load.cut,
        "identity": dict(load.proven),
        "errors": dict(load.errors),
        "endpoints": [
            {
                "method": each.method,
                "name": each.name,
                "requests": each.requests,
                "failures": each.failures,
                "p99_seconds": each.corrected.quantile(0.99),
            }
            for each in load.endpoints
        ],
    }


def _quantiles(durations: Histogram) -> dict[str, float | None]:
    """Return the usual ones, and the longest as p100."""
    return {
        f"p{share * 100:g}_seconds": durations.quantile(share) for share in (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
    }


def load_junit(app: str, name: str, result: LoadResult, verdict: LoadVerdict) -> str:
    """Return the findings as JUnit XML: what the canary alone does wrong is a failure, infrastructure an
    error, and what is inconclusive is skipped."""
    root = Element("testsuites", name=xml_safe(app))
    suite = SubElement(root, "testsuite", name=xml_safe(name), tests=str(len(verdict.findings)))
    kinds = {
        ExitCode.PRODUCT: "failure",
        ExitCode.INFRASTRUCTURE: "error",
        ExitCode.INCONCLUSIVE: "skipped",
    }
    for finding in verdict.findings:
        case = SubElement(suite, "testcase", classname=xml_safe(name), name=finding.name)
        case.set("time", f"{result.seconds:.3f}")
        if finding.code in kinds:
            told = SubElement(case, kinds[finding.code], message=xml_safe(finding.text))
            told.text = xml_safe(load_text(result, verdict))
    for kind, word in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(word, str(len(suite.findall(f"testcase/{kind}"))))
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def load_markdown(app: str, name: str, result: LoadResult, verdict: LoadVerdict) -> str:
    """Return a table of both tracks and the findings, for the summary of a CI."""
    lines = [f"### The {_m(name)} load on {_m(app)}: {verdict.code.name.lower()}", "", _m(verdict.reason), ""]
    lines += ["| track | version | requests | failed | p50 | p95 | p99 |", "|---|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cells(load))} |" for load in result.tracks]
    lines += ["", "| looked at | result | |", "|---|---|---|"]
    lines += [
        f"| {_m(each.name)} | {each.code.name.lower()} | {_m(each.text)} |" for each in verdict.findings
    ]
    return "\n".join(lines) + "\n\n"


def load_html(app: str, name: str, result: LoadResult, verdict: LoadVerdict) -> str:
    """Return one page that needs nothing but itself."""
    word = verdict.code.name.lower()
    title = f"{_e(app)}: {_e(name)} load"
    findings = "".join(
        f'<tr><td>{_e(each.name)}</td><td class="{each.code.name.lower()}">{each.code.name.lower()}</td>'
        f"<td>{_e(each.text)}</td></tr>"
        for each in verdict.findings
    )
    heads = _row(("track", "version", "requests", "failed", "p50", "p95", "p99"), "th")
    rows = "".join(_row(_cells(load), "td") for load in result.tracks)
    parts = [
        f'<h1>{title}: <span class="{word}">{word}</span></h1><p>{_e(verdict.reason)}</p>',
        f"<table>{heads}{rows}</table>",
        f"<h2>Durations</h2>{_curves(result.tracks)}",
        f"<h2>What was looked at</h2><table>{findings}</table>",
        f"<details><summary>everything</summary><pre>{_e(load_text(result, verdict))}</pre></details>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _curves(tracks: Sequence[TrackLoad]) -> str:
    """Return durations by quantile, up to p99.9, on a scale in which each further nine takes as much room."""
    shares = [1 - 10 ** (-step / 20) for step in range(61)]
    curves = {load.name: [load.corrected.quantile(share) or 0.0 for share in shares] for load in tracks}
    top = max([max(curve) for curve in curves.values()], default=0.0) or 1.0
    drawn = []
    for name, curve in curves.items():
        points = " ".join(
            f"{_LEFT + step / 60 * (_WIDTH - _LEFT):.1f},{_HEIGHT - 20 - value / top * (_HEIGHT - 40):.1f}"
            for step, value in enumerate(curve)
        )
        color = _COLORS.get(name, "#4c78a8")
        drawn.append(f'<polyline fill="none" stroke="{color}" stroke-width="2" points="{points}"/>')
    for number, name in enumerate(curves):
        color = _COLORS.get(name, "#4c78a8")
        drawn.append(f'<text x="{_LEFT + 10 + 80 * number}" y="14" style="fill:{color}">{_e(name)}</text>')
    for step, text in ((0, "p0"), (20, "p90"), (40, "p99"), (57, "p99.9")):
        drawn.append(f'<text x="{_LEFT + step / 60 * (_WIDTH - _LEFT):.0f}" y="{_HEIGHT - 4}">{text}</text>')
    drawn.append(f'<text x="0" y="24">{_time(top)}</text><text x="0" y="{_HEIGHT - 20}">0</text>')
    return f'<svg viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" role="img">{"".join(drawn)}</svg>'


def _cells(load: TrackLoad) -> list[str]:
    times = [_time(load.corrected.quantile(share)) for share in QUANTILES]
    return [load.name, load.version or "-", str(load.requests), str(load.failures), *times]


def _row(cells: Sequence[str], tag: str) -> str:
    told = "".join(
        f"<{tag}{' class=n' if number > 1 else ''}>{_e(cell)}</{tag}>" for number, cell in enumerate(cells)
    )
    return f"<tr>{told}</tr>"


def _e(text: str) -> str:
    return html.escape(text)


def _m(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
