"""Objects as a control plane writes them, from a few words."""

from __future__ import annotations

import time
from typing import Any

BEGAN = 1_800_000_000
"""Seconds since the epoch, at which what is made here begins."""


def at(seconds: float) -> str:
    """Return the time so many seconds after the beginning, as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(BEGAN + seconds))


def condition(
    type_: str, status: str, reason: str, updated: float = 0, message: str = "", changed: float = 0
) -> dict[str, str]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": at(updated),
        "lastTransitionTime": at(changed or updated),
    }


def progressing(reason: str, updated: float = 0, status: str = "True", changed: float = 0):
    return condition("Progressing", status, reason, updated, changed=changed)


def template(version: str, **labels: str) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": "shop", **labels}},
        "spec": {"containers": [{"name": "app", "image": f"registry.example/shop:{version}"}]},
    }


def deployment(
    version: str,
    revision: int,
    conditions: list[Any],
    *,
    name: str = "shop",
    generation: int = 1,
    observed: int | None = None,
    desired: int = 4,
    paused: bool = False,
    annotations: dict[str, str] | None = None,
    **status: int,
) -> dict[str, Any]:
    """Return a Deployment; `status` has the counts that are not zero."""
    written = {"deployment.kubernetes.io/revision": str(revision)} if revision else {}
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": f"uid-{name}",
            "generation": generation,
            "creationTimestamp": at(0),
            "annotations": {**written, **(annotations or {})},
        },
        "spec": {
            "replicas": desired,
            "paused": paused,
            "template": template(version),
            "progressDeadlineSeconds": 600,
        },
        "status": {
            "observedGeneration": generation if observed is None else observed,
            "conditions": conditions,
            **status,
        },
    }


def done(count: int = 4) -> dict[str, int]:
    """Return the counts of a Deployment that is complete."""
    return {
        "replicas": count,
        "updatedReplicas": count,
        "readyReplicas": count,
        "availableReplicas": count,
    }


def replica_set(
    version: str,
    revision: int,
    created: float,
    *,
    owner: str = "shop",
    past: str = "",
    argo: bool = False,
    available: int = 0,
) -> dict[str, Any]:
    prefix = "rollout.argoproj.io" if argo else "deployment.kubernetes.io"
    key = "rollouts-pod-template-hash" if argo else "pod-template-hash"
    made = template(version, **{key: f"hash{version}"})
    annotations = {f"{prefix}/revision": str(revision)}
    if past:
        annotations[f"{prefix}/revision-history"] = past
    return {
        "metadata": {
            "name": f"{owner}-hash{version}",
            "namespace": "shop",
            "uid": f"uid-{owner}-{version}",
            "creationTimestamp": at(created),
            "annotations": annotations,
            "ownerReferences": [{"uid": f"uid-{owner}", "controller": True}],
        },
        "spec": {"template": made},
        "status": {"availableReplicas": available},
    }


def pod(
    version: str,
    number: int,
    created: float,
    *,
    owner: str = "shop",
    ready: float | None = None,
    trouble: str = "",
    restarts: int = 0,
    argo: bool = False,
    **labels: str,
) -> dict[str, Any]:
    key = "rollouts-pod-template-hash" if argo else "pod-template-hash"
    named = {k.replace("__", "/").replace("_", "-"): v for k, v in labels.items()}
    made = template(version, **{key: f"hash{version}", **named})
    state = {"waiting": {"reason": trouble}} if trouble else {"running": {"startedAt": at(created + 1)}}
    return {
        "metadata": {
            "name": f"{owner}-hash{version}-{number:05}",
            "namespace": "shop",
            "uid": f"uid-{owner}-{version}-{number}",
            "creationTimestamp": at(created),
            "labels": made["metadata"]["labels"],
            "ownerReferences": [{"uid": f"uid-{owner}-{version}", "controller": True}],
        },
        "spec": made["spec"],
        "status": {
            "phase": "Running",
            "conditions": []
            if ready is None
            else [{"type": "Ready", "status": "True", "lastTransitionTime": at(ready)}],
            "containerStatuses": [{"restartCount": restarts, "state": state}],
        },
    }


def rollout(
    version: str,
    revision: int,
    *,
    phase: str,
    current: str,
    stable: str,
    message: str = "",
    weight: int | None = None,
    conditions: list[Any] | None = None,
    generation: int = 1,
    observed: str | None = None,
    desired: int = 4,
    **status: Any,
) -> dict[str, Any]:
    """Return a Rollout of Argo."""
    weights = {} if weight is None else {"canary": {"weights": {"canary": {"weight": weight}}}}
    return {
        "metadata": {
            "name": "shop",
            "namespace": "shop",
            "uid": "uid-shop",
            "generation": generation,
            "creationTimestamp": at(0),
            "annotations": {"rollout.argoproj.io/revision": str(revision)},
        },
        "spec": {"replicas": desired, "template": template(version)},
        "status": {
            "observedGeneration": str(generation) if observed is None else observed,
            "phase": phase,
            "message": message,
            "currentPodHash": f"hash{current}",
            "stableRS": f"hash{stable}",
            "conditions": conditions or [],
            **weights,
            **status,
        },
    }


def canary(phase: str, applied: str, moved: float, weight: int = 0, message: str = "") -> dict[str, Any]:
    """Return a Canary of Flagger."""
    return {
        "metadata": {
            "name": "shop",
            "namespace": "shop",
            "uid": "uid-canary",
            "creationTimestamp": at(0),
        },
        "spec": {"targetRef": {"kind": "Deployment", "name": "shop"}},
        "status": {
            "phase": phase,
            "canaryWeight": weight,
            "lastAppliedSpec": applied,
            "lastTransitionTime": at(moved),
            "conditions": [condition("Promoted", "Unknown", phase, moved, message)],
        },
    }


def event(uid: str, count: int, about: tuple[str, str], reason: str, last: float, word: str = "Normal"):
    kind, name = about
    return {
        "metadata": {"uid": uid, "namespace": "shop", "creationTimestamp": at(0)},
        "involvedObject": {"kind": kind, "name": name},
        "reason": reason,
        "message": f"{reason} of {name}",
        "type": word,
        "count": count,
        "firstTimestamp": at(0),
        "lastTimestamp": at(last),
        "eventTime": None,
    }
