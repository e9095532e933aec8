"""What the console says about itself and its workloads, for Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric

from rolloutobs import semconv
from rolloutobs.analysis.model import Decision, Verdict
from rolloutobs.console.board import Board
from rolloutobs.console.failures import Failures
from rolloutobs.console.families import families
from rolloutobs.console.model import Status
from rolloutobs.console.standing import standing

__all__ = ["Metrics"]

_NAMES = (semconv.LABEL_NAMESPACE, semconv.LABEL_WORKLOAD, semconv.LABEL_APP)


class Metrics:
    """Counts answers, and shows the board.

    Args:
        board: the workloads.
        failures: what could not be done.
        clock: Unix time.
    """

    def __init__(self, board: Board, failures: Failures, clock: Callable[[], float]) -> None:
        self._board, self._failures, self._clock = board, failures, clock
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, str, str, str]] = Counter()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, key: tuple[str, str], hook: str, status: int) -> None:
        """Count an answer about a workload that there is."""
        with self._lock:
            self._answers[(*key, hook, str(status))] += 1

    def text(self) -> bytes:
        """Return all of it in the text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Return the metrics, for prometheus_client."""
        now, statuses = self._clock(), self._board.all()
        yield from families(_NAMES, [_decided(status, now) for status in statuses])
        yield from _of_looks(statuses)
        yield _held(statuses, now)
        keys = {status.workload.key for status in statuses}
        with self._lock:
            for labels in [labels for labels in self._answers if labels[:2] not in keys]:
                del self._answers[labels]
            answers = self._answers.copy()
        told = CounterMetricFamily(
            semconv.GATE_ANSWERS_TOTAL,
            "What callers were told.",
            labels=(*_NAMES[:2], semconv.LABEL_HOOK, semconv.LABEL_STATUS),
        )
        for labels, count in sorted(answers.items()):
            told.add_metric(labels, count)
        failed = CounterMetricFamily(
            semconv.GATE_FAILURES_TOTAL, "What could not be done.", labels=(semconv.LABEL_WHERE,)
        )
        for where, count in sorted(self._failures.totals().items()):
            failed.add_metric((where,), count)
        yield from (told, failed)


def _values(status: Status) -> tuple[str, str, str]:
    return (*status.workload.key, status.workload.app)


def _decided(status: Status, now: float) -> tuple[Sequence[str], Decision | None, Verdict | None]:
    """Return the decision that holds, be it a person's; none where there is no canary: that is no hold, which
    somebody would be called for."""
    verdict = status.seen.report.verdict if status.seen else None
    found = standing(status, now).decision
    return _values(status), None if status.is_idle and found is Decision.HOLD else found, verdict


def _of_looks(statuses: list[Status]) -> Iterator[Metric]:
    looks = CounterMetricFamily(semconv.GATE_LOOKS_TOTAL, "Readings taken.", labels=_NAMES)
    failed = CounterMetricFamily(
        semconv.GATE_FAILED_READS_TOTAL, "Targets that did not answer a reading.", labels=_NAMES
    )
    last = GaugeMetricFamily(
        semconv.GATE_LAST_LOOK_TIMESTAMP_SECONDS, "When the source was last read.", labels=_NAMES
    )
    for status in statuses:
        looks.add_metric(_values(status), status.looks)
        failed.add_metric(_values(status), status.failed_reads)
        last.add_metric(_values(status), status.answered or 0.0)
    yield from (looks, failed, last)


def _held(statuses: list[Status], now: float) -> Metric:
    held = GaugeMetricFamily(
        semconv.GATE_ROLLBACK_HELD,
        "1 while a rollback is decided that is marked as unsafe.",
        labels=(*_NAMES, semconv.LABEL_OWNER),
    )
    for status in statuses:
        owner = status.rails.owner
        held.add_metric((*_values(status), owner), float(standing(status, now).is_page))
    return held
