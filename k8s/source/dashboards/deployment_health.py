"""Pods and Deployments behind the versions, from kube-state-metrics and cAdvisor."""

from __future__ import annotations

from typing import Final

from k8s.source.dashboards.model import IDENTITY, Board, Kind, Panel, Query, Row
from k8s.source.rules.app import MEMORY
from rolloutobs import foreign, semconv

__all__ = ["BOARD"]

_IN: Final = 'namespace=~"$namespace"'
_BY: Final = "namespace, deployment"
_LEGEND: Final = "{{deployment}}"


def _of_deployments(metric: str, legend: str) -> Query:
    return Query(f"max by ({_BY}) ({metric}{{{_IN}}})", f"{_LEGEND} {legend}")


BOARD: Final = Board(
    "deployment-health",
    "Rollout: deployment health",
    "Replicas, readiness, restarts and memory by version. Needs kube-state-metrics and the recording rules.",
    semconv.APP_BUILD_INFO,
    (
        Row(
            "Deployments",
            (
                Panel(
                    "Replicas", "short",
                    (
                        _of_deployments(foreign.DEPLOYMENT_DESIRED, "desired"),
                        _of_deployments(foreign.DEPLOYMENT_REPLICAS, "present"),
                        _of_deployments(foreign.DEPLOYMENT_UPDATED, "updated"),
                        _of_deployments(foreign.DEPLOYMENT_AVAILABLE, "available"),
                    ),
                    "A stuck rollout has all replicas available, and few of them updated.",
                    width=12,
                ),
                Panel(
                    "Conditions that hold", "short",
                    (
                        Query(
                            f"max by ({_BY}, condition, status, reason) "
                            f"({foreign.DEPLOYMENT_CONDITION}{{{_IN}}}) == 1",
                            "{{deployment}} {{condition}}={{status}} {{reason}}",
                        ),
                    ),
                    "Progressing=false is a rollout past its deadline.", Kind.STATES, 12,
                ),
            ),
            "kube-state-metrics is not scraped, or not with honorLabels: true",
        ),
        Row(
            "Pods by version",
            (
                Panel("Ready", "short", (Query(f"app_version:kube_pod:count_ready{{{IDENTITY}}}"),), width=6),
                Panel(
                    "Age of the youngest", "s",
                    (Query(f"app_version:kube_pod_age_seconds:min{{{IDENTITY}}}"),), width=6,
                ),
                Panel(
                    "Restarts in 15 minutes", "short",
                    (Query(f"app_version:kube_pod_container_status_restarts:increase15m{{{IDENTITY}}}"),),
                    width=6,
                ),
                Panel(
                    "Memory, highest share of a limit", "percentunit",
                    (Query(f"app_version:container_memory_working_set:max_ratio_limit{{{IDENTITY}}}"),),
                    "Containers without a limit are not in it.", width=6, limits=(MEMORY,),
                ),
            ),
            "kube-state-metrics does not tell the versions of pods, or the recording rules are not loaded: "
            "`rolloutobs doctor --prometheus URL` says which",
        ),
    ),
)  # fmt: skip
