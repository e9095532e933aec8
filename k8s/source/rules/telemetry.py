"""Alerts on the telemetry itself: what is lost while all else looks well."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import APP, Alert, Group, Severity
from rolloutobs import semconv

__all__ = ["GROUP"]

_WHO: Final = "{{ $labels.namespace }}/{{ $labels.app }}"

GROUP: Final = Group(
    "rolloutobs-telemetry-alerts",
    (
        Alert(
            "TelemetryErrors",
            Severity.WARNING,
            f"sum by ({APP}, {semconv.LABEL_WHERE}) (increase({semconv.INTERNAL_ERRORS_TOTAL}[15m])) > 0",
            f"The telemetry of {_WHO} fails in {{{{ $labels.where }}}}",
            "{{ $value | humanize }} times in 15 minutes. Requests were answered; the app's log says what.",
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
