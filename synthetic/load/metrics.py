"""What loads expose to Prometheus, beside the metrics of checks.

Belongs here: the families, and their counts from results that only grow.
"""

from __future__ import annotations

from rolloutobs import semconv
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily, NumberCell
from synthetic.exposed import Exposed, Family, Steps
from synthetic.load.histogram import Histogram
from synthetic.load.judging import LoadVerdict
from synthetic.load.results import Endpoint, LoadResult, TrackLoad
from synthetic.target import Proven

__all__ = ["LoadMetrics"]

_LABELS = (*semconv.IDENTITY_LABELS, semconv.LABEL_LOAD)
_STEP = (*_LABELS, semconv.LABEL_STEP)
_LOAD = (semconv.LABEL_APP, semconv.LABEL_LOAD)
BOUNDS = tuple(round(0.005 * 1.5**i, 6) for i in range(22))
"""Upper bounds in seconds: those of the server's own histogram (factor 1.5 from 5 ms), and two more, for what
waits before it is sent."""


class LoadMetrics(Exposed):
    """The metrics of one load; register it with a prometheus_client registry."""

    def __init__(self, app: str, load: str) -> None:
        super().__init__("load")
        self._app, self._load = app, load
        self._steps = Steps()
        self._requests = CounterFamily(
            semconv.SYNTHETIC_LOAD_REQUESTS_TOTAL, "Requests of a load.", (*_STEP, semconv.LABEL_OUTCOME)
        )
        self._duration = HistogramFamily(
            semconv.SYNTHETIC_LOAD_REQUEST_DURATION_SECONDS,
            "Duration of a load's requests, from the moment at which each should have begun.",
            _STEP,
            BOUNDS,
        )
        self._mismatch = CounterFamily(
            semconv.SYNTHETIC_LOAD_IDENTITY_MISMATCH_TOTAL,
            "Answers of another version or track, or of somebody who did not say who it is.",
            _LABELS,
        )
        self._late = CounterFamily(
            semconv.SYNTHETIC_LOAD_LATE_ARRIVALS_TOTAL, "Tasks that the generator itself began late.", _LOAD
        )
        self._lost = CounterFamily(
            semconv.SYNTHETIC_LOAD_LOST_WORKERS_TOTAL, "Workers whose last counts are missing.", _LOAD
        )
        self._ended = GaugeFamily(
            semconv.SYNTHETIC_LOAD_LAST_END_TIMESTAMP_SECONDS,
            "When a load last ended with this result.",
            (*_LOAD, semconv.LABEL_RESULT),
        )
        for family in (self._late, self._lost):
            family.cell(app, load)

    def update(self, result: LoadResult) -> None:
        """Take in what a load has counted so far."""
        with self._lock:
            for load in result.tracks:
                if load.version is not None or load.requests:
                    self._add(load)
            self._grow(self._late.cell(self._app, self._load), result.late)
            self._grow(self._lost.cell(self._app, self._load), result.lost)

    def end(self, verdict: LoadVerdict, now: float) -> None:
        """Take in how a load ended, at the unix time `now`."""
        with self._lock:
            self._ended.cell(self._app, self._load, verdict.code.name.lower()).value = now

    @property
    def families(self) -> tuple[Family, ...]:
        """Everything that is exposed, for the table in the documentation."""
        return (
            self._requests, self._duration, self._mismatch, self._late, self._lost, self._ended,
            self._internal,
        )  # fmt: skip

    def _add(self, load: TrackLoad) -> None:
        target = load.target
        version = load.version or (target.version if target is not None else None) or "unknown"
        identity = (self._app, version, load.name, self._load)
        by_step: dict[str, list[Endpoint]] = {}
        for each in load.endpoints:
            by_step.setdefault(self._steps.label(f"{each.method} {each.name}"), []).append(each)
        for step, endpoints in by_step.items():
            failures = sum(each.failures for each in endpoints)
            durations = Histogram.merged(each.corrected for each in endpoints)
            passed = self._requests.cell(*identity, step, "pass")
            self._grow(passed, durations.total - failures)
            self._grow(self._requests.cell(*identity, step, "fail"), failures)
            cell = self._duration.cell(*identity, step)
            counts, total = [0.0] * len(cell.counts), 0.0
            for key, count in durations.counts.items():
                seconds = Histogram.middle(key)
                counts[next((i for i, bound in enumerate(BOUNDS) if seconds <= bound), -1)] += count
                total += seconds * count
            cell.counts[:] = counts
            cell.sum = total
        wrong = sum(load.proven.get(each.value, 0) for each in (Proven.WRONG, Proven.UNKNOWN))
        self._grow(self._mismatch.cell(*identity), wrong)

    def _grow(self, cell: NumberCell, value: float) -> None:
        """Raise a counter to `value`: the sum over workers is short of one that is late, and no counter goes
        back."""
        cell.value = max(cell.value, float(value))
