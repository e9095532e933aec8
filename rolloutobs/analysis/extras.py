"""Tables of the HTML report about real users and synthetic checks, from displays. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from rolloutobs.analysis.displays import VITALS, Vital
from rolloutobs.analysis.figures import quantile
from rolloutobs.analysis.history import History
from rolloutobs.analysis.words import UNKNOWN, seconds

__all__ = ["Check", "Counted", "Rated", "checks", "events", "js_errors", "page_views", "vitals"]

TRACKS = ("canary", "stable")
RATINGS = ("good", "needs-improvement", "poor")

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rated:
    """One web vital on one track."""

    vital: str
    track: str
    views: int
    p75: str
    good: float
    middling: float
    poor: float
    """Shares of the page views, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Counted:
    """Something counted on both tracks, per page view where that is known."""

    name: str
    detail: str
    canary: int
    stable: int
    canary_rate: float | None = None
    stable_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A synthetic check, or one step of it, on one track."""

    check: str
    step: str
    """The empty string is the whole journey."""
    track: str
    passed: int
    failed: int
    inconclusive: int
    p50: str
    p95: str


def page_views(history: History) -> tuple[int, int]:
    """Return page views of canary and stable."""
    counts = history.displays.get("page_views", {})
    return counts.get(("canary",), 0), counts.get(("stable",), 0)


def vitals(history: History) -> list[Rated]:
    """Return each web vital that was seen, canary before stable."""
    rated: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (track, name, rating), n in history.displays.get("vitals", {}).items():
        rated[name.upper(), track][rating] += n
    found = []
    for vital in VITALS:
        buckets = _histograms(history.displays.get(f"vital_{vital.name}", {}))
        for track in TRACKS:
            counts = rated.get((vital.name, track))
            if counts and sum(counts.values()):
                found.append(_rated(vital, track, counts, buckets.get((track,), {})))
    return found


def _rated(vital: Vital, track: str, counts: Mapping[str, int], cumulative: Mapping[float, int]) -> Rated:
    total = sum(counts.values())
    shares = [counts.get(rating, 0) / total for rating in RATINGS]
    p75 = _quantile(cumulative, 0.75, plain=not vital.unit)
    return Rated(vital.name, track, total, p75, *shares)


def js_errors(history: History) -> list[Counted]:
    """Return the JavaScript errors, most frequent on the canary first, with their messages."""
    return _counted(history, "js_errors", history.texts)


def events(history: History) -> list[Counted]:
    """Return the business events by name and outcome."""
    return _counted(history, "events", {})


def _counted(history: History, display: str, texts: Mapping[str, str]) -> list[Counted]:
    counts = history.displays.get(display, {})
    views = page_views(history)
    names = {key[1:] for key in counts}
    found = []
    for name in names:
        numbers = [counts.get((track, *name), 0) for track in TRACKS]
        rates = [n / v if v else None for n, v in zip(numbers, views, strict=True)]
        found.append(Counted(" ".join(name), texts.get(name[0], ""), *numbers, *rates))
    return sorted(found, key=lambda c: (-c.canary, -c.stable, c.name))


def checks(history: History) -> list[Check]:
    """Return every check and step on both tracks, the whole journey before its steps."""
    runs: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for (track, check, step, outcome), n in history.displays.get("synthetic_runs", {}).items():
        runs[check, step, track][outcome] += n
    durations = _histograms(history.displays.get("synthetic_durations", {}))
    found = []
    for key, outcomes in sorted(runs.items()):
        check, step, track = key
        took = durations.get((track, check, step), {})
        passed, failed, unknown = (outcomes.get(outcome, 0) for outcome in ("pass", "fail", "inconclusive"))
        p50, p95 = (_quantile(took, share) for share in (0.5, 0.95))
        found.append(Check(check, step, track, passed, failed, unknown, p50, p95))
    return found


def _histograms(counts: Mapping[Key, int]) -> dict[Key, dict[float, int]]:
    """Return cumulative counts by bound, grouped by the labels before ``le``."""
    found: dict[Key, dict[float, int]] = defaultdict(dict)
    for key, n in counts.items():
        try:
            found[key[:-1]][float(key[-1])] = n
        except ValueError:
            continue
    return found


def _quantile(cumulative: Mapping[float, int], share: float, *, plain: bool = False) -> str:
    bounds = sorted(bound for bound in cumulative if math.isfinite(bound))
    total = cumulative.get(math.inf, 0)
    upto = [cumulative[bound] for bound in bounds]
    inside = [max(b - a, 0) for a, b in zip([0, *upto], [*upto, total], strict=True)]
    value = quantile(bounds, inside, share)
    if value is None:
        return UNKNOWN
    show = (lambda v: f"{v:.2f}") if plain else seconds
    return f"> {show(bounds[-1])}" if math.isinf(value) and bounds else show(value)
