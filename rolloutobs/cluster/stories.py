"""What a rollout was like, as spans: the whole, its steps, its pods, its waits. Pure.

Ids are made of what a span is about, so that whoever tells the same rollout again tells the same spans.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from rolloutobs import semconv
from rolloutobs.cluster.model import Change, ChangeKind, Phase, Pod, Rollout

__all__ = ["ROOT", "VERDICT", "Happening", "Link", "Telling", "root_id", "span_id", "spans_of", "trace_id"]

Value = str | int | float

ROOT: Final = "rollout"
SCALE: Final = "scale"
PAUSED: Final = "paused"
STUCK: Final = "stuck"
POD_START: Final = "pod start"
POD_READINESS: Final = "pod readiness"
VERDICT: Final = "verdict"
"""Of the gate's span, which it sends by itself."""

_MOST_SPANS: Final = 1000
"""Of one trace; a rollout of more pods is told without the rest, and says how many."""
_MOST_EVENTS: Final = 32
"""Warnings of Kubernetes on the root; a pod that cannot start brings one every few seconds."""
_WAITS: Final[Mapping[ChangeKind, str]] = {ChangeKind.PAUSED: PAUSED, ChangeKind.STUCK: STUCK}
_GOES_ON: Final = frozenset({ChangeKind.RESUMED, ChangeKind.RECOVERED})
_BAD: Final = frozenset({Phase.ROLLED_BACK})


@dataclass(frozen=True, slots=True)
class Happening:
    """An event on a span."""

    time: float
    name: str
    attributes: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Link:
    """Another rollout's trace."""

    rollout: str
    """`Rollout.id`."""
    name: str
    """How it is related: ``undoes`` or ``undone by``."""


@dataclass(frozen=True, slots=True)
class Telling:
    """A span. Times are unix seconds, those of the objects."""

    key: str
    """What it is about; one of its trace has it."""
    parent: str
    """Key of its parent; empty: it is the root."""
    name: str
    start: float
    end: float
    attributes: Mapping[str, Value] = field(default_factory=dict)
    error: str = ""
    """Why it has ended badly; empty: it has not."""
    events: tuple[Happening, ...] = ()
    links: tuple[Link, ...] = ()


def trace_id(rollout: str) -> int:
    """Return the trace id of a rollout, given `Rollout.id`."""
    return _number(f"rolloutobs rollout {rollout}", 16)


def span_id(rollout: str, key: str) -> int:
    """Return the id of the span `key` of a rollout."""
    return _number(f"rolloutobs rollout {rollout} span {key}", 8)


def root_id(rollout: str) -> int:
    """Return the id of the span of a whole rollout."""
    return span_id(rollout, ROOT)


def _number(text: str, size: int) -> int:
    # An id of zero is none; of a hash that is one in 2^64 at most.
    return int.from_bytes(sha256(text.encode()).digest()[:size], "big") or 1


def spans_of(changes: Sequence[Change], attempt: int = 0) -> tuple[Telling, ...]:
    """Return the spans of a rollout that has ended, the root first.

    Args:
        changes: all that is known of it, of one rollout, in any order; the last one of a phase is the end.
        attempt: how often it had ended before and gone on: Argo's "retry".
    """
    told = sorted((change for change in changes if change.rollout is not None), key=lambda c: c.time)
    phases = [change.rollout for change in changes if change.rollout is not None and _is_phase(change)]
    if not phases:
        return ()
    last = phases[-1]
    end = max(last.started if last.ended is None else last.ended, last.started)
    key = f"{ROOT}/{attempt}" if attempt else ROOT
    steps = [*_steps(told, key, end), *_waits(told, key, end)]
    pods = list(_pods(told, [step for step in steps if step.name == SCALE], key, end))
    children = [*steps, *pods]
    left_out = max(len(children) - _MOST_SPANS, 0)
    root = Telling(
        key,
        "",
        ROOT,
        last.started,
        end,
        {**_attributes(last), **({semconv.ROLLOUT_ATTR_SPANS_LEFT_OUT: left_out} if left_out else {})},
        (last.reason or "rolled back") if last.phase in _BAD else "",
        _warnings(told),
        _links(last),
    )
    return (root, *children[:_MOST_SPANS])


def _is_phase(change: Change) -> bool:
    return change.event is None and change.pod is None


