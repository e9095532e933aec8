"""How one workload goes from rollout to rollout. Pure: what is known and what is seen now give what is known
next, and the changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from rolloutobs.cluster.controllers import WAITING
from rolloutobs.cluster.model import Change, ChangeKind, Phase, Pod, Rollout, WorkloadKind
from rolloutobs.cluster.objects import Controller, TemplateSet

__all__ = ["NOTHING", "Memory", "Templates", "advance", "ended_by_deletion", "pods_told"]

_KEPT: Final = 4
"""Rollouts of a workload that pods may still belong to."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What is known of a workload besides its objects."""

    rollouts: tuple[Rollout, ...] = ()
    """The last few, oldest first."""
    applied: str = ""
    """Of a Canary: what stands for the template of the last one."""

    @property
    def last(self) -> Rollout | None:
        """The last rollout; ``None``: there has been none."""
        return self.rollouts[-1] if self.rollouts else None

    def with_last(self, rollout: Rollout) -> Memory:
        """Return this with `rollout` in place of the last one."""
        return replace(self, rollouts=(*self.rollouts[:-1], rollout))

    def and_then(self, rollout: Rollout) -> Memory:
        """Return this with one more."""
        return replace(self, rollouts=(*self.rollouts, rollout)[-_KEPT:])


NOTHING: Final = Memory()


@dataclass(frozen=True, slots=True)
class Templates:
    """Pod templates of a workload, by the order in which they were rolled out."""

    sets: tuple[TemplateSet, ...] = ()
    before: str = ""
    """Version of the stable side where it is another Deployment, as Flagger's is; else empty."""

    def of(self, revision: int) -> TemplateSet | None:
        """Return the one that `revision` rolled out; ``None``: it is not seen yet, or not any more."""
        exact = (item for item in self.sets if item.revision == revision)
        return next(exact, None) or next((item for item in self.sets if item.is_of(revision)), None)

    def previous(self, revision: int) -> TemplateSet | None:
        """Return the one that was rolled out before `revision`, of those that are left."""
        other = self.of(revision)
        earlier = [
            (number, item)
            for item in self.sets
            if item is not other
            for number in (item.revision, *item.past)
            if 0 < number < revision
        ]
        return max(earlier, key=lambda pair: pair[0])[1] if earlier else None

    def missed(self, after: int, before: int) -> list[TemplateSet]:
        """Return those that were first rolled out between two revisions, in order."""
        found = [item for item in self.sets if after < item.revision < before and not item.past]
        return sorted(found, key=lambda item: item.revision)


def advance(
    memory: Memory, seen: Controller, templates: Templates, began: float | None = None
) -> tuple[Memory, list[Change]]:
    """Return what is known after `seen`, and what has changed.

    A status that is older than its spec says nothing: its numbers and conditions are those of the rollout
    before.

    Args:
        memory: `NOTHING` for a workload that is seen for the first time.
        seen: the workload now, with its revision.
        templates: of the same workload; those of `seen` may lie in the past, or be missing.
        began: when this revision began, where somebody has noted it; of a template that is used again the
            objects say so only at that moment.
    """
    if not seen.is_current or seen.revision == 0 or (seen.kind is WorkloadKind.CANARY and not seen.applied):
        return memory, []
    changes: list[Change] = []
    last = memory.last
    if last is None or _is_other(memory, last, seen):
        memory = _next(memory, seen, templates, began, changes)
    elif not last.phase.is_end or last.undone_by == "":
        memory = _goes_on(replace(memory, applied=seen.applied), last, seen, changes)
    return memory, changes


def _is_other(memory: Memory, last: Rollout, seen: Controller) -> bool:
    if seen.kind is WorkloadKind.CANARY:
        if memory.applied.endswith(WAITING):
            # Once it may begin, Flagger says which template it is about.
            return seen.revision != last.revision
        # The target has its new revision before Flagger looks at it; until then the status is of the old one.
        return seen.applied != memory.applied
    return seen.revision != last.revision


