"""Deployments, Rollouts of Argo and Canaries of Flagger, in the same terms. Pure.

What each controller's status means is here and nowhere else; errors are those of
`rolloutobs.cluster.objects`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rolloutobs.cluster.model import Condition, Replicas, WorkloadKind
from rolloutobs.cluster.objects import (
    Controller,
    app_of,
    conditions_of,
    ours,
    revision_of,
    template_version,
    when,
)

__all__ = ["PRIMARY", "WAITING", "canary_of", "deployment_of", "rollout_of"]

Plain = Mapping[str, Any]

PRIMARY: Final = "-primary"
"""What Flagger adds to the name of its target for the Deployment that is stable."""
WAITING: Final = "+"
"""Ends what stands for the template of a Canary that may not begin yet: Flagger still names the old one."""
_NO_DEADLINE: Final = 2**31 - 1
"""``progressDeadlineSeconds`` that means none. Source: Kubernetes, ``HasProgressDeadline``."""
_DEFAULT_DEADLINE: Final = 600
"""Source: Kubernetes, ``SetDefaults_Deployment``; Argo Rollouts, ``DefaultProgressDeadlineSeconds``."""


def deployment_of(plain: Plain) -> Controller:
    """Return a Deployment."""
    meta, spec, status = plain["metadata"], plain["spec"], plain.get("status") or {}
    replicas = _replicas(spec, status)
    conditions = conditions_of(status)
    progressing = _find(conditions, "Progressing")
    is_current = int(status.get("observedGeneration", 0)) >= int(meta.get("generation", 0))
    paused = "paused" if spec.get("paused") else ""
    is_complete = is_current and _is_rolled_out(replicas, progressing)
    return Controller(
        WorkloadKind.DEPLOYMENT,
        meta["uid"],
        meta["namespace"],
        meta["name"],
        _app(meta, spec),
        template_version(spec["template"]),
        revision_of(meta),
        replicas,
        conditions,
        ours(meta),
        is_current,
        progressing.updated if progressing else _touched(meta, conditions),
        is_complete,
        paused,
        "" if is_complete or paused else _hindrance(conditions),
        deadline=None if is_complete or paused else _deadline(spec, progressing),
    )


def rollout_of(plain: Plain) -> Controller:
    """Return a Rollout of Argo; its template may be that of a Deployment it refers to."""
    meta, spec, status = plain["metadata"], plain["spec"], plain.get("status") or {}
    conditions = conditions_of(status)
    progressing = _find(conditions, "Progressing")
    current, stable = status.get("currentPodHash") or "", status.get("stableRS") or ""
    phase, message = status.get("phase", ""), status.get("message") or ""
    aborted = (message or "aborted") if status.get("abort") else ""
    # Promoted; whether its pods are well by now is another question.
    is_complete = bool(current) and current == stable
    paused = "" if aborted else _argo_pause(spec, status)
    hindrance = _hindrance(conditions) or (message if phase in ("Degraded", "Error") else "")
    weights = (status.get("canary") or {}).get("weights") or {}
    return Controller(
        WorkloadKind.ROLLOUT,
        meta["uid"],
        meta["namespace"],
        meta["name"],
        _app(meta, spec),
        template_version(spec.get("template") or {}),
        revision_of(meta),
        _replicas(spec, status),
        conditions,
        ours(meta),
        _is_observed(meta, status),
        _argo_touched(meta, status, conditions),
        is_complete,
        paused,
        "" if aborted or is_complete or paused else hindrance,
        aborted,
        None if is_complete or paused or aborted else _deadline(spec, progressing),
        current,
        stable,
        (weights.get("canary") or {}).get("weight", 0) / 100.0 if weights and not is_complete else None,
        (spec.get("workloadRef") or {}).get("name", ""),
    )


_WAITS: Final = {
    "Waiting": "waits for the confirmation to begin",
    "WaitingPromotion": "waits for the confirmation of the promotion",
}
_DONE: Final = frozenset({"Initialized", "Succeeded"})


def canary_of(plain: Plain) -> Controller:
    """Return a Canary of Flagger; versions, revision and pods are those of its Deployments."""
    meta, spec, status = plain["metadata"], plain["spec"], plain.get("status") or {}
    phase = status.get("phase") or "Initializing"
    conditions = conditions_of(status)
    message = next((condition.message for condition in conditions if condition.type == "Promoted"), "")
    is_complete = phase in _DONE
    return Controller(
        WorkloadKind.CANARY,
        meta["uid"],
        meta["namespace"],
        meta["name"],
        "",
        "",
        0,
        Replicas(),
        conditions,
        ours(meta),
        True,
        when(status.get("lastTransitionTime")) or _touched(meta, conditions),
        is_complete,
        _WAITS.get(phase, "") or ("paused" if spec.get("suspend") and not is_complete else ""),
        aborted=(message or "the analysis has failed") if phase == "Failed" else "",
        weight_ratio=None if is_complete else float(status.get("canaryWeight") or 0) / 100.0,
        target=(spec.get("targetRef") or {}).get("name", ""),
        applied=f"{status.get('lastAppliedSpec') or ''}{WAITING if phase == 'Waiting' else ''}",
    )


def _is_rolled_out(replicas: Replicas, progressing: Condition | None) -> bool:
    """Return whether a Deployment's rollout has come to its end, whatever became of its pods since.

    Source: Kubernetes, deployment/util, ``DeploymentComplete``, and deployment/progress,
    ``syncRolloutStatus``: the reason stays while pods crash or are scaled, until the next rollout.
    """
    if replicas.updated != replicas.total:
        return False
    if progressing is not None and progressing.reason == "NewReplicaSetAvailable":
        return True
    return replicas.updated == replicas.available == replicas.desired


def _app(meta: Plain, spec: Plain) -> str:
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or meta.get("labels") or {}
    return app_of(labels, meta["name"])


def _replicas(spec: Plain, status: Plain) -> Replicas:
    desired = spec.get("replicas")
    counts = {
        name: int(status.get(key) or 0)
        for name, key in (
            ("total", "replicas"),
            ("updated", "updatedReplicas"),
            ("ready", "readyReplicas"),
            ("available", "availableReplicas"),
            ("unavailable", "unavailableReplicas"),
            ("terminating", "terminatingReplicas"),
        )
    }
    return Replicas(1 if desired is None else int(desired), **counts)


def _find(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == type_), None)


def _hindrance(conditions: tuple[Condition, ...]) -> str:
    """Return why there is no progress; the quota that forbids pods explains more than the time it took."""
    failure = _find(conditions, "ReplicaFailure")
    if failure is not None and failure.status == "True":
        return f"{failure.reason}: {failure.message}"
    progressing = _find(conditions, "Progressing")
    return progressing.reason if progressing is not None and progressing.status == "False" else ""


def _deadline(spec: Plain, progressing: Condition | None) -> float | None:
    seconds = int(spec.get("progressDeadlineSeconds") or _DEFAULT_DEADLINE)
    if progressing is None or seconds >= _NO_DEADLINE:
        return None
    return progressing.changed if progressing.status == "False" else progressing.updated + seconds


def _touched(meta: Plain, conditions: tuple[Condition, ...]) -> float:
    """Return the last time that the object knows of."""
    fields = (when(item.get("time")) or 0.0 for item in meta.get("managedFields") or ())
    created = when(meta["creationTimestamp"]) or 0.0
    return max((created, *fields, *(condition.updated for condition in conditions)))


def _argo_pause(spec: Plain, status: Plain) -> str:
    if spec.get("paused"):
        return "paused"
    waits = status.get("pauseConditions") or ()
    return str(waits[0].get("reason") or "paused") if waits else ""


def _argo_touched(meta: Plain, status: Plain, conditions: tuple[Condition, ...]) -> float:
    waits = (when(wait.get("startTime")) for wait in status.get("pauseConditions") or ())
    aborted = when(status.get("abortedAt")) if status.get("abort") else None
    return max((time for time in (aborted, *waits) if time), default=0.0) or _touched(meta, conditions)


def _is_observed(meta: Plain, status: Plain) -> bool:
    """Return whether Argo has seen the spec: it writes the generation as text, once a hash in its place."""
    observed = str(status.get("observedGeneration") or "0")
    return not observed.isdigit() or int(observed) >= int(meta.get("generation", 0))
