"""Whether a cluster's collector, gate and watcher are scraped. Pure: answers in, findings out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rolloutobs import foreign, semconv
from rolloutobs.checkup.answers import Answers, counted, job_of
from rolloutobs.checkup.model import Finding, Level

__all__ = ["QUERIES", "check"]

_PARTS: Final[Mapping[str, str]] = {
    "the collector": semconv.RUM_BEACONS_TOTAL,
    "the gate's server": semconv.GATE_FAILURES_TOTAL,
    "the watcher": semconv.WATCHER_LISTS_TOTAL,
}
"""What each exports at all times, and nobody else does."""
QUERIES: Final[Mapping[str, str]] = {
    **{name: f"count({metric})" for name, metric in _PARTS.items()},
    # Called as their Services in k8s/base are.
    "parts down": (
        f'count by (job, namespace) ({foreign.UP}{{job=~"rolloutobs-(collector|serve|watcher)"}} == 0)'
    ),
}
"""By what they tell; each is an instant query."""


def check(answers: Answers) -> Iterator[Finding]:
    """Yield what there is to say about them; that none runs may be as it should be."""
    for row in answers["parts down"]:
        yield Finding(
            Level.BAD,
            "parts",
            f"{job_of(row)}: {counted(row.value, 'target')} cannot be scraped",
            "its network policy lets in the namespace monitoring: put that of Prometheus there; if it is,"
            " see the page /targets",
        )
    there = [name for name in _PARTS if answers[name]]
    missing = [name for name in _PARTS if not answers[name]]
    if there:
        yield Finding(Level.GOOD, "parts", f"{_listed(there)} {'is' if len(there) == 1 else 'are'} scraped")
    if missing:
        yield Finding(
            Level.NOTE,
            "parts",
            f"{_listed(missing)} {'is' if len(missing) == 1 else 'are'} not scraped",
            "rolloutobs render --cluster has them; if they run, see serviceMonitorSelector and "
            "serviceMonitorNamespaceSelector of the Prometheus resource",
        )


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