def _next(
    memory: Memory, seen: Controller, templates: Templates, began: float | None, changes: list[Change]
) -> Memory:
    """Take `seen` for the beginning of a rollout; those that were missed come first."""
    last = memory.last
    if last is not None:
        for item in templates.missed(last.revision, seen.revision):
            before = memory.last.to_version if memory.last else ""
            memory = _begun(memory, _unseen(seen, item, before), changes, is_undo=False)
    previous = templates.previous(seen.revision)
    target = templates.of(seen.revision)
    is_undo = _is_undo(memory.last, seen, target, previous)
    if memory.last is None and is_undo and previous is not None:
        # Whoever had marked its beginning before a restart is still waiting for its end.
        older = templates.previous(previous.revision)
        undone = replace(_unseen(seen, previous, older.version if older else ""), phase=Phase.COMPLETED)
        memory = memory.and_then(undone)
    started = target.created if target and not target.past else (began or seen.touched)
    rollout = Rollout(
        seen.uid,
        seen.namespace,
        seen.name,
        seen.kind,
        seen.app,
        seen.revision,
        _from_version(memory.last, templates, previous),
        _version(seen, target),
        started,
        Phase.PROGRESSING,
        None,
        seen.replicas.desired,
        seen.replicas.updated,
        seen.weight_ratio,
        annotations=seen.annotations,
    )
    memory = _begun(replace(memory, applied=seen.applied), rollout, changes, is_undo=is_undo)
    return _phased(memory, rollout if memory.last is None else memory.last, seen, changes)


def _unseen(seen: Controller, item: TemplateSet, from_version: str) -> Rollout:
    """Return the rollout of a template that came and went while nobody looked."""
    return Rollout(
        seen.uid,
        seen.namespace,
        seen.name,
        seen.kind,
        seen.app,
        item.revision,
        from_version,
        item.version,
        item.created,
        Phase.PROGRESSING,
        None,
        seen.replicas.desired,
        annotations=seen.annotations,
    )


def _begun(memory: Memory, rollout: Rollout, changes: list[Change], *, is_undo: bool) -> Memory:
    """Return `memory` with `rollout` as its last, and the one before at its end."""
    last = memory.last
    if last is not None and is_undo:
        rollout = replace(rollout, undoes=last.id)
        ended = last.ended if last.phase is Phase.ROLLED_BACK else rollout.started
        undone = replace(last, phase=Phase.ROLLED_BACK, ended=ended, undone_by=rollout.id)
        memory = memory.with_last(undone)
        text = f"{_name(last)}: {_move(last)} is taken back, {rollout.to_version or 'an old version'} again"
        changes.append(_change(ChangeKind.ROLLED_BACK, rollout.started, undone, text, undoing=rollout))
    elif last is not None and not last.phase.is_end:
        over = replace(last, phase=Phase.SUPERSEDED, ended=rollout.started)
        memory = memory.with_last(over)
        text = f"{_name(last)}: {_move(last)} was not complete when the next version came"
        changes.append(_change(ChangeKind.SUPERSEDED, rollout.started, over, text))
    text = f"{_name(rollout)}: {_move(rollout)} begins"
    changes.append(_change(ChangeKind.STARTED, rollout.started, rollout, text))
    return memory.and_then(rollout)


def _is_undo(
    last: Rollout | None, seen: Controller, target: TemplateSet | None, previous: TemplateSet | None
) -> bool:
    """Return whether an older template is used again, or, where it was made anew, its version."""
    if target is not None and previous is not None and target.past and target.created < previous.created:
        return True
    if last is None or last.undoes or not last.from_version or last.from_version == last.to_version:
        return False
    return _version(seen, target) == last.from_version


def _from_version(last: Rollout | None, templates: Templates, previous: TemplateSet | None) -> str:
    if last is not None:
        # What is rolled back by its controller has left the version before in its place.
        gone = last.phase is Phase.ROLLED_BACK and not last.undone_by
        return last.from_version if gone else last.to_version
    return templates.before or (previous.version if previous else "")


def _version(seen: Controller, target: TemplateSet | None) -> str:
    return (target.version if target else "") or seen.version


def _goes_on(memory: Memory, last: Rollout, seen: Controller, changes: list[Change]) -> Memory:
    """Take `seen` for a later moment of the same rollout."""
    if last.phase in (Phase.COMPLETED, Phase.SUPERSEDED):
        return memory
    if last.phase is Phase.ROLLED_BACK:
        return memory if seen.aborted or seen.is_complete else _phased(memory, last, seen, changes)
    updated, weight = seen.replicas.updated, seen.weight_ratio
    now = replace(last, desired=seen.replicas.desired, annotations=seen.annotations)
    # A paused Deployment whose template has changed counts no pod as updated, for that template is not out.
    if not seen.paused and not seen.aborted and (updated, weight) != (last.updated, last.weight_ratio):
        is_done = seen.is_complete and updated == last.updated
        now = replace(now, updated=updated, weight_ratio=weight)
        if not is_done:
            changes.append(_change(ChangeKind.SCALED, seen.touched, now, f"{_name(now)}: {scale(now)}"))
    return _phased(memory.with_last(now), now, seen, changes)


def scale(rollout: Rollout) -> str:
    """Return how much of a rollout is new, in words."""
    if rollout.weight_ratio is not None:
        return f"{rollout.weight_ratio:.0%} of the traffic to {rollout.to_version}"
    return f"{rollout.updated} of {rollout.desired} pods are {rollout.to_version}"


