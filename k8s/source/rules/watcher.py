"""Alerts on what a watcher of the cluster exports; silent until one runs."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import Alert, Group, Severity, promql
from rolloutobs import semconv

__all__ = ["GROUP"]

_BY: Final = "max by (namespace, workload)"
_SECONDS: Final = semconv.ROLLOUT_DURATION_SECONDS
_WHICH: Final = "{{ $labels.namespace }}/{{ $labels.workload }}"

GROUP: Final = Group(
    "rolloutobs-watcher-alerts",
    (
        Alert(
            "RolloutSlow",
            Severity.INFO,
            promql(f"""
                {_BY} ({_SECONDS}) > 600
                and {_BY} ({_SECONDS}) > 2 * {_BY} (quantile_over_time(0.5, {_SECONDS}[14d]))
            """),
            f"A rollout of {_WHICH} takes longer than usual",
            "{{ $value | humanizeDuration }}, more than twice the median of two weeks.",
            keep_seconds=0,
        ),
        Alert(
            "TrackMismatch",
            Severity.WARNING,
            f"{_BY} ({semconv.TRACK_MISMATCH_PODS}) > 0",
            f"Pods of {_WHICH} say that they are of another track than they are",
            "{{ $value }} of them: what they count is on the wrong side of every comparison.",
            hold_seconds=120,
        ),
    ),
)
