"""Results as one page for people: what failed comes first, with pictures of it.

Belongs here: HTML and the Markdown of CI summaries. Decides nothing, reads no files.
"""

from __future__ import annotations

import html
import os
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from synthetic.pairing import Pairing
from synthetic.report import Summary, reason, sentence, vitals_line
from synthetic.result import CheckOutcome, ExitCode, Pair, PairVerdict, TrackRun

__all__ = ["html_page", "markdown"]

PICTURE = "screenshot.png"
_MAX_PICTURES = 20
"""A page of more opens slowly; the folders have them all."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2330; }
h1 { font-size: 1.4rem }
.badge { font-size: .9rem; font-weight: 600; color: #fff; border-radius: 1rem; padding: .25rem .8rem;
  margin-left: .5rem; vertical-align: middle; background: #9aa3b2 }
.badge.pass { background: #2e8b57 } .badge.bad { background: #c0392b } .badge.unsure { background: #8a6a00 }
.dot { display: inline-block; width: .7rem; height: .7rem; border-radius: 50%; background: #d9a400 }
.dot.pass { background: #2e8b57 } .dot.bad { background: #c0392b }
.all { margin-bottom: 1.5rem }
.all td, .all th { border-bottom: 1px solid #d8dce3; padding: .35rem .8rem .35rem 0; text-align: left }
.all .n { text-align: right } small, .when { color: #667; font-size: .85em }
.pair { border: 1px solid #d8dce3; border-left: 5px solid #9aa3b2; border-radius: 6px;
  padding: .6rem 1rem; margin: 1rem 0 }
.pass { border-left-color: #2e8b57 }
.bad { border-left-color: #c0392b } .unsure { border-left-color: #d9a400 }
.sides { display: flex; gap: 1.5rem; flex-wrap: wrap } .side { flex: 1; min-width: 20rem }
table { border-collapse: collapse; width: 100% } td { padding: .1rem .5rem .1rem 0; vertical-align: top }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap } .no { color: #c0392b }
img { width: 20rem; border: 1px solid #d8dce3; border-radius: 4px }
code { font-size: .85em; overflow-wrap: anywhere }
.page { color: #556; font-size: .9em; margin: .3rem 0; overflow-wrap: anywhere }
summary { cursor: pointer; color: #556 }
"""
_RESULTS = {
    ExitCode.PASS: ("pass", "the canary passed"),
    ExitCode.PRODUCT: ("bad", "the canary failed"),
    ExitCode.INFRASTRUCTURE: ("unsure", "could not run, or both tracks failed"),
    ExitCode.INCONCLUSIVE: ("unsure", "inconclusive"),
}
_CLASSES = {
    PairVerdict.PASS: "pass",
    PairVerdict.FLAKY: "unsure",
    PairVerdict.CANARY_FAILED: "bad",
    PairVerdict.BOTH_FAILED: "unsure",
    PairVerdict.INCONCLUSIVE: "unsure",
    PairVerdict.ERROR: "unsure",
}


def html_page(
    summary: Summary,
    read: Callable[[str], bytes | None],
    names: Callable[[str], list[str]],
    start: Path,
) -> str:
    """Return one page that needs nothing but itself; links lead to the folders of artifacts.

    Args:
        summary: what to tell.
        read: return the content of a file, ``None`` where there is none.
        names: return the names of the files in a folder.
        start: absolute path of the folder in which the page will be, for its links.
    """
    gallery = _Gallery(read, names, start)
    bad = [pair for pair in reversed(summary.last) if pair.verdict is not PairVerdict.PASS]
    good = [pair for pair in reversed(summary.last) if pair.verdict is PairVerdict.PASS]
    kind, told = _RESULTS[summary.code]
    parts = [f'<h1>{_e(summary.app)} <span class="badge {kind}">{told}</span></h1>']
    parts.append(_overview(summary))
    parts += [gallery.pair(pair) for pair in bad]
    if good:
        told = "".join(gallery.pair(pair) for pair in good)
        parts.append(f"<details><summary>{len(good)} that passed</summary>{told}</details>")
    title = f"{_e(summary.app)}: synthetic checks"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _overview(summary: Summary) -> str:
    """Return one row for each check, with what all its pairs say."""
    rows = []
    for check, counts in summary.counts.items():
        evidence = summary.evidence[check]
        failed = PairVerdict.CANARY_FAILED
        worst = failed if failed in counts else max(counts, key=list(PairVerdict).index)
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        lines = "".join(f"<br><small>{_e(line)}</small>" for line in evidence.lines())
        rows.append(
            f'<tr><td><i class="dot {_CLASSES[worst]}"></i> <b>{_e(check)}</b></td>'
            f'<td class="n">{counts.total()}</td><td>{_e(told)}{lines}</td></tr>'
        )
    if not rows:
        return "<p>Nothing ran.</p>"
    head = '<tr><th>check</th><th class="n">pairs</th><th>what they say</th></tr>'
    return f'<table class="all">{head}{"".join(rows)}</table>'


