"""Everything that is known of the workloads of a cluster. No I/O and no clock: objects in, changes out.

The order of objects of one kind is that of the API server; kinds come in any order against each other, and
the changes are the same whichever it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import replace
from typing import Any, Final

from rolloutobs.cluster.controllers import PRIMARY, canary_of, deployment_of, rollout_of
from rolloutobs.cluster.machine import NOTHING, Memory, Templates, advance, ended_by_deletion, pods_told
from rolloutobs.cluster.model import (
    Change,
    ChangeKind,
    Event,
    Phase,
    Pod,
    Replicas,
    Rollout,
    Workload,
    WorkloadKind,
)
from rolloutobs.cluster.objects import Controller, OwnedPod, TemplateSet, event_of, pod_of, set_of, when
from rolloutobs.cluster.resources import Kind
from rolloutobs.cluster.tracks import expected_track

__all__ = ["State"]

Plain = Mapping[str, Any]

_CONTROLLERS: Final[Mapping[Kind, Callable[[Plain], Controller]]] = {
    Kind.DEPLOYMENT: deployment_of,
    Kind.ROLLOUT: rollout_of,
    Kind.CANARY: canary_of,
}
_PATIENCE: Final = 64
"""So many states of a workload wait for the ReplicaSet that they are about."""


class State:
    """Takes objects and says what has changed.

    Args:
        knows_sets: whether ReplicaSets can be read. If not, versions are those of the Deployments only, and
            rollbacks are recognised by them.
    """

    def __init__(self, *, knows_sets: bool = True) -> None:
        self.knows_sets = knows_sets
        """Whether ReplicaSets can be read; only before `begin` may it change."""
        self.noted_start: Callable[[str], float | None] = lambda _: None
        """When a rollout began, by its id, as a watcher before this one has noted it."""
        self._has_begun = False
        self._controllers: dict[str, Controller] = {}
        self._sets: dict[str, TemplateSet] = {}
        self._pods: dict[str, OwnedPod] = {}
        self._sets_of: dict[str, dict[str, TemplateSet]] = {}
        self._pods_of: dict[str, dict[str, OwnedPod]] = {}
        self._named: dict[tuple[str, str, str], str] = {}
        """uid by namespace, kind and name, of whatever an event may be about."""
        self._canary_of: dict[tuple[str, str], str] = {}
        """uid of the Canary by namespace and name of its two Deployments."""
        self._memories: dict[str, Memory] = {}
        self._waiting: dict[str, list[Controller]] = {}
        self._told: set[tuple[str, ChangeKind]] = set()
        self._counts: dict[str, tuple[int, str]] = {}
        """How often each event had happened when it was last told, and its namespace."""

    # --- objects in -------------------------------------------------------------------------------------
    def begin(self) -> list[Change]:
        """Return what can be told of the past; from now on what is applied is told as it comes.

        Call it once the first list of all kinds has been applied.
        """
        self._has_begun = True
        workloads = [self._workload_of(controller) for controller in self._controllers.values()]
        unique = {controller.uid: controller for controller in workloads}
        changes = [change for item in unique.values() for change in self._advance(item)]
        return [replace(change, is_backfill=True) for change in sorted(changes, key=lambda c: c.time)]

    def retain(self, kind: Kind, uids: Set[str], namespace: str = "") -> list[Change]:
        """Forget what a full list of a kind, in one namespace or all, does not have; return the changes."""
        gone = self._known(kind, namespace) - uids
        return [change for uid in sorted(gone) for change in self._forget(kind, uid, None)]

    def apply(self, kind: Kind, word: str, plain: Plain) -> list[Change]:
        """Take one line of a watch; return the changes.

        Args:
            kind: of the object.
            word: ``ADDED``, ``MODIFIED`` or ``DELETED``.
            plain: the object.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is no such object.
        """
        if word == "DELETED":
            return self._forget(kind, plain["metadata"]["uid"], plain["metadata"].get("deletionTimestamp"))
        if kind is Kind.POD:
            return self._take_pod(pod_of(plain))
        if kind is Kind.REPLICA_SET:
            return self._take_set(set_of(plain))
        if kind is Kind.EVENT:
            return self._take_event(event_of(plain))
        return self._take_controller(kind, _CONTROLLERS[kind](plain))

    def _known(self, kind: Kind, namespace: str) -> set[str]:
        if kind is Kind.EVENT:
            return {uid for uid, (_, place) in self._counts.items() if namespace in ("", place)}
        places: Iterable[tuple[str, str]]
        if kind is Kind.POD:
            places = ((uid, owned.pod.namespace) for uid, owned in self._pods.items())
        elif kind is Kind.REPLICA_SET:
            places = ((uid, item.namespace) for uid, item in self._sets.items())
        else:
            word = kind.value.lower()
            places = ((uid, c.namespace) for uid, c in self._controllers.items() if c.kind.value == word)
        return {uid for uid, place in places if namespace in ("", place)}

    def _take_controller(self, kind: Kind, seen: Controller) -> list[Change]:
        self._controllers[seen.uid] = seen
        self._named[seen.namespace, kind.value, seen.name] = seen.uid
        if seen.kind is WorkloadKind.CANARY:
            for name in (seen.target, seen.target + PRIMARY):
                self._canary_of[seen.namespace, name] = seen.uid
        return self._advance(self._workload_of(seen))

    def _take_set(self, item: TemplateSet) -> list[Change]:
        is_new = item.uid not in self._sets
        self._sets[item.uid] = item
        self._sets_of.setdefault(item.owner, {})[item.uid] = item
        self._named[item.namespace, Kind.REPLICA_SET.value, item.name] = item.uid
        workload = self._workload_with(item.uid)
        if workload is None or not (is_new or workload.uid in self._waiting):
            return []
        return self._advance(None, workload)

    def _take_pod(self, owned: OwnedPod) -> list[Change]:
        self._pods[owned.pod.uid] = owned
        self._pods_of.setdefault(owned.owner, {})[owned.pod.uid] = owned
        self._named[owned.pod.namespace, Kind.POD.value, owned.pod.name] = owned.pod.uid
        workload = self._workload_with(owned.owner)
        return self._tell_pods(workload, [owned]) if workload and self._has_begun else []

    def _take_event(self, event: Event) -> list[Change]:
        if self._counts.get(event.uid, (0, ""))[0] >= event.count:
            return []
        self._counts[event.uid] = (event.count, event.namespace)
        found, version = self._about(event)
        name, app = (found.name, found.app) if found else ("", "")
        event = replace(event, workload=name, app=app, version=version)
        text = f"{event.kind} {event.name}: {event.reason}: {event.message}"
        last = self._memories.get(found.uid, NOTHING).last if found else None
        is_backfill = not self._has_begun
        return [
            Change(
                ChangeKind.EVENT,
                event.last,
                event.namespace,
                name,
                text,
                last,
                event=event,
                is_backfill=is_backfill,
            )
        ]

    def _forget(self, kind: Kind, uid: str, deleted: str | None) -> list[Change]:
        if kind is Kind.EVENT:
            self._counts.pop(uid, None)
        elif kind is Kind.POD:
            owned = self._pods.pop(uid, None)
            if owned is not None:
                _drop(self._pods_of, owned.owner, uid)
                self._unname(owned.pod.namespace, kind, owned.pod.name, uid)
                self._told -= {(uid, ChangeKind.POD_STARTED), (uid, ChangeKind.POD_READY)}
        elif kind is Kind.REPLICA_SET:
            item = self._sets.pop(uid, None)
            if item is not None:
                _drop(self._sets_of, item.owner, uid)
                self._unname(item.namespace, kind, item.name, uid)
        else:
            return self._forget_controller(kind, uid, deleted)
        return []

    def _forget_controller(self, kind: Kind, uid: str, deleted: str | None) -> list[Change]:
        seen = self._controllers.pop(uid, None)
        if seen is None:
            return []
        self._unname(seen.namespace, kind, seen.name, uid)
        for name in (seen.target, seen.target + PRIMARY):
            if self._canary_of.get((seen.namespace, name)) == uid:
                del self._canary_of[seen.namespace, name]
        self._waiting.pop(uid, None)
        return ended_by_deletion(self._memories.pop(uid, NOTHING), when(deleted) or seen.touched)

    def _unname(self, namespace: str, kind: Kind, name: str, uid: str) -> None:
        # Another object of that name may have come before the old one's deletion was told.
        if self._named.get((namespace, kind.value, name)) == uid:
            del self._named[namespace, kind.value, name]

    # --- who belongs to whom ----------------------------------------------------------------------------
    def _workload_of(self, controller: Controller) -> Controller:
        """Return the Canary that a Deployment is part of, else `controller` itself."""
        uid = self._canary_of.get((controller.namespace, controller.name), "")
        is_part = controller.kind is WorkloadKind.DEPLOYMENT
        return self._controllers.get(uid, controller) if is_part else controller

    def _workload_with(self, set_uid: str) -> Controller | None:
        item = self._sets.get(set_uid)
        controller = self._controllers.get(item.owner) if item else None
        return self._workload_of(controller) if controller else None

    def _parts(self, workload: Controller) -> list[Controller]:
        """Return what owns ReplicaSets for `workload`: of a Canary, its target first."""
        if workload.kind is not WorkloadKind.CANARY:
            return [workload]
        names = (workload.target, workload.target + PRIMARY)
        uids = (self._named.get((workload.namespace, Kind.DEPLOYMENT.value, name), "") for name in names)
        return [self._controllers[uid] for uid in uids if uid in self._controllers]

    def _templates(self, controller: Controller) -> Templates:
        return Templates(tuple(self._sets_of.get(controller.uid, {}).values()))

    def _owned(self, workload: Controller) -> Iterator[OwnedPod]:
        for part in self._parts(workload):
            for uid in self._sets_of.get(part.uid, {}):
                yield from self._pods_of.get(uid, {}).values()

    def _about(self, event: Event) -> tuple[Controller | None, str]:
        """Return the workload that an event is about, and the version."""
        uid = self._named.get((event.namespace, event.kind, event.name), "")
        if event.kind == Kind.POD.value:
            # A pod that is gone still has the name of its ReplicaSet in its own.
            name = event.name.rpartition("-")[0]
            owned = self._pods.get(uid)
            uid = (
                owned.owner if owned else self._named.get((event.namespace, Kind.REPLICA_SET.value, name), "")
            )
        item = self._sets.get(uid)
        controller = self._controllers.get(item.owner if item else uid)
        return self._workload_of(controller) if controller else None, item.version if item else ""

    # --- changes ----------------------------------------------------------------------------------------
    def _advance(self, seen: Controller | None, workload: Controller | None = None) -> list[Change]:
        """Take the next state of a workload, or try again what waits for a ReplicaSet that has come."""
        found = seen or workload
        if found is None or not self._has_begun:
            return []
        queue = self._waiting.pop(found.uid, []) + ([self._whole(found)] if seen else [])
        memory = before = self._memories.get(found.uid, NOTHING)
        changes: list[Change] = []
        while queue:
            templates = self._rolled_out(queue[0])
            if self._must_wait(queue[0], templates) and len(queue) <= _PATIENCE:
                self._waiting[found.uid] = queue
                break
            head = queue.pop(0)
            began = None if memory.last else self.noted_start(f"{head.uid}-{head.revision}")
            memory, new = advance(memory, head, templates, began)
            changes += new
        self._memories[found.uid] = memory
        if memory.rollouts != before.rollouts or seen is None:
            changes += self._tell_pods(found, self._owned(found))
        return changes

    def _whole(self, seen: Controller) -> Controller:
        """Return a Canary with the revision, the app and the version of its target."""
        if seen.kind is not WorkloadKind.CANARY:
            return seen
        target = next((part for part in self._parts(seen) if part.name == seen.target), None)
        if target is None:
            return seen
        return replace(seen, revision=target.revision, app=target.app, version=target.version)

    def _rolled_out(self, seen: Controller) -> Templates:
        parts = self._parts(seen)
        if seen.kind is not WorkloadKind.CANARY:
            return self._templates(seen)
        found = Templates()
        for part in parts:
            if part.name == seen.target:
                found = replace(found, sets=self._templates(part).sets)
            elif not seen.is_complete:
                found = replace(found, before=part.version)
            else:
                # It has been promoted: the primary has the new version by now.
                old = self._templates(part).previous(part.revision)
                found = replace(found, before=old.version if old else "")
        return found

    def _must_wait(self, seen: Controller, templates: Templates) -> bool:
        return (
            self.knows_sets
            and seen.is_current
            and seen.revision > 0
            and seen.kind is not WorkloadKind.CANARY
            and templates.of(seen.revision) is None
        )

    def _tell_pods(self, workload: Controller, owned: Iterable[OwnedPod]) -> list[Change]:
        memory = self._memories.get(workload.uid, NOTHING)
        if memory is NOTHING:
            return []
        by_uid = {item.pod.uid: item for item in owned}
        pods = (item.pod for item in by_uid.values())
        return [
            replace(change, pod=self._pod(workload, by_uid[change.pod.uid])) if change.pod else change
            for change in pods_told(memory, pods, self._rolled_out(workload), self._told)
        ]

    # --- what is so now ---------------------------------------------------------------------------------
    def workloads(self) -> Iterator[Workload]:
        """Yield every workload as it is now."""
        for controller in self._controllers.values():
            if self._workload_of(controller) is controller:
                yield self._view(controller)

    def _view(self, controller: Controller) -> Workload:
        whole = self._whole(controller)
        rollout = self._memories.get(controller.uid, NOTHING).last
        pods = [self._pod(whole, owned) for owned in self._owned(controller) if not owned.has_ended]
        parts = self._parts(controller)
        return Workload(
            whole.uid,
            whole.namespace,
            whole.name,
            whole.kind,
            whole.app or whole.name,
            whole.version or (rollout.to_version if rollout else ""),
            _summed(whole, parts),
            whole.conditions,
            tuple(sorted(pods, key=lambda pod: (pod.created, pod.name))),
            rollout,
            all(part.is_current for part in parts),
            whole.deadline,
            whole.weight_ratio,
            self._progress(whole, rollout),
            whole.annotations,
        )

    def _progress(self, seen: Controller, rollout: Rollout | None) -> float:
        """Return how much of `rollout` is done; of nothing else, for what is shown belongs together."""
        if rollout is None or rollout.phase is Phase.COMPLETED:
            return 0.0 if rollout is None else 1.0
        if seen.weight_ratio is not None:
            return seen.weight_ratio
        target = self._templates(seen).of(rollout.revision)
        if target is None or not seen.replicas.desired:
            return 0.0
        return min(target.available / seen.replicas.desired, 1.0)

    def _pod(self, workload: Controller, owned: OwnedPod) -> Pod:
        item = self._sets.get(owned.owner)
        part = self._controllers.get(item.owner) if item else None
        expected = expected_track(workload, part, owned.pod.template_hash)
        return replace(owned.pod, app=owned.pod.app or workload.app or workload.name, expected_track=expected)


def _drop(index: dict[str, dict[str, Any]], owner: str, uid: str) -> None:
    found = index.get(owner, {})
    found.pop(uid, None)
    if not found:
        index.pop(owner, None)


def _summed(whole: Controller, parts: list[Controller]) -> Replicas:
    """Return the counts of a workload; of a Canary those of both Deployments, the target's as updated."""
    if whole.kind is not WorkloadKind.CANARY:
        return whole.replicas
    counts = [part.replicas for part in parts]
    return Replicas(
        sum(item.desired for item in counts),
        sum(item.total for item in counts),
        sum(part.replicas.total for part in parts if part.name == whole.target),
        sum(item.ready for item in counts),
        sum(item.available for item in counts),
        sum(item.unavailable for item in counts),
        sum(item.terminating for item in counts),
    )
