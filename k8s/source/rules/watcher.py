"""Alerts on what ``rolloutobs watch`` exports, and on the watcher itself; silent until one runs."""

from __future__ import annotations

from typing import Final

from k8s.source.rules.model import Alert, Group, Severity, promql
from rolloutobs import foreign, semconv
from rolloutobs.cluster.model import Phase
from rolloutobs.cluster.resources import RESOURCES

__all__ = ["GROUP"]

_LABELS: Final = "namespace, workload"
_BY: Final = f"max by ({_LABELS})"
_SECONDS: Final = semconv.ROLLOUT_DURATION_SECONDS
_WHICH: Final = "{{ $labels.namespace }}/{{ $labels.workload }}"
_WHO: Final = "{{ $labels.namespace }}"
# Longer than any step of a rollout that goes on by itself, shorter than a day's shift.
_HELD: Final = "2h"
_FAILURES: Final = 10
"""In 15 minutes: a watch is cut now and then, and goes on."""
_SELF: Final = f"group by (namespace, job) ({semconv.WATCHER_LISTS_TOTAL})"
_NEEDED: Final = "|".join(resource.plural for resource in RESOURCES if resource.is_required)
_STUCK_DEPLOYMENTS: Final = (
    f'label_replace({foreign.DEPLOYMENT_CONDITION}{{condition="Progressing", status="false"}} == 1, '
    '"workload", "$1", "deployment", "(.+)")'
)


def _in(*phases: Phase) -> str:
    matcher = "|".join(phase.value for phase in phases)
    return f'{semconv.ROLLOUT_PHASE}{{phase=~"{matcher}"}}'


# For Alertmanager to route by. It is there with every rollout, and empty where nobody owns the workload.
_OWNER: Final = (
    f"* on ({_LABELS}) group_left ({semconv.LABEL_OWNER}) "
    f"max by ({_LABELS}, {semconv.LABEL_OWNER}) ({semconv.ROLLOUT_INFO})"
)
_UNDER_WAY: Final = f"{_BY} ({_in(*(phase for phase in Phase if not phase.is_end))}) == 1"
_PAUSED: Final = _in(Phase.PAUSED)

GROUP: Final = Group(
    "rolloutobs-watcher-alerts",
    (
        Alert(
            "RolloutSlow",
            Severity.INFO,
            promql(f"""
                {_BY} ({_SECONDS}) {_OWNER} > 600
                and on ({_LABELS}) {_BY} ({_SECONDS}) > 2 * {_BY} (quantile_over_time(0.5, {_SECONDS}[14d]))
                and on ({_LABELS}) {_UNDER_WAY}
            """),
            f"A rollout of {_WHICH} takes longer than usual",
            "{{ $value | humanizeDuration }}, more than twice the median of two weeks.",
            keep_seconds=0,
        ),
        Alert(
            "RolloutHeldTooLong",
            Severity.WARNING,
            promql(f"""
                {_BY} (min_over_time({_PAUSED}[{_HELD}])) {_OWNER} == 1
                and on ({_LABELS}) {_BY} ({_PAUSED} offset {_HELD}) == 1
            """),
            f"The rollout of {_WHICH} has been paused for over {_HELD}",
            "Nobody has let it go on, nor taken it back: two versions serve all that time.",
        ),
        Alert(
            "RolloutStalled",
            Severity.WARNING,
            promql(f"""
                {_BY} ({_in(Phase.STUCK)}) {_OWNER} == 1
                unless on ({_LABELS}) {_BY} ({_STUCK_DEPLOYMENTS})
            """),
            f"The rollout of {_WHICH} makes no progress",
            "Its controller says so, or may not create pods; `rolloutobs status` has the reason.",
            hold_seconds=60,
        ),
        Alert(
            "TrackMismatch",
            Severity.WARNING,
            f"{_BY} ({semconv.TRACK_MISMATCH_PODS}) > 0",
            f"Pods of {_WHICH} say that they are of another track than they are",
            "{{ $value }} of them: what they count is on the wrong side of every comparison.",
            hold_seconds=120,
        ),
        Alert(
            "WatcherDown",
            Severity.WARNING,
            promql(f"""
                group by (namespace, job) (last_over_time({semconv.WATCHER_LISTS_TOTAL}[1d]))
                unless {_SELF}
            """),
            f"The watcher in {_WHO} is gone",
            "It was there within a day: rollouts are neither marked nor kept until it is back.",
            hold_seconds=300,
        ),
        Alert(
            "WatcherBlind",
            Severity.WARNING,
            f"min by (namespace, job, {semconv.LABEL_RESOURCE}) "
            f'({semconv.WATCHER_READABLE}{{{semconv.LABEL_RESOURCE}=~"{_NEEDED}"}}) == 0',
            f"The watcher in {_WHO} cannot read {{{{ $labels.resource }}}}",
            "A right is missing, or the API server refuses: the watcher's log says which.",
            hold_seconds=120,
        ),
        Alert(
            "WatcherFailing",
            Severity.WARNING,
            f"sum by (namespace, job, {semconv.LABEL_WHERE}) "
            f"(increase({semconv.WATCHER_FAILURES_TOTAL}[15m])) >= {_FAILURES}",
            f"The watcher in {_WHO} fails in {{{{ $labels.where }}}}",
            "{{ $value | humanize }} times in 15 minutes; its log says why.",
        ),
    ),
)
