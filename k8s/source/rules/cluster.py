"""Alerts on Deployments and pods, from kube-state-metrics."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import Alert, Group, Severity, promql
from rolloutobs import foreign

__all__ = ["GROUP"]

_BY: Final = "max by (namespace, deployment)"
_WHICH: Final = "deployment {{ $labels.namespace }}/{{ $labels.deployment }}"
_APP: Final = "{{ $labels.namespace }}/{{ $labels.app }}"
_RS: Final = "{{ $labels.namespace }}/{{ $labels.created_by_name }}"


def _condition(condition: str, status: str) -> str:
    # Aggregated, for a changed reason is a new series and would start `for` again.
    matchers = f'condition="{condition}", status="{status}"'
    return f"{_BY} ({foreign.DEPLOYMENT_CONDITION}{{{matchers}}}) == 1"


def _serving(name: str) -> str:
    """Return the Deployments of that name, a pattern, of which something is available."""
    return f'{_BY} ({foreign.DEPLOYMENT_AVAILABLE}{{deployment=~"{name}"}}) > 0'


def _renamed(vector: str, new: str, label: str, pattern: str) -> str:
    return f'label_replace({vector}, "deployment", "{new}", "{label}", "{pattern}")'


_STUCK: Final = _condition("Progressing", "false")
# A canary that never comes up is what canaries are for: stable serves, and nobody has to get up. Of two
# Deployments by their names; under Flagger only what it knows, for others call a database's first one so.
_CANARIES: Final = promql(f"""
    unless on (namespace, deployment)
    {_renamed(_serving(".+-stable"), "$1-canary", "deployment", "(.+)-stable")}
    unless on (namespace, deployment) (
      {_renamed(_serving(".+-primary"), "$1", "deployment", "(.+)-primary")}
      and on (namespace, deployment)
      {_renamed(f"max by (namespace, workload) ({foreign.FLAGGER_WEIGHT})", "$1", "workload", "(.+)")}
    )
""")
_RS_LABELS: Final = "namespace, created_by_name"
_PODS: Final = f'{foreign.POD_INFO}{{created_by_kind="ReplicaSet"}}'


def _count(pods: str) -> str:
    # Each once: a pod has a series for each node and address that it has had, of each kube-state-metrics.
    return f"count by ({_RS_LABELS}) (group by ({_RS_LABELS}, pod) ({pods}))"


GROUP: Final = Group(
    "rolloutobs-cluster-alerts",
    (
        Alert(
            "DeploymentDown",
            Severity.CRITICAL,
            f"{_BY} ({foreign.DEPLOYMENT_AVAILABLE}) == 0\n"
            f"and {_BY} ({foreign.DEPLOYMENT_DESIRED}) > 0\n{_CANARIES}",
            f"No pod of {_WHICH} is available",
            "It wants some, and none is there; of a canary whose stable serves this is not said.",
            hold_seconds=120,
        ),
        Alert(
            "RolloutStuckUnavailable",
            Severity.CRITICAL,
            f"{_STUCK}\nand {_condition('Available', 'false')}\n{_CANARIES}",
            f"The rollout of {_WHICH} is stuck, and too few pods are left",
            "Its progress deadline has passed, and fewer pods are available than it must have.",
            hold_seconds=60,
        ),
        Alert(
            "RolloutStuck",
            Severity.WARNING,
            _STUCK,
            f"The rollout of {_WHICH} is stuck",
            "Its progress deadline has passed. The old pods still serve; `kubectl rollout status` says so.",
            hold_seconds=60,
        ),
        Alert(
            "RolloutBlocked",
            Severity.WARNING,
            _condition("ReplicaFailure", "true"),
            f"Pods of {_WHICH} cannot be created",
            "A quota, a policy or an admission webhook refuses them: see the ReplicaSet's events.",
            hold_seconds=60,
        ),
        Alert(
            "RolloutInProgress",
            Severity.INFO,
            promql(f"""
                {_BY} ({foreign.DEPLOYMENT_REPLICAS}) != {_BY} ({foreign.DEPLOYMENT_UPDATED})
            """),
            f"A rollout of {_WHICH} is in progress",
            "{{ $value }} pods, not all of the newest template.",
            keep_seconds=0,
        ),
        Alert(
            "RolloutFinished",
            Severity.INFO,
            promql("""
                app:app_version:count == 1
                and max_over_time(app:app_version:count[15m]) > 1
            """),
            f"One version of {_APP} is left",
            "A rollout was completed or rolled back in the last 15 minutes.",
            keep_seconds=0,
        ),
        Alert(
            "MixedVersions",
            Severity.INFO,
            promql("""
                min_over_time(app:app_version:count[6h]) > 1
                and app:app_version:count offset 6h > 1
            """),
            f"Two versions of {_APP} have run for over 6 hours",
            "{{ $value }} versions at least, all that time: a rollout that nobody has ended.",
            keep_seconds=0,
        ),
        Alert(
            "PodChurn",
            Severity.INFO,
            promql(f"""
                {_count(f"last_over_time({_PODS}[1h])")}
                > 3 * {_count(_PODS)} + 5
            """),
            f"Pods of ReplicaSet {_RS} come and go",
            "{{ $value }} pods within an hour, more than thrice those that run: evictions or scaling.",
        ),
    ),
)
