"""Alerts on the telemetry itself: what is lost while all else looks well."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import APP, Alert, Group, Severity
from rolloutobs import semconv

__all__ = ["GROUP"]

# The collector's and the checks' own have no app.
_WHO: Final = "{{ $labels.namespace }}{{ with $labels.app }}/{{ . }}{{ end }}"
_ERRORS: Final = semconv.INTERNAL_ERRORS_TOTAL
_BY_PLACE: Final = f"sum by ({APP}, {semconv.LABEL_WHERE})"

GROUP: Final = Group(
    "rolloutobs-telemetry-alerts",
    (
        Alert(
            "TelemetryErrors",
            Severity.WARNING,
            # A series that begins with its first failure, or in a new process, does not increase.
            f"{_BY_PLACE} (increase({_ERRORS}[15m])) > 0\n"
            f"or {_BY_PLACE} ({_ERRORS} unless {_ERRORS} offset 15m) > 0",
            f"The telemetry of {_WHO} fails in {{{{ $labels.where }}}}",
            "{{ $value | humanize }} times in 15 minutes. Requests were answered all the same; "
            "its log says what.",
        ),
        Alert(
            "LabelSetsDropped",
            Severity.INFO,
            f"sum by ({APP}, {semconv.LABEL_METRIC}) (increase({semconv.LABEL_SETS_DROPPED_TOTAL}[15m])) > 0",
            f"{_WHO} has too many label sets of {{{{ $labels.metric }}}}",
            "{{ $value | humanize }} observations in 15 minutes were counted without labels of their own.",
        ),
    ),
)
