"""`/metrics`: every metric of the process, stamped with app, version and track while it is rendered.

Stamping at render time costs nothing per request, and reaches metrics that the app's own code has registered
with prometheus_client. Any process of this project renders its metrics through `exposition`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.identity import Identity
from rolloutobs.telemetry.failures import Failures, Where

__all__ = ["Collectable", "Exposition", "Stamped", "exposition", "read_all"]

_logger = logging.getLogger("rolloutobs")


class Collectable(Protocol):
    """What has metrics: a family of `rolloutobs.telemetry.cells`, a prometheus_client registry or
    collector.
    """

    def collect(self) -> Metric | Iterable[Metric]:
        """Return one metric or several."""


@dataclass(frozen=True, slots=True)
class Exposition:
    """The answer to a scrape."""

    body: bytes
    content_type: str


def read_all(sources: Iterable[Collectable], failures: Failures | None = None) -> Iterator[Metric]:
    """Yield the metrics of `sources`.

    Of two metrics with one name the first wins (a name twice makes the whole exposition invalid), and the
    loss is logged once. A source that raises is left out and counted; without `failures` the exception is
    raised.
    """
    seen: set[str] = set()
    for source in sources:
        for metric in _read(source, failures):
            if metric.name in seen:
                _warn(metric.name)
                continue
            seen.add(metric.name)
            yield metric


def _read(source: Collectable, failures: Failures | None) -> list[Metric]:
    try:
        collected = source.collect()
        return [collected] if isinstance(collected, Metric) else list(collected)
    except Exception as error:
        if failures is None:
            raise
        failures.record(Where.METRICS, error)
        return []


_warned: set[str] = set()


def _warn(name: str) -> None:
    if name not in _warned:
        _warned.add(name)
        _logger.warning(
            "metric %r is exposed twice in this process; the first is shown, the other is left out. "
            "Remove the other instrumentation, or rename its metric",
            name,
        )


class Stamped:
    """Metrics of several sources with labels added, in the shape of a prometheus_client registry.

    A label that a sample already has keeps its value; one with an empty value of ours is left out.
    """

    def __init__(
        self, sources: Iterable[Collectable], labels: Mapping[str, str], failures: Failures | None = None
    ) -> None:
        self._sources = tuple(sources)
        self._labels = dict(labels)
        self._failures = failures

    def collect(self) -> Iterator[Metric]:
        """Yield each metric as a copy with the labels added."""
        for metric in read_all(self._sources, self._failures):
            copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            copy.samples = [sample._replace(labels=self._stamped(sample.labels)) for sample in metric.samples]
            yield copy

    def _stamped(self, labels: Mapping[str, str]) -> dict[str, str]:
        stamped = {**self._labels, **labels}
        if semconv.LABEL_TRACK in labels and not labels[semconv.LABEL_TRACK]:
            # Counted before any track was known.
            del stamped[semconv.LABEL_TRACK]
        return stamped


def exposition(
    sources: Iterable[Collectable],
    identity: Identity,
    accept: str = "",
    failures: Failures | None = None,
) -> Exposition:
    """Render the metrics of `sources` with app, version and track on every sample.

    Args:
        sources: earlier ones win where two have a metric of the same name.
        identity: what is stamped; a label with an empty value is left out.
        accept: the ``Accept`` header of the scrape: OpenMetrics where it asks for that, else the text format.
        failures: counts a source that raises, which is then left out; without it the exception is raised.
    """
    try:
        encoder, content_type = choose_encoder(accept)
    except Exception:
        # A version that is not a number; the header is the client's, and the text format suits everyone.
        encoder, content_type = choose_encoder("")
    return Exposition(encoder(Stamped(sources, identity.labels, failures)), content_type)
