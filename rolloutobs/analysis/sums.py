"""PromQL that adds up what stable's processes counted, and the totals of its answers. Pure.

Belongs here: expressions and running totals. Does not belong here: asking (`summing`), and what a reset means
(`counters`): a sum is only taken over processes of which nothing but growth is known, so the expressions need
no rule of their own for resets, restarts or new series (docs/why.md, "Prometheus adds up what only grows").
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from rolloutobs import semconv
from rolloutobs.analysis.counters import Need
from rolloutobs.analysis.model import Sample

__all__ = [
    "PROCESS",
    "Totals",
    "bounds",
    "fell",
    "grown",
    "instances",
    "present",
    "scrapes",
    "selected",
    "there",
    "unshared",
]

PROCESS: Final = ("instance", "job")
"""Labels that Prometheus gives to every series of a scraped process."""


def selected(names: Iterable[str], *conditions: str) -> str:
    """Return the selector of the series called one of `names` that satisfy all of `conditions`."""
    matched = "|".join(sorted(re.escape(name) for name in names))
    return f"{{{','.join(each for each in (f'__name__=~{_quoted(matched)}', *conditions) if each)}}}"


def instances(names: Collection[str], *, excluded: bool = False) -> str:
    """Return the condition that a series is of one of the instances `names`, or of none of them."""
    values = "|".join(sorted(re.escape(name) for name in names))
    return f"instance{'!~' if excluded else '=~'}{_quoted(values)}" if names or not excluded else ""


def grown(need: Need, by: Iterable[str], conditions: Iterable[str], seconds: float) -> str:
    """Return by how much the counters of `need` grew in `seconds`, summed by the labels `by`.

    For series that were there before and after, and did not fall.
    """
    series = selected([need.metric], *conditions)
    return f"sum by ({','.join(sorted(by))}) (({series} - {series} offset {_duration(seconds)}) >= 0)"


def fell(need: Need, condition: str, seconds: float) -> str:
    """Return the processes in which a counter of `need` fell within `seconds`."""
    return f"group by ({_BY}) (resets({selected([need.metric], condition)}[{_duration(seconds)}]) > 0)"


def bounds(need: Need, conditions: Iterable[str]) -> str:
    """Return how many series each bound of the histogram `need` has."""
    return f"count by (le) ({selected([need.metric], *conditions)})"


def unshared(counts: Mapping[str, float]) -> list[str]:
    """Return which bounds some histograms lack, given how many series each has; ``1`` and ``1.0`` are one."""
    totals: dict[float, float] = defaultdict(float)
    for le, count in counts.items():
        totals[float(le)] += count
    return [le for le in counts if totals[float(le)] < totals[math.inf]]


def there(need: Need, condition: str) -> str:
    """Return the labels that sums over the counters of `need` have."""
    return f"group by ({','.join(need.labels)}) ({selected([need.metric], condition)})"


def present(names: Iterable[str], condition: str, seconds: float) -> str:
    """Return the processes that had one of the counters `names` within `seconds`, with their versions."""
    series = f"last_over_time({selected(names, condition)}[{_duration(seconds)}])"
    return f"group by ({_BY},{semconv.LABEL_VERSION}) ({series})"


def scrapes(function: str, metric: str, jobs: Iterable[str], seconds: float) -> str:
    """Return `function` of what Prometheus says about each scrape of `jobs` within `seconds`."""
    wanted = "|".join(sorted(re.escape(job) for job in jobs))
    return f"{function}({metric}{{job=~{_quoted(wanted)}}}[{_duration(seconds)}])"


_BY: Final = ",".join(PROCESS)


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _duration(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


class Totals:
    """Running totals of growth: counters that never fall, for a target that stands for many."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, frozenset[tuple[str, str]]], tuple[Mapping[str, str], float]] = {}

    def add(self, name: str, labels: Mapping[str, str], growth: float) -> None:
        """Add the growth of one series."""
        key = (name, frozenset(labels.items()))
        # The same mapping each time: `counters` recognises it.
        known, total = self._sums.get(key, (labels, 0.0))
        self._sums[key] = (known, total + growth)

    def __bool__(self) -> bool:
        return bool(self._sums)

    def samples(self, hidden: Collection[tuple[str, str]] = ()) -> tuple[Sample, ...]:
        """Return the totals as counters, without the buckets `hidden` (metric and ``le``)."""
        return tuple(
            Sample(name, labels, total)
            for (name, _), (labels, total) in self._sums.items()
            if not hidden or (name, labels.get("le", "")) not in hidden
        )
