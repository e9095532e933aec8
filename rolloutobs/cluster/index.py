"""The objects of a cluster, and which of them belong together. No I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from rolloutobs.cluster.controllers import PRIMARY
from rolloutobs.cluster.machine import Templates
from rolloutobs.cluster.model import Event, Pod, WorkloadKind
from rolloutobs.cluster.objects import Controller, OwnedPod, TemplateSet
from rolloutobs.cluster.resources import Kind
from rolloutobs.cluster.tracks import expected_track

__all__ = ["Index"]


class Index:
    """Finds objects by uid, by owner and by name.

    A workload is what moves the traffic: a Deployment, unless a Canary or a Rollout is about it; then it is a
    part of that one.
    """

    def __init__(self) -> None:
        self.controllers: dict[str, Controller] = {}
        self._sets: dict[str, TemplateSet] = {}
        self._pods: dict[str, OwnedPod] = {}
        self._sets_of: dict[str, dict[str, TemplateSet]] = {}
        self._pods_of: dict[str, dict[str, OwnedPod]] = {}
        self._named: dict[tuple[str, str, str], str] = {}
        """uid by namespace, kind and name, of whatever an event may be about."""
        self._whole_of: dict[tuple[str, str], str] = {}
        """uid of the Canary or Rollout by namespace and name of a Deployment that is part of it."""

    # --- in and out ----------------------------------------------------------------------------------------
    def put_controller(self, kind: Kind, seen: Controller) -> None:
        """Take the present state of a Deployment, Rollout or Canary."""
        self.controllers[seen.uid] = seen
        self._named[seen.namespace, kind.value, seen.name] = seen.uid
        for name in _part_names(seen):
            self._whole_of[seen.namespace, name] = seen.uid

    def put_set(self, item: TemplateSet) -> bool:
        """Take the present state of a ReplicaSet; return whether it is new."""
        is_new = item.uid not in self._sets
        self._sets[item.uid] = item
        self._sets_of.setdefault(item.owner, {})[item.uid] = item
        self._named[item.namespace, Kind.REPLICA_SET.value, item.name] = item.uid
        return is_new

    def put_pod(self, owned: OwnedPod) -> None:
        """Take the present state of a pod."""
        self._pods[owned.pod.uid] = owned
        self._pods_of.setdefault(owned.owner, {})[owned.pod.uid] = owned
        self._named[owned.pod.namespace, Kind.POD.value, owned.pod.name] = owned.pod.uid

    def drop_controller(self, kind: Kind, uid: str) -> Controller | None:
        """Forget a controller and return it; ``None``: it was not known."""
        seen = self.controllers.pop(uid, None)
        if seen is not None:
            self._unname(seen.namespace, kind, seen.name, uid)
            for name in _part_names(seen):
                if self._whole_of.get((seen.namespace, name)) == uid:
                    del self._whole_of[seen.namespace, name]
        return seen

    def drop_set(self, uid: str) -> None:
        """Forget a ReplicaSet."""
        item = self._sets.pop(uid, None)
        if item is not None:
            _drop(self._sets_of, item.owner, uid)
            self._unname(item.namespace, Kind.REPLICA_SET, item.name, uid)

    def drop_pod(self, uid: str) -> None:
        """Forget a pod."""
        owned = self._pods.pop(uid, None)
        if owned is not None:
            _drop(self._pods_of, owned.owner, uid)
            self._unname(owned.pod.namespace, Kind.POD, owned.pod.name, uid)

    def _unname(self, namespace: str, kind: Kind, name: str, uid: str) -> None:
        # Another object of that name may have come before the old one's deletion was told.
        if self._named.get((namespace, kind.value, name)) == uid:
            del self._named[namespace, kind.value, name]

    def known(self, kind: Kind, namespace: str) -> set[str]:
        """Return the uids of a kind, but for events, in one namespace or, where it is empty, in all."""
        places: Iterable[tuple[str, str]]
        if kind is Kind.POD:
            places = ((uid, owned.pod.namespace) for uid, owned in self._pods.items())
        elif kind is Kind.REPLICA_SET:
            places = ((uid, item.namespace) for uid, item in self._sets.items())
        else:
            word = kind.value.lower()
            places = ((uid, c.namespace) for uid, c in self.controllers.items() if c.kind.value == word)
        return {uid for uid, place in places if namespace in ("", place)}

    # --- who belongs to whom -------------------------------------------------------------------------------
    def workload_of(self, controller: Controller) -> Controller:
        """Return what a Deployment is part of, else `controller` itself."""
        uid = self._whole_of.get((controller.namespace, controller.name), "")
        is_part = controller.kind is WorkloadKind.DEPLOYMENT
        return self.controllers.get(uid, controller) if is_part else controller

    def workload_with(self, set_uid: str) -> Controller | None:
        """Return the workload of a ReplicaSet; ``None``: it is of none."""
        item = self._sets.get(set_uid)
        controller = self.controllers.get(item.owner) if item else None
        return self.workload_of(controller) if controller else None

    def workloads(self) -> Iterator[Controller]:
        """Yield what is a workload by itself."""
        return (item for item in self.controllers.values() if self.workload_of(item) is item)

    def parts(self, workload: Controller) -> list[Controller]:
        """Return what owns ReplicaSets for `workload`, the one that is rolled out first."""
        uids = (
            self._named.get((workload.namespace, Kind.DEPLOYMENT.value, name), "")
            for name in _part_names(workload)
        )
        own = [] if workload.kind is WorkloadKind.CANARY else [workload]
        return own + [self.controllers[uid] for uid in uids if uid in self.controllers]

    def owned(self, workload: Controller) -> Iterator[OwnedPod]:
        """Yield the pods of a workload."""
        for part in self.parts(workload):
            for uid in self._sets_of.get(part.uid, {}):
                yield from self._pods_of.get(uid, {}).values()

    def whole(self, seen: Controller) -> Controller:
        """Return a Canary with revision, app and version of its target, a Rollout with what it refers to."""
        target = next((part for part in self.parts(seen) if part.name == seen.target), None)
        if target is None or target is seen:
            return seen
        if seen.kind is WorkloadKind.CANARY:
            return replace(seen, revision=target.revision, app=target.app, version=target.version)
        return replace(seen, app=target.app, version=seen.version or target.version)

    def templates(self, workload: Controller) -> Templates:
        """Return the templates that `workload` has rolled out."""
        if workload.kind is not WorkloadKind.CANARY:
            return self._templates(workload)
        found = Templates()
        for part in self.parts(workload):
            if part.name == workload.target:
                found = replace(found, sets=self._templates(part).sets)
            elif not workload.is_complete:
                found = replace(found, before=part.version)
            else:
                # It has been promoted: the primary has the new version by now.
                old = self._templates(part).previous(part.revision)
                found = replace(found, before=old.version if old else "")
        return found

    def _templates(self, part: Controller) -> Templates:
        return Templates(tuple(self._sets_of.get(part.uid, {}).values()))

    def about(self, event: Event) -> tuple[Controller | None, str]:
        """Return the workload that an event is about, and the version."""
        uid = self._named.get((event.namespace, event.kind, event.name), "")
        if event.kind == Kind.POD.value:
            # A pod that is gone still has the name of its ReplicaSet in its own.
            gone = (event.namespace, Kind.REPLICA_SET.value, event.name.rpartition("-")[0])
            owned = self._pods.get(uid)
            uid = owned.owner if owned else self._named.get(gone, "")
        item = self._sets.get(uid)
        controller = self.controllers.get(item.owner if item else uid)
        return self.workload_of(controller) if controller else None, item.version if item else ""

    def pod(self, workload: Controller, owned: OwnedPod) -> Pod:
        """Return a pod of `workload` with its app, and the track that its controller means it to have."""
        item = self._sets.get(owned.owner)
        part = self.controllers.get(item.owner) if item else None
        expected = expected_track(workload, part, owned.pod.template_hash)
        return replace(owned.pod, app=owned.pod.app or workload.app or workload.name, expected_track=expected)


def _part_names(seen: Controller) -> tuple[str, ...]:
    """Return the names of the Deployments that are parts of `seen`."""
    if not seen.target:
        return ()
    return (seen.target, seen.target + PRIMARY) if seen.kind is WorkloadKind.CANARY else (seen.target,)


def _drop(index: dict[str, dict[str, Any]], owner: str, uid: str) -> None:
    found = index.get(owner, {})
    found.pop(uid, None)
    if not found:
        index.pop(owner, None)
