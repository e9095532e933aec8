"""`/metrics`: every metric of the process, stamped with app, version and track while it is rendered.

Stamping at render time costs nothing per request, and reaches metrics that the app's own code has registered
with prometheus_client. Any process of this project renders its metrics through `exposition`.

``_created`` samples are left out: they would be one more series for each child of a counter, a histogram or a
summary, and Prometheus takes them for series of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.identity import Identity
from rolloutobs.telemetry.cells import Family
from rolloutobs.telemetry.failures import Failures, Where
from rolloutobs.telemetry.parts import Parted
from rolloutobs.telemetry.text import TextWriter

__all__ = [
    "Collectable",
    "Exposition",
    "Format",
    "Stamped",
    "choose_format",
    "exposed_names",
    "exposition",
    "read_all",
]

_logger = logging.getLogger("rolloutobs")
_EOF = b"# EOF\n"
_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "counter": ("", "_total"),
    "histogram": ("", "_bucket", "_count", "_sum"),
    "gaugehistogram": ("", "_bucket", "_gcount", "_gsum"),
    "summary": ("", "_count", "_sum"),
    "info": ("", "_info"),
}
"""Of the metric itself and of its samples, by type; of all others there is one. Source: OpenMetrics 1.0."""
_WITH_CREATED = frozenset({"counter", "histogram", "gaugehistogram", "summary"})


Item = Family[Any] | Parted | Metric
"""What is written as one metric."""


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


@dataclass(frozen=True, slots=True)
class Format:
    """One of the formats that prometheus_client writes."""

    encoder: Callable[[Any], bytes]
    """prometheus_client's function from a registry to its text."""
    content_type: str
    openmetrics: bool
    plain_names: bool
    """Whether names that need no escaping are left as they are."""


def choose_format(accept: str) -> Format:
    """Return the format that an ``Accept`` header asks for: OpenMetrics where it is named first, else text.

    A header that makes no sense gets the text format, which suits everyone.
    """
    try:
        encoder, content_type = choose_encoder(accept)
        # The version of the client is repeated in the header of the answer.
        if not (content_type.isascii() and content_type.isprintable()):
            raise ValueError(content_type)
    except Exception:
        encoder, content_type = choose_encoder("")
    return Format(
        encoder,
        content_type,
        content_type.startswith("application/openmetrics-text"),
        not content_type.endswith(("escaping=dots", "escaping=values")),
    )


def read_all(sources: Iterable[Collectable], failures: Failures | None = None) -> Iterator[Metric]:
    """Yield the metrics of `sources`.

    Of two metrics with one name the first wins (a name twice makes the whole exposition invalid), and the
    loss is logged once. A source that raises is left out and counted; without `failures` the exception is
    raised.
    """
    for item in _first_of_each_name(sources, failures):
        yield item if isinstance(item, Metric) else item.collect()


def _first_of_each_name(sources: Iterable[Collectable], failures: Failures | None) -> Iterator[Item]:
    seen: set[str] = set()
    for source in sources:
        for item in _read(source, failures):
            names = exposed_names(item)
            if seen.isdisjoint(names):
                seen.update(names)
                yield item
            else:
                _warn(item.name)


def _read(source: Collectable, failures: Failures | None) -> Iterable[Item]:
    if isinstance(source, Family | Parted):
        return (source,)
    try:
        return _collected(source)
    except Exception as error:
        if failures is None:
            raise
        failures.record(Where.METRICS, error)
    # A registry is as good as its worst collector; the others of it are asked one by one.
    rest: list[Metric] = []
    for collector in list(getattr(source, "_collector_to_names", ())):
        with suppress(Exception):
            rest += _collected(collector)
    return rest


def _collected(source: Collectable) -> list[Metric]:
    collected = source.collect()
    metrics = [collected] if isinstance(collected, Metric) else list(collected)
    return [_without_created(metric) for metric in metrics]


def _without_created(metric: Metric) -> Metric:
    created = metric.name + "_created"
    if metric.type not in _WITH_CREATED or all(sample.name != created for sample in metric.samples):
        return metric
    copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    copy.samples = [sample for sample in metric.samples if sample.name != created]
    return copy


def exposed_names(item: Item) -> tuple[str, ...]:
    """Return the names that a family or metric takes: its own, and those of its samples."""
    if isinstance(item, Parted):
        item = item.family
    if isinstance(item, Family):
        kind, base = item.definition.kind.value, item.name
        base = base.removesuffix("_total") if kind == "counter" else base
    else:
        kind, base = item.type, item.name
    return tuple(base + suffix for suffix in _SUFFIXES.get(kind, ("",)))


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
    """Metrics with labels added, in the shape of a prometheus_client registry.

    A label that a sample already has keeps its value; one with an empty value of ours is left out.
    """

    def __init__(self, metrics: Iterable[Metric], labels: Mapping[str, str]) -> None:
        self._metrics = metrics
        self._labels = dict(labels)

    def collect(self) -> Iterator[Metric]:
        """Yield each metric as a copy with the labels added."""
        for metric in self._metrics:
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
    form = choose_format(accept)
    labels = identity.labels
    writer = TextWriter(labels, openmetrics=form.openmetrics)
    out: list[bytes] = []
    for item in _first_of_each_name(sources, failures):
        for chunk in _chunks(item, writer, form, failures):
            out.append(chunk)
            _let_others_run()
    if form.openmetrics:
        out.append(_EOF)
    return Exposition(b"".join(out), form.content_type)


def _let_others_run() -> None:
    # A thread that computes keeps the interpreter for 5 ms at a time (sys.getswitchinterval); requests would
    # wait for that.
    time.sleep(0)


def _chunks(item: Item, writer: TextWriter, form: Format, failures: Failures | None) -> Iterator[bytes]:
    """Yield the text of one metric; what the writer does not know is left to the library."""
    if not isinstance(item, Metric):
        written = _ours(item, writer) if form.plain_names else None
        if written is not None:
            return written
        item = item.collect()
    try:
        if form.plain_names and writer.can_write_samples(item):
            return iter([chunk.encode("utf-8") for chunk in writer.write_samples(item)])
    except Exception as error:
        # A sample that is none, in a collector of the app; the library may know more.
        _logger.debug("metric %r is left to prometheus_client: %s", item.name, error)
    return iter((_encoded(item, writer.labels, form, failures),))


def _ours(item: Family[Any] | Parted, writer: TextWriter) -> Iterator[bytes] | None:
    family, earlier = (item.family, item.earlier) if isinstance(item, Parted) else (item, None)
    if not writer.can_write(family) or not (earlier is None or writer.can_write_samples(earlier)):
        return None
    more = () if earlier is None else writer.write_more(earlier)
    return (chunk.encode("utf-8") for chunk in chain(writer.write(family), more))


def _encoded(metric: Metric, labels: Mapping[str, str], form: Format, failures: Failures | None) -> bytes:
    """Return the text of one metric; one that cannot be written goes without exemplars, then not at all."""
    for plain in (False, True):
        if plain:
            metric = _without_exemplars(metric)
        try:
            return form.encoder(Stamped((metric,), labels)).removesuffix(_EOF)
        except Exception as error:
            if failures is None:
                raise
            failures.record(Where.METRICS, error)
    return b""


def _without_exemplars(metric: Metric) -> Metric:
    copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    copy.samples = [sample._replace(exemplar=None) for sample in metric.samples]
    return copy
