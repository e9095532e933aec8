"""What one ``/metrics`` says about its instrumentation. Pure: text in, findings out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.checkup.model import Finding, Level
from rolloutobs.errors import SourceError
from rolloutobs.identity import UNKNOWN_VERSION, Track
from rolloutobs.settings import UNKNOWN_SERVICE
from rolloutobs.telemetry.cells import OVERFLOW

__all__ = ["Exposed", "LabelUse", "Size", "check", "read"]

MANY_VALUES: Final = 100
"""Values of one label in one process, from which on it is named: a hundred routes are a large app."""
_TRACKS: Final = frozenset(track.value for track in Track)
_PATH_LABELS: Final = frozenset({semconv.LABEL_ROUTE, semconv.LABEL_HTTP_ROUTE, "path", "handler", "url"})
_ID: Final = re.compile(r"/(\d{2,}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}|[0-9a-f]{24,})(/|$)", re.IGNORECASE)
_BLOCK: Final = re.compile(r"^# (?:HELP|TYPE|UNIT) (\S+)", re.MULTILINE)
Identity = tuple[str, str, str]
"""app, version, track; empty where there is no such label."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one metric costs."""

    name: str
    series: int
    bytes: int


@dataclass(frozen=True, slots=True)
class LabelUse:
    """How many values one label of one metric has."""

    metric: str
    label: str
    values: int
    example: str


@dataclass(frozen=True, slots=True)
class Exposed:
    """One exposition, read."""

    metrics: tuple[Metric, ...]
    sizes: tuple[Size, ...]
    """Largest number of series first."""
    identities: Mapping[Identity, int]
    """Series by identity, most first."""
    exemplars: int

    @property
    def series(self) -> int:
        """All series."""
        return sum(size.series for size in self.sizes)

    @property
    def bytes(self) -> int:
        """Length of the text, not compressed."""
        return sum(size.bytes for size in self.sizes)

    def samples(self, name: str) -> Iterator[Any]:
        """Yield the samples of this name."""
        for metric in self.metrics:
            yield from (sample for sample in metric.samples if sample.name == name)

    def label_uses(self) -> list[LabelUse]:
        """Return the labels with the most values."""
        found = [use for metric in self.metrics for use in _uses(metric)]
        return sorted(found, key=lambda use: -use.values)


def _uses(metric: Metric) -> Iterator[LabelUse]:
    values: dict[str, dict[str, None]] = {}
    for sample in metric.samples:
        for label, value in sample.labels.items():
            if label not in ("le", "quantile", *semconv.IDENTITY_LABELS):
                values.setdefault(label, {})[value] = None
    for label, seen in values.items():
        yield LabelUse(metric.name, label, len(seen), next(reversed(seen)))


def read(content_type: str, body: bytes) -> Exposed:
    """Return what an answer holds.

    Raises:
        SourceError: it is no exposition.
    """
    openmetrics = content_type.lower().startswith("application/openmetrics-text")
    if openmetrics:
        from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
    else:
        from prometheus_client.parser import text_string_to_metric_families as parse
    try:
        text = body.decode("utf-8")
        metrics = tuple(parse(text))  # type: ignore[no-untyped-call]
    except Exception as error:
        raise SourceError(
            f"the answer ({content_type or 'no content type'}) is not metrics: {error}"
        ) from error
    lengths = _lengths(text)
    sizes = [
        Size(metric.name, len(metric.samples), lengths[metric.name] + lengths[metric.name + "_total"])
        for metric in metrics
    ]
    app, version, track = semconv.IDENTITY_LABELS
    identities = Counter(
        (sample.labels.get(app, ""), sample.labels.get(version, ""), sample.labels.get(track, ""))
        for metric in metrics
        for sample in metric.samples
    )
    return Exposed(
        metrics,
        tuple(sorted(sizes, key=lambda size: (-size.series, size.name))),
        dict(identities.most_common()),
        sum(sample.exemplar is not None for metric in metrics for sample in metric.samples),
    )


def _lengths(text: str) -> Counter[str]:
    """Return the length of the block of each metric, in bytes, with its comment lines."""
    lengths: Counter[str] = Counter()
    starts = [(found.start(), found[1]) for found in _BLOCK.finditer(text)]
    ends = [*(start for start, _ in starts[1:]), len(text)]
    for (start, name), end in zip(starts, ends, strict=True):
        lengths[name] += len(text[start:end].encode("utf-8"))
    return lengths


def check(exposed: Exposed) -> list[Finding]:
    """Return what there is to say about an exposition."""
    if not any(exposed.samples(semconv.APP_BUILD_INFO)):
        return [
            Finding(
                Level.BAD,
                "instrumentation",
                f"no {semconv.APP_BUILD_INFO} among {exposed.series} series: this is not an answer of ours",
                "call instrument(app), or ask at the path of ROLLOUTOBS_METRICS_PATH; an app's own /metrics "
                "on another port is left alone",
            )
        ]
    return [
        *_identity(exposed),
        *_unstamped(exposed),
        *_overflow(exposed),
        *_failures(exposed),
        *_cardinality(exposed),
        *_exemplars(exposed),
    ]


