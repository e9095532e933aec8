"""Workloads as metrics. Pure: `rolloutobs.semconv` has the names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.cluster.model import Phase, Rollout, Workload

__all__ = ["families"]

_KEYS: Final = (semconv.LABEL_NAMESPACE, semconv.LABEL_WORKLOAD)


def families(workloads: Iterable[Workload], now: float) -> Iterator[Metric]:
    """Yield the metrics of workloads at the time `now`, in seconds since the epoch.

    Two of the same name, as a Deployment beside the Rollout that took over from it, are told as one, with the
    rollout that began last.
    """
    seen = list(workloads)
    last: dict[tuple[str, str], tuple[Workload, Rollout]] = {}
    for item in seen:
        other = last.get((item.namespace, item.name))
        if item.rollout is not None and (other is None or other[1].started <= item.rollout.started):
            last[item.namespace, item.name] = (item, item.rollout)
    yield from _rollouts(list(last.values()), now)
    yield _pods(seen)
    wrong = _gauge(semconv.TRACK_MISMATCH_PODS, "Pods whose label names another track than the controller.")
    mismatched: Counter[tuple[str, ...]] = Counter()
    for item in seen:
        mismatched[tuple(_of(item))] += sum(pod.is_mismatched for pod in item.pods)
    for key, count in mismatched.items():
        wrong.add_metric(key, count)
    yield wrong


def _rollouts(pairs: Sequence[tuple[Workload, Rollout]], now: float) -> Iterator[Metric]:
    labels = (semconv.LABEL_FROM_VERSION, semconv.LABEL_TO_VERSION, semconv.LABEL_OWNER)
    info = _gauge(semconv.ROLLOUT_INFO, "1: the versions of the last rollout, and who owns it.", *labels)
    phase = _gauge(semconv.ROLLOUT_PHASE, "1 for the phase of the last rollout.", semconv.LABEL_PHASE)
    progress = _gauge(semconv.ROLLOUT_PROGRESS_RATIO, "How much of the last rollout is done.")
    started = _gauge(semconv.ROLLOUT_STARTED_TIMESTAMP_SECONDS, "When the last rollout began.")
    duration = _gauge(
        semconv.ROLLOUT_DURATION_SECONDS, "How long the last rollout took, or has taken so far."
    )
    revision = _gauge(semconv.ROLLOUT_REVISION, "Revision of the last rollout.")
    for item, rollout in pairs:
        key = _of(item)
        owner = item.annotations.get(semconv.ANNOTATION_OWNER, "").strip()
        info.add_metric([*key, rollout.from_version, rollout.to_version, owner], 1.0)
        for each in Phase:
            phase.add_metric([*key, each.value], float(each is rollout.phase))
        progress.add_metric(key, item.progress_ratio)
        started.add_metric(key, rollout.started)
        ended = now if rollout.ended is None else rollout.ended
        # The clock of the API server may be ahead of ours.
        duration.add_metric(key, max(ended - rollout.started, 0.0))
        revision.add_metric(key, rollout.revision)
    yield from (info, phase, progress, started, duration, revision)


def _pods(workloads: Iterable[Workload]) -> Metric:
    found = _gauge(semconv.PODS, "Pods that have not ended.", *semconv.IDENTITY_LABELS)
    counts: Counter[tuple[str, ...]] = Counter()
    for item in workloads:
        counts.update((*_of(item), pod.app, pod.version, pod.track.value) for pod in item.pods)
    for key, count in sorted(counts.items()):
        found.add_metric(key, count)
    return found


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=(*_KEYS, *labels))


def _of(item: Workload) -> list[str]:
    return [item.namespace, item.name]
