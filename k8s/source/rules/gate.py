"""Alerts on ``rolloutobs gate --listen``."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import APP, Alert, Group, Severity, promql
from rolloutobs import semconv

__all__ = ["GROUP"]

# The default deadline of a gate is 30 minutes after the canary's first request.
_HELD: Final = "45m"
_HELD_NOW: Final = f'{semconv.VERDICT}{{decision="hold"}}'
_WHO: Final = "{{ $labels.namespace }}/{{ $labels.app }}"

GROUP: Final = Group(
    "rolloutobs-gate-alerts",
    (
        Alert(
            "GateRollback",
            Severity.WARNING,
            f'max by ({APP}) ({semconv.VERDICT}{{decision="rollback"}}) == 1',
            f"The gate says: roll {_WHO} back",
            "The canary is proven to be worse. The gate's report says by what.",
            keep_seconds=1800,
        ),
        Alert(
            "GateHeldTooLong",
            Severity.WARNING,
            promql(f"""
                min by ({APP}) (min_over_time({_HELD_NOW}[{_HELD}])) == 1
                and max by ({APP}) ({_HELD_NOW} offset {_HELD}) == 1
            """),
            f"The rollout of {_WHO} has been held for over {_HELD}",
            "Neither proven good nor bad: too little traffic, or a difference as small as the margin.",
        ),
        Alert(
            "GateSilent",
            Severity.WARNING,
            f"max by ({APP}) (increase({semconv.GATE_LOOKS_TOTAL}[10m])) == 0\n"
            f"and max by ({APP}) ({_HELD_NOW}) == 1",
            f"The gate of {_WHO} has not looked for 10 minutes",
            "It is there, undecided, and takes no readings: its source does not answer.",
        ),
    ),
)
