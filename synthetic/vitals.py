"""Web vitals in the lab: what a browser measured of each page of a journey, and what it may at most be.

Belongs here: the five numbers, their budgets, and which pages of both tracks are comparable. Pure;
measuring is `synthetic.measuring`.
Source: https://web.dev/articles/vitals
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rolloutobs.errors import ConfigurationError
from synthetic.settings import parse_duration

__all__ = ["PageVitals", "Vital", "comparable", "over_budget", "parse_budgets", "told"]


class Vital(StrEnum):
    """A web vital; seconds, but for ``CLS``, which has no unit."""

    LCP = "lcp"
    INP = "inp"
    """Only of a page that was clicked or typed at."""
    CLS = "cls"
    FCP = "fcp"
    TTFB = "ttfb"


_NAMES = {
    Vital.LCP: "largest contentful paint",
    Vital.INP: "interaction to next paint",
    Vital.CLS: "cumulative layout shift",
    Vital.FCP: "first contentful paint",
    Vital.TTFB: "time to first byte",
}


@dataclass(frozen=True, slots=True)
class PageVitals:
    """What was measured of one document of the target's own origin."""

    step: str
    """The step in which it was opened; empty outside of steps."""
    path: str
    values: Mapping[Vital, float]
    """What the browser did not report is left out."""


def parse_budgets(given: Mapping[str, str | float]) -> dict[Vital, float]:
    """Return the budgets of a journey: ``{"lcp": "2.5s", "cls": 0.1}``.

    Raises:
        ConfigurationError: there is no such vital, a value is no duration, or for ``cls`` no number.
    """
    budgets: dict[Vital, float] = {}
    for name, value in given.items():
        try:
            vital = Vital(name)
        except ValueError:
            raise ConfigurationError(f"a budget is for {name!r}; use {', '.join(Vital)}") from None
        source = f"the budget of {name}"
        budgets[vital] = _score(value, source) if vital is Vital.CLS else parse_duration(str(value), source)
    return budgets


def _score(value: str | float, source: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ConfigurationError(f"{source} is {value!r}; use a number, e.g. 0.1")
    return number


def over_budget(pages: Sequence[PageVitals], budgets: Mapping[Vital, float]) -> str:
    """Return one sentence on the first budget that a page of the journey missed; empty when none did.

    A budget that no page reported anything for is missed: the page showed nothing, or nothing was clicked.
    """
    for vital, budget in budgets.items():
        measured = [(page.values[vital], page.path) for page in pages if vital in page.values]
        if not measured:
            return f"no page reported its {_NAMES[vital]}, whose budget is {told(vital, budget)}"
        worst, path = max(measured)
        if worst > budget:
            was = f"the {_NAMES[vital]} of {path} was {told(vital, worst)}"
            return f"{was}, its budget is {told(vital, budget)}"
    return ""


def told(vital: Vital, value: float) -> str:
    """Return a value for people, e.g. ``"48 ms"``."""
    if vital is Vital.CLS:
        return f"{value:.3f}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def comparable(
    stable: Iterable[PageVitals], canary: Iterable[PageVitals]
) -> dict[Vital, tuple[float, float]]:
    """Return each vital of both sides, the worst among the pages that both opened in the same step.

    Returns:
        (stable, canary) by vital; without those that one of them lacks.
    """
    ours, theirs = _numbered(stable), _numbered(canary)
    both = ours.keys() & theirs.keys()
    found: dict[Vital, tuple[float, float]] = {}
    for vital in Vital:
        pairs = [
            (ours[key].values[vital], theirs[key].values[vital])
            for key in both
            if vital in ours[key].values and vital in theirs[key].values
        ]
        if pairs:
            found[vital] = max(one for one, _ in pairs), max(other for _, other in pairs)
    return found


def _numbered(pages: Iterable[PageVitals]) -> dict[tuple[str, int], PageVitals]:
    """Return pages by their step and their number in it."""
    count: Counter[str] = Counter()
    found: dict[tuple[str, int], PageVitals] = {}
    for page in pages:
        found[page.step, count[page.step]] = page
        count[page.step] += 1
    return found
