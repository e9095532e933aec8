"""The verdict as a span of its rollout's trace, where an OTLP endpoint is configured.

Who watches the cluster sends the rest of that trace; neither needs to know the other, as its ids follow from
the rollout.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from opentelemetry.sdk.trace.export import SpanExportResult

from rolloutobs._version import __version__
from rolloutobs.analysis.model import Decision
from rolloutobs.analysis.report import Report
from rolloutobs.cli.events import SERVICE, told
from rolloutobs.cluster.stories import ROOT, VERDICT, Telling
from rolloutobs.cluster.traces import read_span
from rolloutobs.errors import MissingExtraError
from rolloutobs.settings import Settings
from rolloutobs.telemetry.export import resource_of, span_exporter
from rolloutobs.telemetry.failures import Failures, Where

__all__ = ["send_span"]


def send_span(report: Report, rollout: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send the last phase of `report` (the bake, where there was one); return whether it was taken.

    Args:
        report: what was decided.
        rollout: `Rollout.id`.
        environ: of OpenTelemetry.

    Raises:
        ConfigurationError: a variable has a value that cannot be used.
    """
    settings = Settings.from_env({"OTEL_SERVICE_NAME": SERVICE, "ROLLOUTOBS_VERSION": __version__, **environ})
    try:
        exporter = span_exporter(settings)
    except MissingExtraError as error:
        Failures().record(Where.EXPORT, error)
        return False
    last = report.bake or report
    _, reason, attributes = next(told(report))
    is_bad = report.decision is Decision.ROLLBACK or report.is_page
    telling = Telling(
        f"{VERDICT}/{last.began:.0f}",
        ROOT,
        VERDICT,
        last.began,
        max(last.ended, last.began),
        attributes,
        reason if is_bad else "",
    )
    try:
        return (
            exporter.export([read_span(telling, rollout, resource_of(settings))]) is SpanExportResult.SUCCESS
        )
    finally:
        exporter.shutdown()
