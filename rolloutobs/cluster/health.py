"""Whether a workload is well, in one sentence. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from rolloutobs.analysis.wording import duration
from rolloutobs.cluster.model import Phase, Pod, Rollout, Workload

__all__ = ["Health", "Wellness", "age", "health"]


class Wellness(StrEnum):
    """How a workload does."""

    HEALTHY = "healthy"
    BAD = "bad"
    """Its rollout is stuck or was given up, or pods that should be there cannot be."""
    IN_PROGRESS = "in progress"


@dataclass(frozen=True, slots=True)
class Health:
    """What there is to say about a workload."""

    wellness: Wellness
    sentence: str
    """Begins with the phase; names the pods that keep it from going on."""


def health(workload: Workload, now: float) -> Health:
    """Return how `workload` does at `now`, in seconds since the epoch.

    That some pods are not available is bad only where one of them cannot run or may not be created: for a few
    seconds after each scaling up it is so by design.
    """
    wellness, parts = _judged(workload, now)
    wrong = sum(pod.is_mismatched for pod in workload.pods)
    if wrong:
        parts.append(f"{_many(wrong, 'pod')} labelled with another track than the controller's")
    if workload.replicas.terminating:
        parts.append(f"{_many(workload.replicas.terminating, 'old pod')} still terminating")
    return Health(wellness, ", ".join(parts))


def _judged(workload: Workload, now: float) -> tuple[Wellness, list[str]]:
    rollout = workload.rollout
    if not workload.is_current:
        return Wellness.IN_PROGRESS, ["in progress: the controller has not seen the last change yet"]
    if rollout is None or rollout.phase in (Phase.COMPLETED, Phase.SUPERSEDED):
        return _settled(workload, rollout, now)
    if rollout.phase is Phase.ROLLED_BACK:
        ended = rollout.started if rollout.ended is None else rollout.ended
        text = f"rolled back {age(now - ended)} ago: {rollout.to_version} was given up: {rollout.reason}"
        return Wellness.BAD, [text]
    if rollout.phase is Phase.STUCK:
        return Wellness.BAD, [f"stuck: {_extent(workload, rollout)}", *_why(workload, rollout, now)]
    word = "in progress" if rollout.phase is Phase.PROGRESSING else f"paused ({rollout.reason})"
    since = f"{age(now - rollout.started)} so far"
    return (
        Wellness.IN_PROGRESS,
        [f"{word}: {_extent(workload, rollout)}", since, *_troubles(workload), *_left(workload, now)],
    )


def _settled(workload: Workload, rollout: Rollout | None, now: float) -> tuple[Wellness, list[str]]:
    counts = workload.replicas
    blocked = [c for c in workload.conditions if c.type == "ReplicaFailure" and c.status == "True"]
    if counts.available < counts.desired:
        text = f"{counts.available} of {counts.desired} available"
        why = [f"{c.reason}: {c.message}" for c in blocked] or list(_troubles(workload))
        wellness = Wellness.BAD if why else Wellness.IN_PROGRESS
        return wellness, [f"{'unavailable' if why else 'in progress'}: {text}", *why]
    parts = [f"healthy: {counts.available} of {counts.desired} available"]
    if rollout is not None and rollout.ended is not None:
        again = " again" if rollout.undoes else ""
        parts.append(f"{rollout.to_version}{again} for {age(now - rollout.ended)}")
        if rollout.undoes:
            parts.append(f"{rollout.from_version or 'the version before'} was taken back")
    return Wellness.HEALTHY, parts


def _extent(workload: Workload, rollout: Rollout) -> str:
    if rollout.weight_ratio is not None:
        return f"{rollout.weight_ratio:.0%} of the traffic to {rollout.to_version}"
    return f"{workload.replicas.updated} of {workload.replicas.desired} updated"


def _why(workload: Workload, rollout: Rollout, now: float) -> Iterator[str]:
    troubles = list(_troubles(workload))
    yield from troubles
    is_late = workload.deadline is not None and workload.deadline <= now
    if is_late and workload.deadline is not None:
        yield f"deadline passed {age(now - workload.deadline)} ago"
    if not troubles and not (is_late and rollout.reason == "ProgressDeadlineExceeded"):
        yield rollout.reason
    elif ": " in rollout.reason:
        # The controller may not create pods; that explains more than the pods that are there.
        yield rollout.reason


def _left(workload: Workload, now: float) -> Iterator[str]:
    if workload.deadline is not None and workload.deadline > now:
        yield f"deadline in {age(workload.deadline - now)}"


def _troubles(workload: Workload) -> Iterator[str]:
    """Yield what keeps pods from running; a pod that is being deleted keeps nobody."""
    found: dict[str, list[Pod]] = {}
    for pod in workload.pods:
        if pod.trouble and not pod.is_terminating:
            found.setdefault(pod.trouble, []).append(pod)
    for trouble, pods in found.items():
        more = f" and {len(pods) - 1} more" if len(pods) > 1 else ""
        yield f"{trouble} in {pods[-1].name}{more}"


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def age(seconds: float) -> str:
    """Return how long that is: ``41 s``, ``12 min``, ``3.5 h``, ``9 days``."""
    return duration(max(seconds, 0.0)) if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