def _attributes(rollout: Rollout) -> dict[str, Value]:
    found: dict[str, Value] = {
        semconv.ROLLOUT_ATTR_ID: rollout.id,
        semconv.ROLLOUT_ATTR_NAMESPACE: rollout.namespace,
        semconv.ROLLOUT_ATTR_WORKLOAD: rollout.workload,
        semconv.ROLLOUT_ATTR_APP: rollout.app,
        semconv.ROLLOUT_ATTR_FROM: rollout.from_version,
        semconv.ROLLOUT_ATTR_TO: rollout.to_version,
        semconv.ROLLOUT_ATTR_PHASE: rollout.phase.value,
        semconv.ROLLOUT_ATTR_REVISION: rollout.revision,
        semconv.ROLLOUT_ATTR_UNDOES: rollout.undoes,
        semconv.ROLLOUT_ATTR_UNDONE_BY: rollout.undone_by,
        semconv.ROLLOUT_ATTR_REASON: rollout.reason,
        semconv.ROLLOUT_ATTR_OWNER: rollout.annotations.get(semconv.ANNOTATION_OWNER, ""),
    }
    return {name: value for name, value in found.items() if value != ""}


def _links(rollout: Rollout) -> tuple[Link, ...]:
    related = ((rollout.undoes, "undoes"), (rollout.undone_by, "undone by"))
    return tuple(Link(other, name) for other, name in related if other)


def _steps(changes: Iterable[Change], parent: str, end: float) -> list[Telling]:
    """Return one span for each number of new pods, or share of the traffic, until the next one."""
    seen = [change for change in changes if change.kind is ChangeKind.SCALED]
    found = []
    for number, change in enumerate(seen):
        until = seen[number + 1].time if number + 1 < len(seen) else end
        rollout = change.rollout
        if rollout is None:
            continue
        attributes: dict[str, Value] = {
            semconv.ROLLOUT_ATTR_UPDATED: rollout.updated,
            semconv.ROLLOUT_ATTR_DESIRED: rollout.desired,
        }
        if rollout.weight_ratio is not None:
            attributes[semconv.ROLLOUT_ATTR_WEIGHT] = rollout.weight_ratio
        key = f"{SCALE}/{change.time:.0f}/{rollout.updated}/{rollout.weight_ratio or 0:.4f}"
        found.append(Telling(key, parent, SCALE, change.time, max(until, change.time), attributes))
    return found


def _waits(changes: Sequence[Change], parent: str, end: float) -> list[Telling]:
    """Return the times in which it was paused or stuck."""
    found = []
    for number, change in enumerate(changes):
        name = _WAITS.get(change.kind, "")
        if not name or change.rollout is None:
            continue
        later = (c.time for c in changes[number + 1 :] if c.kind in _GOES_ON or c.kind in _WAITS)
        until = max(next(later, end), change.time)
        reason = change.rollout.reason
        attributes = {semconv.ROLLOUT_ATTR_REASON: reason} if reason else {}
        error = (reason or name) if change.kind is ChangeKind.STUCK else ""
        found.append(
            Telling(f"{name}/{change.time:.0f}", parent, name, change.time, until, attributes, error)
        )
    return found


def _pods(changes: Iterable[Change], steps: Sequence[Telling], root: str, end: float) -> Iterable[Telling]:
    """Yield the start and the readiness of each new pod, under the step that made it."""
    latest: dict[str, Pod] = {}
    for change in changes:
        if change.pod is not None:
            latest[change.pod.uid] = change.pod
    for pod in sorted(latest.values(), key=lambda pod: (pod.created, pod.name)):
        parent = next((step.key for step in reversed(steps) if step.start <= pod.created), root)
        attributes: dict[str, Value] = {
            semconv.POD_ATTR_NAME: pod.name,
            semconv.POD_ATTR_UID: pod.uid,
            semconv.POD_ATTR_RESTARTS: pod.restarts,
        }
        ready = pod.ready_since
        until = max(end if ready is None else ready, pod.created)
        never = "" if ready is not None else f"never ready: {pod.trouble}" if pod.trouble else "never ready"
        if pod.started is None or not pod.created <= pod.started <= until:
            # When its container began is not known, or it has been another one since.
            yield Telling(f"start/{pod.uid}", parent, POD_START, pod.created, until, attributes, never)
            continue
        yield Telling(f"start/{pod.uid}", parent, POD_START, pod.created, pod.started, attributes)
        yield Telling(f"readiness/{pod.uid}", parent, POD_READINESS, pod.started, until, attributes, never)


def _warnings(changes: Iterable[Change]) -> tuple[Happening, ...]:
    """Return the warnings of Kubernetes, as often as they were by then; of many the most frequent ones."""
    latest = {change.event.uid: change.event for change in changes if change.event is not None}
    found = sorted((e for e in latest.values() if e.type == "Warning"), key=lambda e: e.count, reverse=True)
    return tuple(
        Happening(
            event.last,
            event.reason,
            {
                semconv.KUBERNETES_ATTR_KIND: event.kind,
                semconv.KUBERNETES_ATTR_NAME: event.name,
                semconv.KUBERNETES_ATTR_REASON: event.reason,
                semconv.KUBERNETES_ATTR_COUNT: event.count,
                semconv.KUBERNETES_ATTR_MESSAGE: event.message,
            },
        )
        for event in sorted(found[:_MOST_EVENTS], key=lambda e: e.last)
    )
