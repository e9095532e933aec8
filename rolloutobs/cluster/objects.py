"""Objects of the Kubernetes API, cut down to what is used. Pure: a mapping in, a frozen object out.

Zero fields are left out by the API: missing is 0. A mapping that is no such object raises ``KeyError``,
``TypeError``, ``ValueError`` or ``AttributeError``; the reader counts it.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rolloutobs.cluster.model import Condition, Event, Pod, Replicas, WorkloadKind
from rolloutobs.detection.image import image_look
from rolloutobs.detection.labels import Labels
from rolloutobs.detection.track import TrackResolver, without_primary
from rolloutobs.semconv import ANNOTATIONS

__all__ = [
    "APP_KEYS",
    "Controller",
    "OwnedPod",
    "TemplateSet",
    "app_of",
    "conditions_of",
    "event_of",
    "ours",
    "owner_of",
    "pod_of",
    "revision_of",
    "set_of",
    "template_version",
    "when",
]

Plain = Mapping[str, Any]

APP_KEYS: Final = ("app.kubernetes.io/name", "app")
_VERSION_KEY: Final = "app.kubernetes.io/version"
_HASH_KEYS: Final = ("pod-template-hash", "rollouts-pod-template-hash")
_REVISION_KEYS: Final = ("deployment.kubernetes.io/revision", "rollout.argoproj.io/revision")
_ENDED: Final = frozenset({"Succeeded", "Failed"})
_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})
"""Reasons to wait that are no trouble. Source: kubelet, ``pkg/kubelet/kubelet_pods.go``."""


@dataclass(frozen=True, slots=True)
class TemplateSet:
    """A ReplicaSet: one pod template of a workload, and the revisions under which it was rolled out."""

    uid: str
    namespace: str
    name: str
    owner: str
    """uid of its Deployment or Rollout; empty: it has none."""
    app: str
    version: str
    template_hash: str
    revision: int
    past: tuple[int, ...]
    """Revisions before the present one, where it was used again by a rollback."""
    created: float
    available: int

    def is_of(self, revision: int) -> bool:
        """Whether `revision` rolled this template out."""
        return revision == self.revision or revision in self.past


@dataclass(frozen=True, slots=True)
class OwnedPod:
    """A pod and the ReplicaSet that it belongs to."""

    pod: Pod
    owner: str
    """uid of the ReplicaSet; empty: it has none."""
    has_ended: bool
    """Whether it has run to its end and is only kept to be looked at."""


@dataclass(frozen=True, slots=True)
class Controller:
    """A Deployment, Rollout or Canary as its own object says it."""

    kind: WorkloadKind
    uid: str
    namespace: str
    name: str
    app: str
    version: str
    """Of its pod template; empty where that is in another object."""
    revision: int
    """0: not known yet, or in another object."""
    replicas: Replicas
    conditions: tuple[Condition, ...]
    annotations: Mapping[str, str]
    is_current: bool
    """Whether the status is about the present spec; where not, its numbers are of the one before."""
    touched: float
    """When the controller last said anything about progress."""
    is_complete: bool = False
    paused: str = ""
    """Why it waits; empty: it does not."""
    stuck: str = ""
    """Why it makes no progress; empty: it does, or there is none to make."""
    aborted: str = ""
    """Why the controller itself has given the rollout up; empty: it has not."""
    deadline: float | None = None
    current_hash: str = ""
    stable_hash: str = ""
    """Template that is meant to be stable; empty: the controller tells none apart."""
    weight_ratio: float | None = None
    target: str = ""
    """The Deployment that a Canary is about, or that a Rollout takes its template from; empty: none."""
    applied: str = ""
    """Of a Canary: what stands for the template that it rolls out."""


def when(text: str | None) -> float | None:
    """Return an RFC 3339 time in UTC, as Kubernetes writes them, in seconds since the epoch.

    Raises:
        ValueError: it is none.
    """
    if not text:
        return None
    if len(text) < 20 or text[-1] != "Z" or text[10] != "T":
        raise ValueError(f"{text!r} is no time in UTC")
    parts = (text[0:4], text[5:7], text[8:10], text[11:13], text[14:16], text[17:19])
    fraction = float(f"0{text[19:-1]}") if len(text) > 20 else 0.0
    return calendar.timegm(tuple(int(part) for part in parts)) + fraction


def revision_of(meta: Plain) -> int:
    """Return the revision that the controller has written on the object; 0: none yet."""
    annotations = meta.get("annotations") or {}
    return int(next((annotations[key] for key in _REVISION_KEYS if key in annotations), 0))


def ours(meta: Plain) -> dict[str, str]:
    """Return the annotations that begin with ``rolloutobs.io/``."""
    annotations = meta.get("annotations") or {}
    return {key: value for key, value in annotations.items() if key.startswith(ANNOTATIONS)}


def owner_of(meta: Plain) -> str:
    """Return the uid of the controller that owns an object; empty: none does."""
    owners = meta.get("ownerReferences") or ()
    return next((owner["uid"] for owner in owners if owner.get("controller")), "")


def app_of(labels: Mapping[str, str], otherwise: str) -> str:
    """Return the service that labels name; `otherwise` where they name none."""
    return without_primary(next((labels[key] for key in APP_KEYS if labels.get(key)), otherwise))


def template_version(template: Plain) -> str:
    """Return the version of a pod template, or of a pod: its label, else the tag of its first image."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    if labels.get(_VERSION_KEY):
        return str(labels[_VERSION_KEY])
    containers = (template.get("spec") or {}).get("containers") or ()
    look = image_look(containers[0].get("image", "")) if containers else None
    return look.value if look is not None and look.is_usable else ""


