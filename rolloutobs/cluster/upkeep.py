"""What the watcher says of itself, as metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.cluster.reading import Reader

__all__ = ["own_families"]


def own_families(
    readers: Sequence[Reader], failures: Mapping[str, int], told: Mapping[str, int]
) -> Iterator[Metric]:
    """Yield the watcher's own metrics.

    Args:
        readers: of all resources and namespaces.
        failures: besides theirs, by where.
        told: changes by kind.
    """
    lists = _counter(semconv.WATCHER_LISTS_TOTAL, "Full lists read.", semconv.LABEL_RESOURCE)
    cuts = _counter(semconv.WATCHER_CUTS_TOTAL, "Watches that broke off and went on.", semconv.LABEL_RESOURCE)
    failed = _counter(semconv.WATCHER_FAILURES_TOTAL, "What has failed.", semconv.LABEL_WHERE)
    changes = _counter(semconv.WATCHER_CHANGES_TOTAL, "Changes seen.", semconv.LABEL_KIND)
    readable = GaugeMetricFamily(
        semconv.WATCHER_READABLE, "Whether a resource can be read.", labels=[semconv.LABEL_RESOURCE]
    )
    for resource in dict.fromkeys(reader.resource for reader in readers):
        of_it = [reader for reader in readers if reader.resource is resource]
        name = [resource.plural]
        lists.add_metric(name, sum(reader.lists for reader in of_it))
        cuts.add_metric(name, sum(reader.cuts for reader in of_it))
        failed.add_metric(name, sum(reader.failures for reader in of_it))
        readable.add_metric(name, float(all(reader.lists and not reader.problem for reader in of_it)))
    for where, count in failures.items():
        failed.add_metric([where], count)
    for kind, count in told.items():
        changes.add_metric([kind], count)
    yield from (lists, cuts, readable, failed, changes)


def _counter(name: str, text: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, labels=[label])
