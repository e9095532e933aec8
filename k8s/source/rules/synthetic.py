"""Alerts on synthetic checks: a canary that fails them, and checks that prove nothing."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import APP, CANARY, STABLE, Alert, Group, Severity, promql
from k8s.source.rules.recording import LIVE_CANARY
from rolloutobs import semconv

__all__ = ["GROUP"]

# Retries hide one failure, and three in half an hour are no coincidence.
_FAILURES: Final = 3
_STALE_SECONDS: Final = 1800
_BY: Final = f"{APP}, {semconv.LABEL_CHECK}"
_LIVE: Final = f"and on (app) ({LIVE_CANARY})"
_WHO: Final = "{{ $labels.check }} of {{ $labels.app }}"


def _failed(track: str) -> str:
    matchers = f'{track}, {semconv.LABEL_STEP}="", {semconv.LABEL_OUTCOME}="fail"'
    return f"sum by ({_BY}) (increase({semconv.SYNTHETIC_CHECK_RUNS_TOTAL}{{{matchers}}}[30m]))"


# As the load itself asks for by default, and not for less.
_LOAD_REQUESTS: Final = 50
_LOAD_SHARE: Final = 0.01
_BY_LOAD: Final = f"{APP}, {semconv.LABEL_LOAD}"


def _load_share(track: str) -> str:
    """Return the share of a load's requests that failed in half an hour; nothing where there were few."""
    asked = f"sum by ({_BY_LOAD}) (increase({semconv.SYNTHETIC_LOAD_REQUESTS_TOTAL}{{{track}%s}}[30m]))"
    failed = asked % f', {semconv.LABEL_OUTCOME}="fail"'
    return f"{failed} / ({asked % ''} >= {_LOAD_REQUESTS})"


_LAST: Final = semconv.SYNTHETIC_CHECK_LAST_SUCCESS_TIMESTAMP_SECONDS
_MISMATCH: Final = semconv.SYNTHETIC_CHECK_IDENTITY_MISMATCH_TOTAL

GROUP: Final = Group(
    "rolloutobs-synthetic-alerts",
    (
        Alert(
            "SyntheticCanaryFailing",
            Severity.WARNING,
            promql(f"""
                {_failed(CANARY)}
                - {_failed(STABLE)} >= {_FAILURES}
                {_LIVE}
            """),
            f"The canary fails check {_WHO}, and stable passes it",
            "{{ $value | humanize }} runs more than stable's have failed in 30 minutes.",
        ),
        Alert(
            "SyntheticLoadFailing",
            Severity.WARNING,
            promql(f"""
                {_load_share(CANARY)}
                - {_load_share(STABLE)} > {_LOAD_SHARE}
                {_LIVE}
            """),
            "Under load {{ $labels.load }} the canary of {{ $labels.app }} fails more than stable",
            "{{ $value | humanizePercentage }} more of its requests have failed in 30 minutes.",
        ),
        Alert(
            "SyntheticStale",
            Severity.WARNING,
            # Of ended runs, too: each is a process of its own, and one in which none passes has no series.
            f"time() - max by ({_BY}) (last_over_time({_LAST}[1d])) > {_STALE_SECONDS}",
            f"No run of check {_WHO} has passed for a while, on any track",
            "The last one was {{ $value | humanizeDuration }} ago: the check does not run, or all fail it.",
        ),
        Alert(
            "SyntheticIdentityMismatch",
            Severity.WARNING,
            promql(f"""
                sum by ({_BY}) (increase({_MISMATCH}[30m])) >= {_FAILURES}
                {_LIVE}
            """),
            f"Check {_WHO} does not reach the version that it is meant for",
            "{{ $value | humanize }} runs in 30 minutes were answered by another version, "
            "or by somebody who did not say who it is.",
        ),
    ),
)
