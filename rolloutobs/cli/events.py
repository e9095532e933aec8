"""The verdict as OpenTelemetry log events, where an OTLP endpoint is configured.

They go out as the log records of an instrumented app do, under the ``OTEL_*`` variables. The gate is the
service that sends them; the app that was judged is an attribute.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import Final

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider

from rolloutobs import semconv
from rolloutobs._version import __version__
from rolloutobs.analysis.model import Decision, Evidence, MetricVerdict, Side
from rolloutobs.analysis.report import Report, strongest
from rolloutobs.analysis.words import is_seen
from rolloutobs.settings import Settings
from rolloutobs.telemetry.export_logs import set_exporting_logger_provider
from rolloutobs.telemetry.failures import Failures, Where

__all__ = ["SERVICE", "Events", "emit", "events", "told"]

Value = str | bool | int | float

SERVICE: Final = "rolloutobs-gate"
"""``service.name``, where ``OTEL_SERVICE_NAME`` gives no other."""
_SEVERITIES: Final[Mapping[Decision, tuple[SeverityNumber, str]]] = {
    Decision.PROMOTE: (SeverityNumber.INFO, "INFO"),
    Decision.HOLD: (SeverityNumber.WARN, "WARN"),
    Decision.ROLLBACK: (SeverityNumber.ERROR, "ERROR"),
}


def events(environ: Mapping[str, str] = os.environ) -> Events | None:
    """Return what sends events; ``None`` where no exporter for logs is configured, or it is not installed.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """
    named = {"OTEL_SERVICE_NAME": SERVICE, "ROLLOUTOBS_VERSION": __version__, **environ}
    failures = Failures()
    provider = set_exporting_logger_provider(Settings.from_env(named), failures)
    return None if provider is None else Events(provider, failures)


class Events:
    """Sends the events of reports.

    Args:
        provider: exports them.
        failures: counts what could not be exported.
    """

    def __init__(self, provider: LoggerProvider, failures: Failures) -> None:
        self._provider = provider
        self._lost = failures.family.cell(Where.EXPORT.value)

    def send(self, report: Report) -> bool:
        """Send the events of `report` and wait until they are out; return whether they all were taken."""
        before = self._lost.value
        emit(report, self._provider.get_logger("rolloutobs.gate", __version__))
        return self._provider.force_flush() and self._lost.value == before


def emit(report: Report, logger: Logger) -> None:
    """Hand the events of `report` to `logger`."""
    number, word = _SEVERITIES[Decision.ROLLBACK if report.is_page else report.decision]
    for name, body, attributes in told(report):
        logger.emit(
            LogRecord(
                timestamp=int(report.ended * 1e9),
                context=Context(),
                severity_number=number,
                severity_text=word,
                body=body,
                attributes=attributes,
                event_name=name,
            )
        )


def told(report: Report) -> Iterator[tuple[str, str, dict[str, Value]]]:
    """Yield event name, body and attributes: first of the decision, then of each signal that was compared."""
    last = report.bake or report
    verdict = last.verdict
    common: dict[str, Value] = {
        semconv.VERDICT_ATTR_APP: report.app,
        semconv.VERDICT_ATTR_PHASE: "bake" if report.bake else "rollout",
        semconv.VERDICT_ATTR_DECISION: report.decision.value,
        semconv.VERDICT_ATTR_CANARY_VERSION: verdict.canary_version,
        semconv.VERDICT_ATTR_STABLE_VERSION: verdict.stable_version,
        **({semconv.VERDICT_ATTR_OWNER: report.rails.owner} if report.rails.owner else {}),
    }
    found: dict[str, Value] = {
        **common,
        semconv.VERDICT_ATTR_INTERRUPTED: last.interrupted,
        semconv.VERDICT_ATTR_PAGE: report.is_page,
        semconv.VERDICT_ATTR_CANARY_REQUESTS: round(verdict.requests.canary_exposures),
        semconv.VERDICT_ATTR_STABLE_REQUESTS: round(verdict.requests.stable_exposures),
    }
    if report.override:
        found[semconv.VERDICT_ATTR_OVERRIDE] = report.override.reason
        if report.override.who:
            found[semconv.VERDICT_ATTR_OVERRIDE_WHO] = report.override.who
    if report.decided_by:
        found[semconv.VERDICT_ATTR_METRIC] = report.decided_by
    for metric in verdict.metrics:
        if metric.signal == report.decided_by:
            found.update(_numbers(metric))
    if verdict.share is not None and report.decided_by == "share":
        found.update(_evidence(verdict.share.evidence, (Side.ROLLBACK,), _AGAINST))
    yield semconv.EVENT_VERDICT, report.reason, found
    for metric in filter(is_seen, verdict.metrics):
        yield (
            semconv.EVENT_VERDICT_METRIC,
            f"{metric.title}: {metric.outcome.value}",
            {
                **common,
                semconv.VERDICT_ATTR_METRIC: metric.signal,
                semconv.VERDICT_ATTR_OUTCOME: metric.outcome.value,
                **_numbers(metric),
            },
        )


_AGAINST: Final = (semconv.VERDICT_ATTR_NATS, semconv.VERDICT_ATTR_THRESHOLD)
_FOR: Final = (semconv.VERDICT_ATTR_PROOF, semconv.VERDICT_ATTR_PROOF_THRESHOLD)


def _numbers(metric: MetricVerdict) -> dict[str, Value]:
    ratio = metric.ratio
    ratios = {
        semconv.VERDICT_ATTR_RATIO: ratio.estimate,
        semconv.VERDICT_ATTR_RATIO_LOW: ratio.low,
        semconv.VERDICT_ATTR_RATIO_HIGH: ratio.high,
    }
    return {
        **_evidence(metric.evidence, (Side.ROLLBACK, Side.GUARD), _AGAINST),
        **_evidence(metric.evidence, (Side.PROMOTE,), _FOR),
        **{name: value for name, value in ratios.items() if value is not None and math.isfinite(value)},
    }


def _evidence(
    evidence: tuple[Evidence, ...], sides: tuple[Side, ...], names: tuple[str, str]
) -> dict[str, Value]:
    found = strongest(evidence, sides)
    if found is None or not math.isfinite(found.nats):
        return {}
    return dict(zip(names, (found.nats, found.threshold), strict=True))
