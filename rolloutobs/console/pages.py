"""The live pages as HTML: all workloads, and one of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from rolloutobs._version import __version__
from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.page import to_html
from rolloutobs.analysis.wording import duration
from rolloutobs.analysis.words import count
from rolloutobs.console.model import Status
from rolloutobs.console.standing import Standing, standing

__all__ = ["list_page", "live_script", "workload_page"]

_WORDS: Final = {
    "held": "PAGE",
    "rollback": "ROLLBACK",
    "trouble": "BLIND",
    "hold": "HOLD",
    "promote": "PROMOTE",
    "idle": "NO CANARY",
}
"""Kinds of rows, the most urgent first, and what is written on them."""
_LABELS: Final = {
    "held": "to be decided",
    "rollback": "to roll back",
    "trouble": "cannot be looked at",
    "hold": "on hold",
    "promote": "to promote",
    "idle": "without a canary",
}
_GROUPS: Final = (
    ("Somebody has to look", ("held", "rollback", "trouble")),
    ("Under way", ("hold", "promote")),
    ("No canary", ("idle",)),
)


@dataclass(frozen=True, slots=True)
class _Row:
    """One workload in the list."""

    css: str
    word: str
    namespace: str
    name: str
    owner: str
    sentence: str
    versions: str
    traffic: str
    looked: int
    age: str


@dataclass(frozen=True, slots=True)
class _Group:
    title: str
    rows: Sequence[_Row]


def list_page(statuses: Sequence[Status], now: float, unsaved: str = "") -> str:
    """Return the page with all workloads, those first that somebody has to look at.

    Args:
        statuses: the workloads, in the order in which each group shows them.
        now: Unix time.
        unsaved: why the state is not kept; empty: it is.
    """
    rows = [_row(status, standing(status, now), now) for status in statuses]
    groups = [
        _Group(title, [row for kind in kinds for row in rows if row.css == kind]) for title, kinds in _GROUPS
    ]
    counted = Counter(row.css for row in rows)
    counts = [(kind, counted[kind]) for kind in _WORDS if counted[kind]]
    urgent = sum(counted[kind] for kind in _GROUPS[0][1])
    return (
        _environment()
        .get_template("list.html.j2")
        .render(
            title=f"{urgent} to look at · rollouts" if urgent else "Rollouts",
            groups=[group for group in groups if group.rows],
            counts=counts,
            labels=_LABELS,
            unsaved=unsaved,
            version=__version__,
        )
    )


def workload_page(status: Status, now: float, address: str) -> str:
    """Return the page of one workload: the gate's report, and what holds now where that is something else.

    Args:
        status: of the workload.
        now: Unix time.
        address: of the console, as its reader sees it, with a slash at the end.
    """
    found = standing(status, now)
    row = _row(status, found, now)
    report = found.report or (status.seen.report if status.seen else None)
    shown: dict[str, Any] = {
        "workload": status.workload,
        "rails": status.rails,
        "rollout": status.rollout,
        "css": row.css,
        "word": row.word,
        "sentence": found.sentence,
        "looked": row.looked,
        "age": row.age,
        "differs": report is not None and found.sentence != report.reason,
        "happenings": [_happening(each) for each in reversed(status.happenings)],
        "address": address,
        "version": __version__,
    }
    above, below = _rendered("above.html.j2", shown), _rendered("below.html.j2", shown)
    if report is not None:
        return to_html(report, above=above, below=below)
    return _environment().get_template("empty.html.j2").render(shown, above=above, below=below)


def _rendered(name: str, shown: dict[str, Any]) -> Markup:
    # What goes into it was escaped there.
    return Markup(_environment().get_template(name).render(shown))  # noqa: S704


@lru_cache(maxsize=1)
def live_script() -> bytes:
    """Return the script of both pages."""
    source = PackageLoader("rolloutobs.console").get_source(_environment(), "live.js")
    return source[0].encode()


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader("rolloutobs.console"), PackageLoader("rolloutobs.analysis")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _row(status: Status, found: Standing, now: float) -> _Row:
    seen, workload = status.seen, status.workload
    kind = _kind(status, found)
    verdict = seen.report.verdict if seen else None
    versions = traffic = ""
    if verdict is not None and kind != "idle":
        if verdict.canary_version or verdict.stable_version:
            versions = f"{verdict.canary_version or '?'} beside {verdict.stable_version or '?'}"
        requests = verdict.requests
        if requests.canary_exposures or requests.stable_exposures:
            traffic = f"{count(requests.canary_exposures)} and {count(requests.stable_exposures)} requests"
    answered = status.answered
    return _Row(
        css=kind,
        word=_WORDS[kind],
        namespace=workload.namespace,
        name=workload.name,
        owner=status.rails.owner,
        sentence=found.sentence,
        versions=versions,
        traffic=traffic,
        looked=round(answered or 0),
        age="never looked" if answered is None else f"looked {duration(max(now - answered, 0.0))} ago",
    )


def _kind(status: Status, found: Standing) -> str:
    if found.is_page:
        return "held"
    if found.decision is not Decision.HOLD:
        return found.decision.value
    if found.trouble:
        return "trouble"
    return "idle" if status.is_idle else "hold"


def _happening(each: Any) -> dict[str, str]:
    at = datetime.fromtimestamp(each.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"at": at, "kind": each.kind, "text": each.text, "by": each.by}
