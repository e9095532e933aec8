"""Workloads, their rollouts, and what changes about them. Pure.

Times are seconds since the epoch, as read from the objects (whose clock is the API server's, and ticks in
seconds); nothing here asks a clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol, runtime_checkable

from rolloutobs.identity import Track

__all__ = [
    "Change",
    "ChangeKind",
    "Condition",
    "CountedSink",
    "Event",
    "Phase",
    "Pod",
    "Replicas",
    "Rollout",
    "Sink",
    "Workload",
    "WorkloadKind",
]

_NONE: Mapping[str, str] = MappingProxyType({})


class WorkloadKind(StrEnum):
    """Who moves the traffic."""

    DEPLOYMENT = "deployment"
    ROLLOUT = "rollout"
    """Of Argo Rollouts."""
    CANARY = "canary"
    """Of Flagger; its target and its ``-primary`` Deployment are parts of it, and no workloads."""


class Phase(StrEnum):
    """How far a rollout is. The last three are ends."""

    PROGRESSING = "progressing"
    PAUSED = "paused"
    """Somebody, or a step, waits before it goes on."""
    STUCK = "stuck"
    """The controller says that it makes no progress, or may not create pods."""
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    """The controller has aborted it, or another rollout takes it back, whether or not it had completed."""
    SUPERSEDED = "superseded"
    """Yet another version came before it had completed."""

    @property
    def is_end(self) -> bool:
        """Whether nothing follows, short of a rollback."""
        return self in (Phase.COMPLETED, Phase.ROLLED_BACK, Phase.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One move of a workload from one version to another: a new pod template, not a new generation."""

    uid: str
    """Of the workload."""
    namespace: str
    workload: str
    """Name of the workload."""
    kind: WorkloadKind
    app: str
    """Which service, as its pods' labels say it."""
    revision: int
    """As the controller counts; of a Canary, the revision of its target."""
    from_version: str
    """Empty: there was none before, or it is not known any more."""
    to_version: str
    started: float
    phase: Phase
    ended: float | None = None
    """When it came to an end; ``None``: it has not."""
    desired: int = 0
    """Pods that the workload wants."""
    updated: int = 0
    """Those of the new version."""
    weight_ratio: float | None = None
    """The new version's share of the traffic, where a controller steers it."""
    reason: str = ""
    """Why it is stuck, paused or rolled back, in a few words; else empty."""
    undoes: str = ""
    """`id` of the rollout that this one takes back; empty: it is no rollback."""
    undone_by: str = ""
    """`id` of the rollout that takes this one back."""
    annotations: Mapping[str, str] = field(default_factory=lambda: _NONE, hash=False)
    """Those of the workload that begin with ``rolloutobs.io/``."""

    @property
    def id(self) -> str:
        """The same over restarts of whoever watches: ``<uid>-<revision>``."""
        return f"{self.uid}-{self.revision}"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as its labels and its status show it."""

    namespace: str
    name: str
    uid: str
    app: str
    version: str
    """Empty: neither a label nor the image says it."""
    track: Track
    """What the process in it will take for its track."""
    template_hash: str
    """Of the template it was made from; empty where its controller writes none."""
    created: float
    started: float | None = None
    """When the first container ran; ``None``: it has not."""
    ready_since: float | None = None
    """``None``: it is not ready."""
    restarts: int = 0
    is_terminating: bool = False
    trouble: str = ""
    """Why a container does not run, in the kubelet's word: ``CrashLoopBackOff``; else empty."""
    expected_track: Track = Track.NONE
    """The track by the controller's status; ``NONE``: it says nothing about it."""

    @property
    def is_mismatched(self) -> bool:
        """Whether the label and the controller disagree."""
        return bool(self.track and self.expected_track) and self.track is not self.expected_track


