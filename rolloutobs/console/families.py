"""Verdicts as metrics: the decision, evidence and ratios that it rests on. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.analysis.model import Decision, Verdict

__all__ = ["families"]


def families(
    names: Sequence[str], verdicts: Iterable[tuple[Sequence[str], Decision | None, Verdict | None]]
) -> Iterator[Metric]:
    """Yield what dashboards and alerts read.

    Args:
        names: labels that tell the verdicts apart.
        verdicts: the values of these labels, with the decision (``None``: there is nothing to decide) and
            what it rests on.
    """
    current = GaugeMetricFamily(
        semconv.VERDICT, "1 for the decision that holds now.", labels=(*names, "decision")
    )
    nats = GaugeMetricFamily(
        semconv.EVIDENCE_NATS, "Log evidence of a signal.", labels=(*names, "metric", "side")
    )
    threshold = GaugeMetricFamily(
        f"{semconv.EVIDENCE_NATS}_threshold", "Evidence that decides.", labels=(*names, "metric", "side")
    )
    ratio = GaugeMetricFamily(
        semconv.RATIO, "canary / stable, with its confidence sequence.", labels=(*names, "metric", "bound")
    )
    for values, now, verdict in verdicts:
        for decision in Decision:
            current.add_metric((*values, decision.value), float(decision is now))
        for metric in verdict.metrics if verdict else ():
            for each in metric.evidence:
                if not math.isnan(each.nats):
                    nats.add_metric((*values, metric.signal, each.side.value), each.nats)
                    threshold.add_metric((*values, metric.signal, each.side.value), each.threshold)
            found = metric.ratio
            for bound, value in (("low", found.low), ("estimate", found.estimate), ("high", found.high)):
                if value is not None:
                    ratio.add_metric((*values, metric.signal, bound), value)
    yield from (current, nats, threshold, ratio)
