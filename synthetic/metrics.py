"""What checks expose to Prometheus: runs, durations, last success and identity mismatches, by app, version,
track.

Belongs here: the families. A pair is added under the lock that a scrape takes, so no scrape ever sees one
track of a pair without the other. `synthetic.endpoint` serves them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from rolloutobs import semconv
from rolloutobs.identity import Track
from rolloutobs.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily
from synthetic.exposed import Exposed, Family, Steps
from synthetic.journey import StepResult
from synthetic.result import CheckOutcome, Pair, PairVerdict, TrackRun
from synthetic.target import Proven, Target
from synthetic.vitals import Vital

__all__ = ["DURATION_BOUNDS", "CheckMetrics"]

DURATION_BOUNDS = tuple(round(0.05 * 1.5**i, 6) for i in range(18))
"""Upper bounds in seconds, log-regular as the server's with factor 1.5, from 50 ms to 49 s: steps of a
browser and whole journeys are longer than requests."""
WHOLE_JOURNEY = ""
"""The step label of a whole journey's result."""

_VITALS = {
    Vital.LCP: (semconv.SYNTHETIC_CHECK_LCP_SECONDS, "Largest contentful paint", semconv.RUM_LCP_BOUNDS),
    Vital.INP: (semconv.SYNTHETIC_CHECK_INP_SECONDS, "Interaction to next paint", semconv.RUM_INP_BOUNDS),
    Vital.CLS: (semconv.SYNTHETIC_CHECK_CLS, "Cumulative layout shift", semconv.RUM_CLS_BOUNDS),
    Vital.FCP: (semconv.SYNTHETIC_CHECK_FCP_SECONDS, "First contentful paint", semconv.RUM_FCP_BOUNDS),
    Vital.TTFB: (semconv.SYNTHETIC_CHECK_TTFB_SECONDS, "Time to first byte", semconv.RUM_TTFB_BOUNDS),
}
_IDENTITY = (*semconv.IDENTITY_LABELS, semconv.LABEL_CHECK)
_STEP = (*_IDENTITY, semconv.LABEL_STEP)


class CheckMetrics(Exposed):
    """The metrics of checks; register it with a prometheus_client registry.

    Series of both tracks exist from zero once their version is known (at the start where it is expected),
    with the outcomes pass, fail and inconclusive.
    """

    def __init__(self, app: str, checks: Sequence[str], targets: Sequence[Target]) -> None:
        super().__init__("check")
        self._app = app
        self._steps: defaultdict[str, Steps] = defaultdict(Steps)
        self._runs = CounterFamily(
            semconv.SYNTHETIC_CHECK_RUNS_TOTAL,
            "Runs of a synthetic check; an empty step is the whole journey, counted in pairs of both tracks.",
            (*_STEP, semconv.LABEL_OUTCOME),
        )
        self._duration = HistogramFamily(
            semconv.SYNTHETIC_CHECK_DURATION_SECONDS,
            "Duration of passed runs and steps.",
            _STEP,
            DURATION_BOUNDS,
        )
        self._vitals = {
            vital: HistogramFamily(name, f"{text} of each page, by the step that opened it.", _STEP, bounds)
            for vital, (name, text, bounds) in _VITALS.items()
        }
        self._last_success = GaugeFamily(
            semconv.SYNTHETIC_CHECK_LAST_SUCCESS_TIMESTAMP_SECONDS, "When a run last passed.", _IDENTITY
        )
        self._mismatch = CounterFamily(
            semconv.SYNTHETIC_CHECK_IDENTITY_MISMATCH_TOTAL,
            "Runs that another version or track answered, or somebody who did not say who it is.",
            _IDENTITY,
        )
        self._retried = CounterFamily(
            semconv.SYNTHETIC_CHECK_PASSED_ON_RETRY_TOTAL,
            "Pairs that failed and passed when both tracks walked once more; counted as failed above, too.",
            (semconv.LABEL_APP, semconv.LABEL_VERSION, semconv.LABEL_CHECK),
        )
        for check in checks:
            for target in targets:
                if target.version is not None:
                    self._exist(check, target.version, target.track.value, WHOLE_JOURNEY)

    def publish(self, pair: Pair) -> None:
        """Count a pair, both tracks at once."""
        label = self._steps[pair.check].label
        steps = dict.fromkeys(label(step.name) for run in pair.runs for step in run.steps)
        with self._lock:
            for run, outcome in zip(pair.runs, pair.published, strict=True):
                track = run.target.track.value
                for step in (WHOLE_JOURNEY, *steps):
                    self._exist(pair.check, run.version, track, step)
                self._count(pair.check, run, outcome)
            if pair.verdict is PairVerdict.FLAKY:
                self._retried.cell(self._app, pair.canary.version, pair.check).inc()

    @property
    def families(self) -> tuple[Family, ...]:
        """Everything that is exposed, for the table in the documentation."""
        return (
            self._runs, self._duration, *self._vitals.values(), self._last_success, self._mismatch,
            self._retried, self._internal,
        )  # fmt: skip

    def _exist(self, check: str, version: str, track: str, step: str) -> None:
        """Make the series of a step, so that they start at zero."""
        labels = (self._app, version, track, check)
        if track == Track.CANARY.value:
            self._retried.cell(self._app, version, check)
        for outcome in (CheckOutcome.PASS, CheckOutcome.FAIL, CheckOutcome.INCONCLUSIVE):
            self._runs.cell(*labels, step, outcome.value)
        self._duration.cell(*labels, step)
        self._mismatch.cell(*labels)

    def _count(self, check: str, run: TrackRun, outcome: CheckOutcome) -> None:
        labels = (self._app, run.version, run.target.track.value, check)
        self._runs.cell(*labels, WHOLE_JOURNEY, outcome.value).inc()
        label = self._steps[check].label
        for step in run.steps:
            came_to = _step_outcome(outcome, step)
            self._runs.cell(*labels, label(step.name), came_to.value).inc()
            if came_to is CheckOutcome.PASS:
                self._duration.cell(*labels, label(step.name)).observe(step.seconds)
        if outcome is CheckOutcome.PASS:
            self._duration.cell(*labels, WHOLE_JOURNEY).observe(run.seconds)
        if outcome in (CheckOutcome.PASS, CheckOutcome.FAIL):
            # Failed journeys too: one that missed its budget is the one that matters.
            self._count_vitals(labels, run, label)
        if run.outcome is CheckOutcome.PASS:
            self._last_success.cell(*labels).value = run.ended
        if run.outcome is CheckOutcome.INCONCLUSIVE or run.proof.proven in (Proven.WRONG, Proven.UNKNOWN):
            self._mismatch.cell(*labels).inc()

    def _count_vitals(self, labels: tuple[str, ...], run: TrackRun, label: Callable[[str], str]) -> None:
        for page in run.pages:
            for vital, value in page.values.items():
                self._vitals[vital].cell(*labels, label(page.step)).observe(value)


def _step_outcome(journey: CheckOutcome, step: StepResult) -> CheckOutcome:
    """Return a step's outcome: where its journey is void, on both tracks, so are its steps."""
    if journey in (CheckOutcome.INCONCLUSIVE, CheckOutcome.ERROR):
        return journey
    return CheckOutcome.FAIL if step.error else CheckOutcome.PASS
