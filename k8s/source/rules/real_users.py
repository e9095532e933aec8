"""Alerts on what users' browsers say of a canary, and on the collector that listens to them."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.canary import Z
from k8s.source.rules.model import Alert, Group, Severity, promql
from k8s.source.rules.recording import LIVE_CANARY, MINIMUM
from rolloutobs import semconv

__all__ = ["GROUP"]

# The collector may run in another namespace than the app.
_LIVE: Final = f"and on (app) ({LIVE_CANARY})"
_WHO: Final = "the canary of {{ $labels.app }}"
_BEACONS: Final = semconv.RUM_BEACONS_TOTAL
_PLAIN: Final = f"sum by (namespace) (increase({_BEACONS}[15m]))"
_HARMLESS: Final = "accepted|duplicate|empty|bot|ignored"
_REJECTED: Final = f'sum by (namespace) (increase({_BEACONS}{{{semconv.LABEL_OUTCOME}!~"{_HARMLESS}"}}[15m]))'

GROUP: Final = Group(
    "rolloutobs-real-user-alerts",
    (
        Alert(
            "CanaryPageErrors",
            Severity.WARNING,
            f"app:rum_views_with_errors:canary_z30m > {Z}\n{_LIVE}",
            f"Pages of {_WHO} throw JavaScript errors, and stable's do not",
            "The share of views with an error is {{ $value | humanize }} standard errors above stable's.",
        ),
        Alert(
            "CanaryPagesSlow",
            Severity.WARNING,
            f"app:rum_lcp_poor:canary_z30m > {Z}\n{_LIVE}",
            f"Pages of {_WHO} show their content late, and stable's do not",
            "The share of poor paints (LCP) is {{ $value | humanize }} standard errors above stable's.",
        ),
        Alert(
            "CollectorRejecting",
            Severity.WARNING,
            promql(f"""
                {_REJECTED} / ({_PLAIN} > {MINIMUM}) > 0.5
            """),
            "The collector in {{ $labels.namespace }} rejects most of what browsers send",
            "{{ $value | humanizePercentage }} of the bodies in 15 minutes: label outcome of "
            f"{_BEACONS} says why.",
        ),
        Alert(
            "CollectorDown",
            Severity.WARNING,
            promql(f"""
                group by (namespace, job) (last_over_time({_BEACONS}[1d]))
                unless group by (namespace, job) ({_BEACONS})
            """),
            "The collector in {{ $labels.namespace }} is gone",
            "It was there within a day: nothing is heard of users, and the gate decides without them.",
            hold_seconds=300,
        ),
    ),
)