def conditions_of(status: Plain) -> tuple[Condition, ...]:
    """Return the conditions of a workload's status."""
    return tuple(
        Condition(
            item["type"],
            item["status"],
            item.get("reason", ""),
            item.get("message", ""),
            when(item.get("lastUpdateTime") or item.get("lastTransitionTime")) or 0.0,
            when(item.get("lastTransitionTime")) or 0.0,
        )
        for item in status.get("conditions") or ()
    )


def set_of(plain: Plain) -> TemplateSet:
    """Return a ReplicaSet."""
    meta, template = plain["metadata"], plain["spec"].get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    annotations = meta.get("annotations") or {}
    past = next(
        (annotations[f"{key}-history"] for key in _REVISION_KEYS if f"{key}-history" in annotations), ""
    )
    return TemplateSet(
        meta["uid"],
        meta["namespace"],
        meta["name"],
        owner_of(meta),
        app_of(labels, ""),
        template_version(template),
        _hash(labels),
        revision_of(meta),
        tuple(int(number) for number in past.split(",") if number),
        when(meta["creationTimestamp"]) or 0.0,
        int((plain.get("status") or {}).get("availableReplicas", 0)),
    )


def pod_of(plain: Plain) -> OwnedPod:
    """Return a pod."""
    meta, status = plain["metadata"], plain.get("status") or {}
    labels = meta.get("labels") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    pod = Pod(
        meta["namespace"],
        meta["name"],
        meta["uid"],
        app_of(labels, ""),
        template_version(plain),
        # A variable of the process's own, which counts where no label does, is not seen from here.
        TrackResolver("", pod=meta["name"]).resolve(Labels(labels)).track,
        _hash(labels),
        when(meta["creationTimestamp"]) or 0.0,
        _started(status.get("containerStatuses") or ()),
        _ready(status),
        sum(int(container.get("restartCount", 0)) for container in containers),
        bool(meta.get("deletionTimestamp")),
        _trouble(containers),
    )
    return OwnedPod(pod, owner_of(meta), status.get("phase") in _ENDED)


def event_of(plain: Plain) -> Event:
    """Return an Event of ``v1``."""
    meta, about = plain["metadata"], plain.get("involvedObject") or {}
    series = plain.get("series") or {}
    created = when(meta.get("creationTimestamp")) or 0.0
    # Which of the times are there depends on who wrote it. Source: Kubernetes, "Event" v1 core.
    last = plain.get("lastTimestamp") or series.get("lastObservedTime") or plain.get("eventTime")
    first = plain.get("firstTimestamp") or plain.get("eventTime")
    return Event(
        meta["uid"],
        meta.get("namespace", ""),
        about.get("kind", ""),
        about.get("name", ""),
        plain.get("reason") or "",
        plain.get("message") or "",
        plain.get("type") or "Normal",
        int(plain.get("count") or series.get("count") or 1),
        when(first) or created,
        when(last) or created,
    )


def _hash(labels: Mapping[str, str]) -> str:
    return next((labels[key] for key in _HASH_KEYS if key in labels), "")


def _ready(status: Plain) -> float | None:
    for condition in status.get("conditions") or ():
        if condition["type"] == "Ready":
            return when(condition.get("lastTransitionTime")) if condition["status"] == "True" else None
    return None


def _started(containers: Iterable[Plain]) -> float | None:
    """Return when the first container that runs has begun to; one that was restarted has begun later."""
    running = ((container.get("state") or {}).get("running") or {} for container in containers)
    return min((time for time in (when(state.get("startedAt")) for state in running) if time), default=None)


def _trouble(containers: Iterable[Plain]) -> str:
    for container in containers:
        state = container.get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason", "")
        if waiting and waiting not in _STARTING:
            return str(waiting)
        ended = state.get("terminated") or {}
        if ended and ended.get("exitCode"):
            return str(ended.get("reason") or "Error")
    return ""