@dataclass(frozen=True, slots=True)
class Replicas:
    """Counts of pods, as the controller's status has them; what it leaves out is 0."""

    desired: int = 0
    total: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    unavailable: int = 0
    terminating: int = 0
    """Old pods that still serve what they have begun; not part of `total`."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What a controller says about one side of a workload."""

    type: str
    status: str
    """``True``, ``False`` or ``Unknown``."""
    reason: str
    message: str
    updated: float
    """When it was last said."""
    changed: float
    """When the status became what it is."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload at one moment."""

    uid: str
    namespace: str
    name: str
    kind: WorkloadKind
    app: str
    version: str
    """Of the template that it wants."""
    replicas: Replicas
    conditions: tuple[Condition, ...]
    pods: tuple[Pod, ...]
    """By creation, oldest first."""
    rollout: Rollout | None
    """The last one; ``None``: there has been none."""
    is_current: bool = True
    """Whether the status is about what is wanted now; if not, the controller has not seen it yet."""
    deadline: float | None = None
    """When the controller's patience ends; ``None``: it does not count now."""
    weight_ratio: float | None = None
    """The new version's share of the traffic, where a controller steers it."""
    progress_ratio: float = 0.0
    """From 0 to 1: new pods that are available among those desired, or the new version's share of the
    traffic."""
    annotations: Mapping[str, str] = field(default_factory=lambda: _NONE, hash=False)
    """Those that begin with ``rolloutobs.io/``."""


@dataclass(frozen=True, slots=True)
class Event:
    """An Event of Kubernetes, as often as it has happened by then."""

    uid: str
    namespace: str
    kind: str
    """Of the object it is about: ``Pod``."""
    name: str
    """Of that object."""
    reason: str
    message: str
    type: str
    """``Normal`` or ``Warning``."""
    count: int
    first: float
    last: float
    workload: str = ""
    """Name of the workload it belongs to; empty: to none that is watched."""
    app: str = ""
    version: str = ""
    """Of the pod or the template; empty: it is about the whole workload."""


class ChangeKind(StrEnum):
    """What has happened."""

    STARTED = "started"
    SCALED = "scaled"
    """More, or fewer, new pods or traffic for them."""
    POD_STARTED = "pod_started"
    """A pod of the new version was created; its `Change.time` is when."""
    POD_READY = "pod_ready"
    PAUSED = "paused"
    RESUMED = "resumed"
    STUCK = "stuck"
    RECOVERED = "recovered"
    """It makes progress again."""
    COMPLETED = "completed"
    ROLLED_BACK = "rolled_back"
    """Of the rollout that is taken back; where another one does that, its ``started`` follows."""
    SUPERSEDED = "superseded"
    EVENT = "event"
    """An Event of Kubernetes, new or repeated."""


_ENDS: Final = (ChangeKind.COMPLETED, ChangeKind.ROLLED_BACK, ChangeKind.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that has happened. The same change may come again after a restart: see `key`."""

    kind: ChangeKind
    time: float
    namespace: str
    workload: str
    """Name; empty for an event of no workload that is watched."""
    text: str
    """One sentence without the time."""
    rollout: Rollout | None = None
    """As it is after the change; ``None`` for events outside of a rollout."""
    undoing: Rollout | None = None
    """Of `ROLLED_BACK`: the rollout that takes this one back; ``None``: the controller did it by itself."""
    pod: Pod | None = None
    event: Event | None = None
    is_backfill: bool = False
    """Whether it had happened before the watcher began to look: told, but nothing to alarm anybody about."""

    @property
    def key(self) -> str:
        """The same for the same change, whoever has seen it and how often."""
        if self.event is not None:
            return f"{self.event.uid}/{self.event.count}"
        rollout = self.rollout
        what = self.pod.uid if self.pod else f"{self.time:.0f}"
        if self.kind in (ChangeKind.STARTED, *_ENDS):
            # Of these there is one each, and after a restart the time may be known less well.
            what = ""
        elif rollout is not None and self.kind is ChangeKind.SCALED:
            what += f"/{rollout.updated}/{rollout.weight_ratio}"
        return f"{rollout.id if rollout else ''}/{self.kind}/{what}"


class Sink(Protocol):
    """Takes changes in the order in which they are seen: annotations, traces, files.

    A sink that fails logs and counts; it raises nothing, and bounds what it keeps while its other side is
    away.
    """

    async def take(self, change: Change) -> None:
        """Take one change; soon, for the others wait."""
        ...

    async def close(self) -> None:
        """Send what is left, within a few seconds."""
        ...


@runtime_checkable
class CountedSink(Sink, Protocol):
    """A sink that hands over to a server, which may fail long after a change was taken."""

    @property
    def name(self) -> str:
        """For the metric of failures."""
        ...

    @property
    def failures(self) -> int:
        """Attempts that have failed, and what was lost."""
        ...
