"""Everything that is known of the workloads of a cluster. No I/O and no clock: objects in, changes out.

The order of objects of one kind is that of the API server; kinds come in any order against each other, and
the changes are the same whichever it is. An Event waits for what it is about, up to a bound (`State.settle`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Final

from rolloutobs.cluster.controllers import canary_of, deployment_of, rollout_of
from rolloutobs.cluster.index import Index
from rolloutobs.cluster.machine import NOTHING, Memory, Templates, advance, ended_by_deletion, pods_told
from rolloutobs.cluster.model import (
    Change,
    ChangeKind,
    Event,
    Phase,
    Replicas,
    Rollout,
    Workload,
    WorkloadKind,
)
from rolloutobs.cluster.objects import Controller, OwnedPod, TemplateSet, event_of, pod_of, set_of, when
from rolloutobs.cluster.resources import Kind

__all__ = ["State"]

Plain = Mapping[str, Any]

_CONTROLLERS: Final[Mapping[Kind, Callable[[Plain], Controller]]] = {
    Kind.DEPLOYMENT: deployment_of,
    Kind.ROLLOUT: rollout_of,
    Kind.CANARY: canary_of,
}
_PATIENCE: Final = 64
"""So many states of a workload wait for the ReplicaSet that they are about."""
_MOST_HELD: Final = 1000
"""So many events wait; beyond it the oldest is told as it is."""
_ROUNDS: Final = 2
"""Of `State.settle` that an event waits: at least one whole round, for what comes on another watch at that
moment."""
_MOST_ROUNDS: Final = 10
"""The same, where it is about an object of a kind that is watched, and that is not known."""
_WATCHED: Final = frozenset(kind.value for kind in Kind)


@dataclass(slots=True)
class _Held:
    """An event that waits for what it is about."""

    change: Change
    """As it would have been told when it came."""
    rounds: int = 0


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
        self._index = Index()
        self._memories: dict[str, Memory] = {}
        self._waiting: dict[str, list[Controller]] = {}
        self._told: set[tuple[str, ChangeKind]] = set()
        self._counts: dict[str, tuple[int, str]] = {}
        """How often each event had happened when it was last told, and its namespace."""
        self._early: dict[str, Event] = {}
        """Events by uid that came before `begin`: what they are about may have come after them."""
        self._held: deque[_Held] = deque()
        """Events that came after it, oldest first."""

    # --- objects in ----------------------------------------------------------------------------------------
    def begin(self) -> list[Change]:
        """Return what can be told of the past; from now on what is applied is told as it comes.

        Call it once the first list of all kinds has been applied.
        """
        self._has_begun = True
        changes = [change for item in self._index.workloads() for change in self._advance(item)]
        changes += [self._event_told(event, is_early=True) for event in self._early.values()]
        self._early.clear()
        return [replace(change, is_backfill=True) for change in sorted(changes, key=lambda c: c.time)]

    def retain(self, kind: Kind, uids: Set[str], namespace: str = "") -> list[Change]:
        """Forget what a full list of a kind, in one namespace or all, does not have; return the changes."""
        if kind is Kind.EVENT:
            known = {uid for uid, (_, place) in self._counts.items() if namespace in ("", place)}
        else:
            known = self._index.known(kind, namespace)
        return [change for uid in sorted(known - uids) for change in self._forget(kind, uid, None)]

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
        seen = _CONTROLLERS[kind](plain)
        self._index.put_controller(kind, seen)
        return self._advance(self._index.workload_of(seen))

    def _take_set(self, item: TemplateSet) -> list[Change]:
        is_new = self._index.put_set(item)
        workload = self._index.workload_with(item.uid)
        if workload is None or not (is_new or workload.uid in self._waiting):
            return []
        return self._try_again(workload)

    def _take_pod(self, owned: OwnedPod) -> list[Change]:
        self._index.put_pod(owned)
        workload = self._index.workload_with(owned.owner)
        return self._tell_pods(workload, [owned]) if workload and self._has_begun else []

    def _take_event(self, event: Event) -> list[Change]:
        if self._counts.get(event.uid, (0, ""))[0] >= event.count:
            return []
        self._counts[event.uid] = (event.count, event.namespace)
        if not self._has_begun:
            self._early[event.uid] = event
            return []
        self._held.append(_Held(self._event_told(event)))
        return [self._held.popleft().change] if len(self._held) > _MOST_HELD else []

    def settle(self, *, is_end: bool = False) -> list[Change]:
        """Return the events that have waited long enough; to be called about once a second.

        An event may overtake what it is about, which comes on another watch. It waits for one round at least,
        and while nobody knows what it is about for ten; what it is about may be gone by then.

        Args:
            is_end: whether this is the last call: nothing waits any longer.
        """
        told: list[Change] = []
        waiting: deque[_Held] = deque()
        for held in self._held:
            held.rounds += 1
            change = self._later(held.change)
            is_open = not change.workload and change.event is not None and change.event.kind in _WATCHED
            if is_end or held.rounds >= (_MOST_ROUNDS if is_open else _ROUNDS):
                told.append(change)
            else:
                waiting.append(held)
        self._held = waiting
        return told

    def _later(self, change: Change) -> Change:
        """Return the change of an event as it is known now, or, where that has been forgotten, as it was."""
        if change.event is None:
            return change
        now = self._event_told(change.event, change.rollout.id if change.rollout else "")
        return now if now.workload else change

    def _event_told(self, event: Event, known: str | None = None, *, is_early: bool = False) -> Change:
        """Return the change of an event.

        Args:
            event: what has happened.
            known: id of the rollout that went on when it came: it belongs to that one, or to one that it has
                overtaken; ``None``: it comes now, and belongs to the one that goes on.
            is_early: whether it came before `begin`: it may be older than all rollouts.
        """
        found, version = self._index.about(event)
        workload = self._index.whole(found) if found else None
        name, app = (workload.name, workload.app) if workload else ("", "")
        rollouts = self._memories.get(workload.uid, NOTHING).rollouts if workload else ()
        if is_early or known is not None:
            begun = tuple(each for each in rollouts if each.started <= event.last or each.id == known)
            rollouts = begun or (() if is_early else rollouts)
        event = replace(event, workload=name, app=app, version=version)
        text = f"{event.kind} {event.name}: {event.reason}: {event.message}"
        last = rollouts[-1] if rollouts else None
        return Change(ChangeKind.EVENT, event.last, event.namespace, name, text, last, event=event)

    def _forget(self, kind: Kind, uid: str, deleted: str | None) -> list[Change]:
        if kind is Kind.EVENT:
            self._counts.pop(uid, None)
            self._early.pop(uid, None)
        elif kind is Kind.POD:
            self._index.drop_pod(uid)
            self._told -= {(uid, ChangeKind.POD_STARTED), (uid, ChangeKind.POD_READY)}
        elif kind is Kind.REPLICA_SET:
            self._index.drop_set(uid)
        else:
            seen = self._index.drop_controller(kind, uid)
            self._waiting.pop(uid, None)
            memory = self._memories.pop(uid, NOTHING)
            return ended_by_deletion(memory, when(deleted) or seen.touched) if seen else []
        return []

    # --- changes -------------------------------------------------------------------------------------------
    def _advance(self, seen: Controller) -> list[Change]:
        """Take the next state of a workload."""
        if not self._has_begun:
            return []
        before = self._memories.get(seen.uid, NOTHING)
        self._waiting.setdefault(seen.uid, []).append(self._index.whole(seen))
        changes = self._drain(seen)
        if self._memories[seen.uid].rollouts != before.rollouts:
            changes += self._tell_pods(seen, self._index.owned(seen))
        return changes

    def _try_again(self, workload: Controller) -> list[Change]:
        """Go on with what may have waited for a ReplicaSet that has come now, and its pods."""
        if not self._has_begun:
            return []
        return self._drain(workload) + self._tell_pods(workload, self._index.owned(workload))

    def _drain(self, workload: Controller) -> list[Change]:
        queue = self._waiting.pop(workload.uid, [])
        memory = self._memories.get(workload.uid, NOTHING)
        changes: list[Change] = []
        while queue:
            templates = self._index.templates(queue[0])
            if self._must_wait(queue[0], templates) and len(queue) <= _PATIENCE:
                self._waiting[workload.uid] = queue
                break
            head = queue.pop(0)
            began = None if memory.last else self.noted_start(f"{head.uid}-{head.revision}")
            memory, new = advance(memory, head, templates, began)
            changes += new
        self._memories[workload.uid] = memory
        return changes

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
        if memory.last is None:
            return []
        by_uid = {item.pod.uid: item for item in owned}
        pods = (item.pod for item in by_uid.values())
        whole = self._index.whole(workload)
        return [
            replace(change, pod=self._index.pod(whole, by_uid[change.pod.uid])) if change.pod else change
            for change in pods_told(memory, pods, self._index.templates(workload), self._told)
        ]

    # --- what is so now ------------------------------------------------------------------------------------
    def workloads(self) -> Iterator[Workload]:
        """Yield every workload as it is now."""
        return (self._view(controller) for controller in self._index.workloads())

    def _view(self, controller: Controller) -> Workload:
        index, whole = self._index, self._index.whole(controller)
        rollout = self._memories.get(controller.uid, NOTHING).last
        pods = [index.pod(whole, owned) for owned in index.owned(controller) if not owned.has_ended]
        parts = index.parts(controller)
        counts = _summed(whole, parts)
        # Before Kubernetes 1.36 the status does not say how many are terminating.
        ending = max(counts.terminating, sum(pod.is_terminating for pod in pods))
        return Workload(
            whole.uid,
            whole.namespace,
            whole.name,
            whole.kind,
            whole.app or whole.name,
            whole.version or (rollout.to_version if rollout else ""),
            replace(counts, terminating=ending),
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
        target = self._index.templates(seen).of(rollout.revision)
        if target is None or not seen.replicas.desired:
            return 0.0
        return min(target.available / seen.replicas.desired, 1.0)


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
