"""Alerts that compare a canary with stable: silent where both are equally bad, or too little is seen."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import APP, CANARY, STABLE, Alert, Group, Severity, promql
from k8s.source.rules.recording import LIVE_CANARY, MINIMUM
from rolloutobs import foreign, semconv
from rolloutobs.cluster.model import Phase

__all__ = ["BURN_FAST", "GROUP", "Z"]

# Two per cent of a month's budget in an hour.
# Source: Google, The Site Reliability Workbook, chapter 5, table 5-8.
BURN_FAST: Final = 14.4
# One false alarm in about 740 looks at an equally good canary (one-sided normal tail), before the other
# conditions of the same alert.
Z: Final = 3
# A histogram's bounds are a factor 1.5 apart: a true x1.5 moves one bucket, of which interpolation shows at
# least x1.25.
_SLOWER: Final = 1.25
_REQUESTS: Final = 100
_RESTARTS: Final = 3
_CANARY_RATE: Final = "app:http_requests:canary_rate5m"
_ALL: Final = f"({_CANARY_RATE} + app:http_requests:stable_rate5m)"
# The lowest of the last minutes: while the weight goes up, the share follows.
_FLAGGER: Final = f"min_over_time({foreign.FLAGGER_WEIGHT}[10m]) / 100"
_UNDER_WAY: Final = "|".join(phase.value for phase in Phase if not phase.is_end)
# What the watcher knows of Argo Rollouts; a rollout that is over gives the canary nothing.
_WATCHER: Final = (
    f"min_over_time({semconv.ROLLOUT_PROGRESS_RATIO}[10m]) "
    f'and on (namespace, workload) ({semconv.ROLLOUT_PHASE}{{phase=~"{_UNDER_WAY}"}} == 1)'
)
_WEIGHT: Final = (
    f'(max by ({APP}) (label_replace({_FLAGGER}, "app", "$1", "workload", "(.+)")) '
    f'or max by ({APP}) (label_replace({_WATCHER}, "app", "$1", "workload", "(.+)")))'
)
_LIVE: Final = f"and on (namespace, app, version) ({LIVE_CANARY})"
_P95: Final = "app_version:http_request_duration_seconds:p95_rate5m"
_WHO: Final = "canary {{ $labels.version }} of {{ $labels.namespace }}/{{ $labels.app }}"

GROUP: Final = Group(
    "rolloutobs-canary-alerts",
    (
        Alert(
            "CanaryErrorBudgetBurn",
            Severity.CRITICAL,
            promql(f"""
                app_version:http_requests_errors:ratio_rate5m{{{CANARY}}} > {BURN_FAST} * 0.001
                and app_version:http_requests_errors:ratio_rate30m{{{CANARY}}} > {BURN_FAST} * 0.001
                and on ({APP}) (app:http_requests_errors:canary_z30m > {Z})
                {_LIVE}
            """),
            f"The {_WHO} fails, and stable does not",
            "{{ $value | humanizePercentage }} of its requests have failed in 5 minutes, "
            f"more than {BURN_FAST} times an error budget of 0.1 %, and in 30 by over {Z} standard errors "
            "more than stable's.",
        ),
        Alert(
            "CanaryLatencyHigh",
            Severity.WARNING,
            promql(f"""
                {_P95}{{{CANARY}}}
                > on ({APP}) group_left () ({_SLOWER} * max by ({APP}) ({_P95}{{{STABLE}}}))
                and on ({APP}) (300 * app:http_requests:canary_rate5m >= {_REQUESTS})
                and on ({APP}) (300 * app:http_requests:stable_rate5m >= {_REQUESTS})
                {_LIVE}
            """),
            f"The {_WHO} is slower than stable",
            "Its 95th percentile is {{ $value | humanizeDuration }}, "
            f"more than {_SLOWER} times stable's: what a true x1.5 shows at least.",
            hold_seconds=60,
        ),
        Alert(
            "CanaryWithoutTraffic",
            Severity.WARNING,
            promql(f"""
                {LIVE_CANARY}
                and on ({APP}) (300 * app:http_requests:stable_rate5m >= {MINIMUM})
                unless on ({APP}) (app:http_requests:canary_rate5m > 0)
            """),
            f"The {_WHO} gets no requests",
            "{{ $value }} of its pods are scraped, stable is busy, and no user request has reached it.",
            hold_seconds=300,
        ),
        Alert(
            "CanaryShareLow",
            Severity.WARNING,
            promql(f"""
                ({_CANARY_RATE} > 0) / {_ALL} < 0.5 * {_WEIGHT}
                and 300 * {_ALL} * {_WEIGHT} >= {_REQUESTS}
                and on ({APP}) ({LIVE_CANARY})
            """),
            "The canary of {{ $labels.namespace }}/{{ $labels.app }} does not get its share of the traffic",
            "{{ $value | humanizePercentage }} of the requests reach it, less than half of its weight.",
        ),
        Alert(
            "CanaryRestarting",
            Severity.WARNING,
            promql(f"""
                app_version:kube_pod_container_status_restarts:increase15m{{{CANARY}}} >= {_RESTARTS}
                unless on ({APP}) (
                  app_version:kube_pod_container_status_restarts:increase15m{{{STABLE}}} >= {_RESTARTS}
                )
            """),
            f"Containers of the {_WHO} restart",
            "{{ $value | humanize }} restarts in 15 minutes, and stable's do not.",
        ),
    ),
)
