"""Alerts on ``rolloutobs gate --listen``."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import APP, Alert, Group, Severity, promql
from rolloutobs import semconv

__all__ = ["GROUP"]

# The default deadline of a gate is 30 minutes after the canary's first request.
_HELD: Final = "45m"
_FAILURES: Final = 3
"""In 15 minutes: what is tried again has failed again."""
_HELD_NOW: Final = f'{semconv.VERDICT}{{decision="hold"}}'
# Where an app says that only one version of it runs, there is nothing to decide: a server of the gate holds
# all the time then.
_NOT_ALONE: Final = f"unless on ({APP}) (app:app_version:count == 1)"
# What only a server of the gate exports, and at all times.
_SERVER: Final = semconv.GATE_FAILURES_TOTAL
_WHERE: Final = "{{ $labels.namespace }}"
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
                {_NOT_ALONE}
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
        Alert(
            "GateRollbackHeld",
            Severity.CRITICAL,
            f"max by ({APP}, {semconv.LABEL_WORKLOAD}, {semconv.LABEL_OWNER}) "
            f"({semconv.GATE_ROLLBACK_HELD}) == 1",
            f"The canary of {_WHO} is bad, and its rollback is marked as unsafe",
            "Nothing is rolled back by itself: whoever owns it has to decide. {{ $labels.owner }}",
        ),
        Alert(
            "GateServerDown",
            Severity.WARNING,
            promql(f"""
                group by (namespace, job) (last_over_time({_SERVER}[1d]))
                unless group by (namespace, job) ({_SERVER})
            """),
            f"The server of the gate in {_WHERE} is gone",
            "It was there within a day: rollouts that ask it wait, or are given up by their controller.",
            hold_seconds=300,
        ),
        Alert(
            "GateServerFailing",
            Severity.WARNING,
            f"sum by (namespace, job, {semconv.LABEL_WHERE}) (increase({_SERVER}[15m])) >= {_FAILURES}",
            f"The server of the gate in {_WHERE} fails in {{{{ $labels.where }}}}",
            "{{ $value | humanize }} times in 15 minutes; its log says why.",
        ),
    ),
)