def _identity(exposed: Exposed) -> Iterator[Finding]:
    info = [sample.labels for sample in exposed.samples(semconv.APP_BUILD_INFO)]
    label = {name: sorted({labels.get(name, "") for labels in info}) for name in semconv.IDENTITY_LABELS}
    apps, versions, tracks = (label[name] for name in semconv.IDENTITY_LABELS)
    shown = f"app {', '.join(apps)!r}, version {', '.join(versions)!r}, track {', '.join(tracks)!r}"
    bad = False
    if {"", UNKNOWN_SERVICE} & set(apps):
        bad = True
        yield Finding(Level.BAD, "app", f"the name of the app is {apps[0]!r}", "set OTEL_SERVICE_NAME")
    if {"", UNKNOWN_VERSION} & set(versions):
        bad = True
        yield Finding(
            Level.BAD,
            "version",
            f"the version is {versions[0]!r}: releases cannot be told apart",
            "set ROLLOUTOBS_VERSION; rolloutobs identity, run in the container, says what else is looked at",
        )
    if len(versions) > 1 or len(apps) > 1:
        bad = True
        yield Finding(
            Level.BAD,
            "identity",
            f"one process shows several identities: {shown}",
            "something rewrites the labels on the way, or several processes answer at one address: ask a pod",
        )
    if not set(tracks) <= _TRACKS:
        bad = True
        yield Finding(
            Level.BAD, "track", f"the track is {', '.join(tracks)!r}", "use stable, canary or baseline"
        )
    if not bad:
        without = "" if any(tracks) else " (none is known: as it should be outside of a rollout)"
        yield Finding(Level.GOOD, "identity", shown + without)


def _unstamped(exposed: Exposed) -> Iterator[Finding]:
    names = [
        metric.name
        for metric in exposed.metrics
        if any(semconv.LABEL_APP not in sample.labels for sample in metric.samples)
    ]
    if names:
        yield Finding(
            Level.BAD,
            "labels",
            f"{len(names)} of {len(exposed.metrics)} metrics have no label app: {_some(names)}",
            "they come from another process or handler than ours",
        )


def _overflow(exposed: Exposed) -> Iterator[Finding]:
    for sample in exposed.samples(semconv.LABEL_SETS_DROPPED_TOTAL):
        if sample.value > 0:
            name = sample.labels.get(semconv.LABEL_METRIC, "")
            yield Finding(
                Level.BAD,
                "overflow",
                f"{name} has too many label sets: {sample.value:.0f} lookups are counted as {OVERFLOW}",
                "find the label that has no bound (see below), or raise ROLLOUTOBS_MAX_LABEL_SETS",
            )


def _failures(exposed: Exposed) -> Iterator[Finding]:
    failed = {
        sample.labels.get(semconv.LABEL_WHERE, ""): sample.value
        for sample in exposed.samples(semconv.INTERNAL_ERRORS_TOTAL)
        if sample.value > 0
    }
    if failed:
        counted = ", ".join(f"{where} {count:.0f}" for where, count in sorted(failed.items()))
        yield Finding(
            Level.BAD,
            "internal errors",
            f"telemetry itself has failed: {counted}",
            "the app's log has one line a minute about it, from the logger rolloutobs",
        )


def _cardinality(exposed: Exposed) -> Iterator[Finding]:
    for use in exposed.label_uses():
        if use.values > MANY_VALUES:
            yield Finding(
                Level.NOTE,
                "cardinality",
                f"{use.metric}: label {use.label} has {use.values} values, such as {use.example!r}",
                "each value is at least one series, in every pod and for every version",
            )
    for metric in exposed.metrics:
        raw = [
            sample.labels[label]
            for sample in metric.samples
            for label in _PATH_LABELS & sample.labels.keys()
            if _ID.search(sample.labels[label])
        ]
        if raw:
            yield Finding(
                Level.BAD,
                "raw paths",
                f"{metric.name} has paths where templates belong, such as {raw[0]!r}",
                "group them by route; if another instrumentation makes them, remove it",
            )


def _exemplars(exposed: Exposed) -> Iterator[Finding]:
    if exposed.exemplars:
        yield Finding(Level.GOOD, "exemplars", f"{exposed.exemplars} buckets lead to a trace")
    else:
        yield Finding(
            Level.NOTE,
            "exemplars",
            "no bucket leads to a trace",
            "none was sampled yet, traces are not exported, or the answer is not OpenMetrics",
        )


def _some(names: Sequence[str] | Iterable[str], most: int = 3) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")