_WORDS: Final = {
    Phase.PAUSED: ChangeKind.PAUSED,
    Phase.STUCK: ChangeKind.STUCK,
    Phase.COMPLETED: ChangeKind.COMPLETED,
    Phase.ROLLED_BACK: ChangeKind.ROLLED_BACK,
}


def _phased(memory: Memory, rollout: Rollout, seen: Controller, changes: list[Change]) -> Memory:
    """Return `memory` with the last rollout in the phase that `seen` shows."""
    phase, reason = _phase(seen)
    if phase is rollout.phase:
        return memory.with_last(replace(rollout, reason=reason))
    ended = seen.touched if phase.is_end else None
    now = replace(rollout, phase=phase, reason=reason, ended=ended)
    if phase is Phase.COMPLETED:
        now = replace(now, updated=seen.replicas.updated, desired=seen.replicas.desired)
    kind = _WORDS.get(phase)
    if kind is None:
        kind = ChangeKind.RECOVERED if rollout.phase is Phase.STUCK else ChangeKind.RESUMED
    because = f": {reason}" if reason else ""
    text = f"{_name(now)}: {_move(now)} {_SAYS[kind]}{because}"
    changes.append(_change(kind, seen.touched, now, text))
    return memory.with_last(now)


_SAYS: Final = {
    ChangeKind.PAUSED: "is paused",
    ChangeKind.STUCK: "is stuck",
    ChangeKind.COMPLETED: "is complete",
    ChangeKind.ROLLED_BACK: "was given up by its controller",
    ChangeKind.RECOVERED: "makes progress again",
    ChangeKind.RESUMED: "goes on",
}


def _phase(seen: Controller) -> tuple[Phase, str]:
    if seen.aborted:
        return Phase.ROLLED_BACK, seen.aborted
    if seen.is_complete:
        return Phase.COMPLETED, ""
    if seen.paused:
        return Phase.PAUSED, seen.paused
    return (Phase.STUCK, seen.stuck) if seen.stuck else (Phase.PROGRESSING, "")


def ended_by_deletion(memory: Memory, time: float) -> list[Change]:
    """Return what the deletion of a workload means for a rollout that was under way."""
    last = memory.last
    if last is None or last.phase.is_end:
        return []
    over = replace(last, phase=Phase.SUPERSEDED, ended=max(time, last.started), reason="deleted")
    text = f"{_name(last)} was deleted during {_move(last)}"
    return [_change(ChangeKind.SUPERSEDED, max(time, last.started), over, text)]


def pods_told(
    memory: Memory, pods: Iterable[Pod], template_of: Templates, told: set[tuple[str, ChangeKind]]
) -> Iterator[Change]:
    """Yield the changes of pods that rollouts have made, those in `told` left out, and add them to it.

    Args:
        memory: of the workload.
        pods: of the workload.
        template_of: its templates.
        told: uid and kind of what has been told.
    """
    for pod in pods:
        if (pod.uid, ChangeKind.POD_READY) in told:
            continue
        rollout = _rollout_of(memory, pod, template_of)
        if rollout is None:
            continue
        for kind, time, word in (
            (ChangeKind.POD_STARTED, pod.created, "was created"),
            (ChangeKind.POD_READY, pod.ready_since, "is ready"),
        ):
            if time is not None and (pod.uid, kind) not in told:
                told.add((pod.uid, kind))
                yield _change(kind, time, rollout, f"{pod.name} ({pod.version}) {word}", pod=pod)


def _rollout_of(memory: Memory, pod: Pod, templates: Templates) -> Rollout | None:
    """Return the rollout that has made `pod`: not the one that found it there, and no later scale-up."""
    for rollout in reversed(memory.rollouts):
        item = templates.of(rollout.revision)
        ended = float("inf") if rollout.ended is None else rollout.ended
        if item and item.template_hash == pod.template_hash and rollout.started <= pod.created <= ended:
            return rollout
    return None


def _name(rollout: Rollout) -> str:
    return f"{rollout.kind}/{rollout.workload}"


def _move(rollout: Rollout) -> str:
    to = rollout.to_version or f"revision {rollout.revision}"
    if rollout.from_version == rollout.to_version and rollout.to_version:
        return f"a restart, or another configuration, of {to}"
    return f"{rollout.from_version} to {to}" if rollout.from_version else to


def _change(
    kind: ChangeKind,
    time: float,
    rollout: Rollout,
    text: str,
    *,
    pod: Pod | None = None,
    undoing: Rollout | None = None,
) -> Change:
    return Change(kind, time, rollout.namespace, rollout.workload, text, rollout, undoing, pod)
