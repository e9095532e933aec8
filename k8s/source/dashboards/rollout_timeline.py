"""What happened when: versions, traffic, decisions and alerts along one time axis."""

from __future__ import annotations

from typing import Final

from k8s.source.dashboards.model import IDENTITY, Board, Kind, Panel, Query, Row, rate
from rolloutobs import foreign, semconv

__all__ = ["BOARD"]

_IN: Final = 'namespace=~"$namespace"'
_APP: Final = f'{semconv.LABEL_APP}="$app"'
_TOTAL: Final = f"scalar(sum({rate(semconv.HTTP_REQUESTS_TOTAL)}))"

BOARD: Final = Board(
    "rollout-timeline",
    "Rollout: timeline",
    "Versions, traffic, decisions and alerts along one time axis.",
    semconv.APP_BUILD_INFO,
    (
        Row(
            "Versions and traffic",
            (
                Panel(
                    "Pods by version", "short",
                    (Query(f"count by (version, track) ({semconv.APP_BUILD_INFO}{{{IDENTITY}}})"),),
                    kind=Kind.STATES, width=24,
                ),
                Panel(
                    "Share of users' requests", "percentunit",
                    (Query(f"{rate(semconv.HTTP_REQUESTS_TOTAL)} / {_TOTAL}"),), width=24,
                ),
            ),
        ),
        Row(
            "Decisions and states",
            (
                Panel(
                    "Decision of the gate", "short",
                    (Query(f"{semconv.VERDICT}{{{_APP}}} == 1", "{{decision}}"),),
                    kind=Kind.STATES, width=12,
                ),
                Panel(
                    "Rollouts that are in progress or stuck", "short",
                    (
                        Query(
                            f"max by (deployment) ({foreign.DEPLOYMENT_REPLICAS}{{{_IN}}}) "
                            f"!= max by (deployment) ({foreign.DEPLOYMENT_UPDATED}{{{_IN}}})",
                            "{{deployment}} in progress",
                        ),
                        Query(
                            f"max by (deployment) ({foreign.DEPLOYMENT_CONDITION}"
                            f'{{{_IN}, condition="Progressing", status="false"}}) == 1',
                            "{{deployment}} stuck",
                        ),
                    ),
                    kind=Kind.STATES, width=12,
                ),
                Panel(
                    "Alerts", "short",
                    (
                        Query(
                            f'max by (alertname, severity, version) (ALERTS{{alertstate="firing", {_APP}}})',
                            "{{severity}} {{alertname}} {{version}}",
                        ),
                    ),
                    kind=Kind.STATES, width=24,
                ),
            ),
        ),
    ),
)  # fmt: skip
