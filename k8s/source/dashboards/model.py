"""What a dashboard consists of, and the selectors and expressions that repeat."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from k8s.source.rules.model import promql
from rolloutobs import semconv

__all__ = [
    "BY", "FAILED", "IDENTITY", "LEGEND", "SOME_APP", "USERS", "Board", "Kind", "Panel", "Query", "Row",
    "band", "increase", "quantile", "rate", "share",
]  # fmt: skip

SOME_APP: Final = f'namespace=~"$namespace", {semconv.LABEL_APP}="$app"'
"""One app, all its versions."""
IDENTITY: Final = f'{SOME_APP}, {semconv.LABEL_VERSION}=~"$version", {semconv.LABEL_TRACK}=~"$track"'
"""What the variables of a dashboard choose."""
USERS: Final = f'{IDENTITY}, {semconv.LABEL_SYNTHETIC}=""'
"""The same, real users only."""
FAILED: Final = f'{semconv.LABEL_STATUS}=~"5.."'
BY: Final = f"{semconv.LABEL_VERSION}, {semconv.LABEL_TRACK}"
"""What lines are told apart by."""
LEGEND: Final = "{{version}} {{track}}"
# Two-sided, 95 per cent, of a normal distribution.
_SIGMAS: Final = 1.96


class Kind(StrEnum):
    """How a panel is drawn."""

    LINES = "lines"
    BAND = "band"
    """Three queries: estimate, lower and upper end."""
    TABLE = "table"
    STATES = "states"
    EVENTS = "events"
    """What the watcher has kept, read from its JSON; without queries."""


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a panel."""

    expression: str
    legend: str = LEGEND
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. Tables are asked for the end of the time range, all else over it."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    description: str = ""
    kind: Kind = Kind.LINES
    width: int = 8
    """Of 24."""
    limits: tuple[float, ...] = ()
    """Drawn as lines: above the only or the second one it is bad, above the first of two no longer good."""
    is_signed: bool = False
    """Whether values are below 0, too; other axes begin there."""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]
    empty: str = ""
    """What a panel without data says; empty: what the board says."""


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard."""

    name: str
    """Of its file, and the end of its uid."""
    title: str
    description: str
    metric: str
    """Whose labels fill the variables."""
    rows: tuple[Row, ...]
    empty: str = "nothing in this time range; `rolloutobs doctor --prometheus URL` says what is not scraped"
    """What a panel without data says."""


def rate(metric: str, matchers: str = USERS, by: str = BY) -> str:
    """Return events per second by version and track."""
    return f"sum by ({by}) (rate({metric}{{{matchers}}}[$__rate_interval]))"


def increase(metric: str, matchers: str = USERS, by: str = BY) -> str:
    """Return events in the time range of the dashboard, by version and track."""
    return f"sum by ({by}) (increase({metric}{{{matchers}}}[$__range]))"


def share(bad: str, total: str) -> str:
    """Return a share of two rates by the same labels; 0 where nothing bad has happened."""
    return f"({bad} or 0 * {total}) / ({total} > 0)"


def quantile(which: float, metric: str, matchers: str = USERS, by: str = BY) -> str:
    """Return a quantile of a histogram, of all pods together."""
    return f"histogram_quantile({which}, {rate(f'{metric}_bucket', matchers, f'le, {by}')})"


def band(bad: tuple[str, str], total: tuple[str, str]) -> tuple[Query, ...]:
    """Return by how much canary's share of bad events is above stable's, and its 95 % interval (Wald).

    Both are pairs of a counter and further matchers. The window is the variable ``$window``.
    """
    shares, variances = {}, {}
    for track in ("canary", "stable"):
        side = f'{SOME_APP}, {semconv.LABEL_TRACK}="{track}", {semconv.LABEL_SYNTHETIC}=""'
        number = f"(sum(increase({_of(total, side)}[$window])) > 0)"
        count = f"(sum(increase({_of(bad, side)}[$window])) or 0 * {number})"
        shares[track] = f"{count} / {number}"
        variances[track] = f"{shares[track]} * (1 - {shares[track]}) / {number}"
    difference = f"({shares['canary']} - {shares['stable']})"
    # A share is rounded above 1 now and then, where a view is counted a scrape before its error.
    half = f"{_SIGMAS} * sqrt(clamp_min({variances['canary']} + {variances['stable']}, 0))"
    return (
        Query(promql(f"{difference}"), "canary - stable"),
        Query(promql(f"{difference} - {half}"), "low"),
        Query(promql(f"{difference} + {half}"), "high"),
    )


def _of(counter: tuple[str, str], side: str) -> str:
    metric, matchers = counter
    return f"{metric}{{{', '.join(filter(None, (side, matchers)))}}}"