def markdown(summary: Summary) -> str:
    """Return a table of the checks, and why the last pairs did not pass."""
    lines = [f"### Synthetic checks of {_m(summary.app)}: {summary.code.name.lower()}", ""]
    lines += ["| check | pairs | canary failed alone | stable failed alone | duration, canary / stable |"]
    lines += ["|---|---|---|---|---|"]
    lines += [_row(check, evidence) for check, evidence in summary.evidence.items()]
    bad = [pair for pair in summary.last if pair.verdict is not PairVerdict.PASS][-5:]
    for pair in bad:
        why = reason(pair.canary) or reason(pair.stable)
        lines += ["", f"**{_m(pair.check)}**: {_m(sentence(pair))}: {_m(why)}"]
    return "\n".join(lines) + "\n\n"


def _row(check: str, evidence: Pairing) -> str:
    ratio = "" if evidence.ratio is None else f"{evidence.ratio:.2f}"
    alone = f"{evidence.canary_alone} | {evidence.stable_alone}"
    return f"| {_m(check)} | {evidence.pairs} | {alone} | {ratio} |"


class _Gallery:
    """Renders pairs, with pictures of the first failures."""

    def __init__(
        self, read: Callable[[str], bytes | None], names: Callable[[str], list[str]], start: Path
    ) -> None:
        self._read = read
        self._names = names
        self._start = start
        self._left = _MAX_PICTURES

    def pair(self, pair: Pair) -> str:
        """Return one pair."""
        sides = "".join(self._side(run) for run in pair.runs)
        when = datetime.fromtimestamp(pair.started, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        title = f'<b>{_e(pair.check)}</b>: {_e(sentence(pair))} <span class="when">{when}</span>'
        kind = _CLASSES[pair.verdict]
        return f'<div class="pair {kind}"><p>{title}</p><div class="sides">{sides}</div></div>'

    def _side(self, run: TrackRun) -> str:
        rows = "".join(
            f'<tr class="{"no" if step.error else ""}"><td>{_e(step.name)}</td>'
            f'<td class="n">{step.seconds:.2f} s</td></tr>'
            for step in run.steps
        )
        head = f"{_e(run.target.track)} {_e(run.version)}: {_e(run.outcome)}, {run.seconds:.2f} s"
        url = f'<span class="when">{_e(run.target.url)}</span>'
        parts = [f"<p><b>{head}</b> {url}</p><table>{rows}</table>"]
        parts += [f'<p class="page">{_e(vitals_line(page))}</p>' for page in run.pages if page.values]
        if run.outcome is not CheckOutcome.PASS:
            parts += [f'<p class="no">{_e(line)}</p>' for line in (reason(run), run.page_error) if line]
            parts += [f"<p>trace <code>{_e(run.trace_id)}</code></p>"] if run.trace_id else []
        if run.artifacts:
            parts.append(self._artifacts(run.artifacts))
        return f'<div class="side">{"".join(parts)}</div>'

    def _artifacts(self, folder: str) -> str:
        address = quote(Path(os.path.relpath(folder, self._start)).as_posix())
        names = sorted(self._names(folder))
        links = " ".join(f'<a href="{address}/{quote(name)}">{_e(name)}</a>' for name in names)
        picture = self._read(f"{folder}/{PICTURE}") if self._left and PICTURE in names else None
        if picture is None:
            return f"<p>{links}</p>"
        self._left -= 1
        source = f"data:image/png;base64,{b64encode(picture).decode()}"
        link = f'<a href="{address}/{PICTURE}"><img alt="what the page showed" src="{source}"></a>'
        return f"<p>{link}</p><p>{links}</p>"


def _e(text: str) -> str:
    return html.escape(text)


def _m(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
