"""What happened when: versions, traffic, decisions and alerts along one time axis."""

from __future__ import annotations

from typing import Final

from k8s.source.dashboards.model import IDENTITY, Board, Kind, Panel, Query, Row, rate
from k8s.source.rules import cluster, watcher
from k8s.source.rules.model import Alert
from rolloutobs import foreign, semconv

__all__ = ["BOARD"]

_IN: Final = 'namespace=~"$namespace"'
_BY: Final = "max by (namespace, workload)"
_WORKLOAD: Final = "{{namespace}}/{{workload}}"
_PHASE: Final = f"{_WORKLOAD} {{{{phase}}}}"
_APP: Final = f'{semconv.LABEL_APP}="$app"'
_OF_CLUSTERS: Final = "|".join(
    rule.name
    for group in (cluster.GROUP, watcher.GROUP)
    for rule in group.rules
    if isinstance(rule, Alert)
    and ("$labels.deployment" in rule.summary or "$labels.workload" in rule.summary)
)
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
                    "Pods of the cluster, scraped or not", "short",
                    (Query(f"sum by (version, track) ({semconv.PODS}{{{IDENTITY}}})"),),
                    "From `rolloutobs watch`, those that are being deleted too.", width=24,
                ),
                Panel(
                    "Share of users' requests", "percentunit",
                    (Query(f"{rate(semconv.HTTP_REQUESTS_TOTAL)} / {_TOTAL}"),), width=24,
                ),
            ),
        ),
        Row(
            "Rollouts",
            (
                Panel(
                    "Phase", "short",
                    (Query(f"{_BY[:-1]}, phase) ({semconv.ROLLOUT_PHASE}{{{_IN}}}) == 1", _PHASE),),
                    "From `rolloutobs watch`; a phase lasts until the next rollout begins.", Kind.STATES, 16,
                ),
                Panel(
                    "Progress", "percentunit",
                    (Query(f"{_BY} ({semconv.ROLLOUT_PROGRESS_RATIO}{{{_IN}}})", _WORKLOAD),),
                    "New pods that are available, or the canary's share of the traffic.", width=8,
                ),
                Panel(
                    "The last rollout of each workload", "s",
                    (
                        Query(
                            f"{_BY} ({semconv.ROLLOUT_DURATION_SECONDS}{{{_IN}}}) "
                            "* on (namespace, workload) group_left (from_version, to_version) "
                            f"{_BY[:-1]}, from_version, to_version) "
                            f"({semconv.ROLLOUT_INFO}{{{_IN}}})",
                            "seconds",
                        ),
                    ),
                    kind=Kind.TABLE, width=16,
                ),
                Panel(
                    "Pods on the wrong track", "short",
                    (Query(f"{_BY} ({semconv.TRACK_MISMATCH_PODS}{{{_IN}}})", _WORKLOAD),),
                    "Their label disagrees with their controller.", width=8,
                ),
            ),
            "no watcher is scraped (`rolloutobs watch`), or it has seen no rollout here",
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
                        # Those on Deployments and rollouts know no app.
                        Query(
                            "max by (alertname, severity, deployment, workload) "
                            f'(ALERTS{{alertstate="firing", {_IN}, alertname=~"{_OF_CLUSTERS}"}})',
                            "{{severity}} {{alertname}} {{deployment}}{{workload}}",
                        ),
                    ),
                    kind=Kind.STATES, width=24,
                ),
            ),
        ),
        Row(
            "Recent events",
            (
                Panel(
                    "What happened", "short", (),
                    "From `rolloutobs watch`, beyond the hour for which Kubernetes keeps events. Needs "
                    "Grafana's plugin Infinity, and the watcher's address above.",
                    Kind.EVENTS, 24,
                ),
            ),
        ),
    ),
)  # fmt: skip
