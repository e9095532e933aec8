"""Changes as flat JSON objects: what is kept in files and what dashboards read. Pure."""

from __future__ import annotations

from typing import Any

from rolloutobs import semconv
from rolloutobs.cluster.model import Change, Rollout

__all__ = ["record"]


def record(change: Change) -> dict[str, Any]:
    """Return a change as JSON has it; what is not known is left out."""
    plain: dict[str, Any] = {
        "time": change.time,
        "kind": change.kind.value,
        "namespace": change.namespace,
        "workload": change.workload,
        "text": change.text,
        "key": change.key,
    }
    if change.rollout is not None:
        plain |= _rollout(change.rollout)
    if change.pod is not None:
        plain |= {"pod": change.pod.name, "version": change.pod.version}
    event = change.event
    if event is not None:
        plain |= {
            "app": event.app,
            "version": event.version,
            "type": event.type,
            "reason": event.reason,
            "count": event.count,
            "object": f"{event.kind}/{event.name}",
            "first": event.first,
        }
    return {name: value for name, value in plain.items() if value not in ("", None)}


def _rollout(rollout: Rollout) -> dict[str, Any]:
    return {
        "rollout": rollout.id,
        "app": rollout.app,
        "from_version": rollout.from_version,
        "to_version": rollout.to_version,
        "phase": rollout.phase.value,
        "started": rollout.started,
        "ended": rollout.ended,
        "undoes": rollout.undoes,
        "undone_by": rollout.undone_by,
        "cause": rollout.reason,
        "owner": rollout.annotations.get(semconv.ANNOTATION_OWNER, ""),
    }
