"""A workload as text for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from time import gmtime
from typing import Any, Final

from rolloutobs.cluster.health import Wellness, age, health
from rolloutobs.cluster.model import Change, Phase, Pod, Rollout, Workload
from rolloutobs.cluster.records import record

__all__ = ["Paint", "clock", "detail", "mapping", "table"]

Paint = Callable[[str, str], str]
"""From text and style to coloured text."""

_STYLES: Final = {Wellness.HEALTHY: "good", Wellness.BAD: "bad", Wellness.IN_PROGRESS: "undecided"}
_CELLS: Final = 20
_EVENTS: Final = 10
_DAY: Final = 86_400


def table(workloads: Sequence[Workload], now: float, paint: Paint) -> str:
    """Return a line for each workload."""
    if not workloads:
        return "no Deployments, Rollouts or Canaries here"
    spaces = len({item.namespace for item in workloads}) > 1
    rows = []
    for item in workloads:
        found = health(item, now)
        name = f"{item.kind}/{item.name}"
        rows.append([*([item.namespace] if spaces else []), name, _versions(item), found.sentence])
    head = [*(["NAMESPACE"] if spaces else []), "WORKLOAD", "VERSION", "HEALTH"]
    lines = _columns([head, *rows])
    painted = [
        line.removesuffix(row[-1]) + paint(row[-1], _STYLES[health(item, now).wellness])
        for line, row, item in zip(lines[1:], rows, workloads, strict=True)
    ]
    return "\n".join([paint(lines[0], "faint"), *painted])


def detail(workload: Workload, changes: Iterable[Change], now: float, paint: Paint) -> str:
    """Return all there is to see of a workload.

    Args:
        workload: it.
        changes: of all workloads, oldest first; those of others are left out.
        now: seconds since the epoch.
        paint: colours.
    """
    found = health(workload, now)
    own = [c for c in changes if (c.namespace, c.workload) == (workload.namespace, workload.name)]
    timeline = [c for c in own if c.event is None and c.rollout and _is_last(c.rollout, workload.rollout)]
    events = [c for c in own if c.event is not None][-_EVENTS:]
    parts = [
        f"{paint(f'{workload.kind}/{workload.name}', 'strong')} in {workload.namespace}, app {workload.app}",
        paint(found.sentence, _STYLES[found.wellness]),
        "",
        *_rollout(workload, now, paint),
        *_replicas(workload),
        *_conditions(workload, now),
        "",
        *_pods(workload, now, paint),
    ]
    if timeline:
        parts += ["", "timeline", *(f"  {clock(c.time, now)}  {c.text}" for c in timeline)]
    if events:
        parts += ["", "events", *(_event(c, now, paint) for c in events)]
    return "\n".join(line.rstrip() for line in parts)


def mapping(workload: Workload, changes: Iterable[Change], now: float) -> dict[str, Any]:
    """Return the same as JSON has it."""
    found = health(workload, now)
    own = [c for c in changes if (c.namespace, c.workload) == (workload.namespace, workload.name)]
    plain = asdict(workload)
    plain["annotations"] = dict(workload.annotations)
    for pod, shown in zip(workload.pods, plain["pods"], strict=True):
        shown["is_mismatched"] = pod.is_mismatched
    return {
        "health": {"wellness": found.wellness.value, "sentence": found.sentence},
        **plain,
        "timeline": [record(c) for c in own if c.event is None],
        "events": [record(c) for c in own if c.event is not None],
    }


def _is_last(rollout: Rollout, last: Rollout | None) -> bool:
    return last is not None and rollout.id in (last.id, last.undoes)


def _versions(workload: Workload) -> str:
    rollout = workload.rollout
    if rollout is None or rollout.phase is Phase.COMPLETED or not rollout.from_version:
        return workload.version
    return f"{rollout.from_version} to {rollout.to_version}"


def _rollout(workload: Workload, now: float, paint: Paint) -> Iterator[str]:
    rollout = workload.rollout
    if rollout is None:
        return
    ratio = 1.0 if rollout.phase is Phase.COMPLETED else workload.progress_ratio
    full = round(ratio * _CELLS)
    bar = paint("#" * full, "canary") + paint("." * (_CELLS - full), "faint")
    ended = "" if rollout.ended is None else f", took {age(rollout.ended - rollout.started)}"
    versions = (
        f"{rollout.from_version} to {rollout.to_version}" if rollout.from_version else rollout.to_version
    )
    yield (
        f"rollout     {versions}  [{bar}] {ratio:.0%}, {rollout.phase.value.replace('_', ' ')}, "
        f"began {age(now - rollout.started)} ago{ended}"
    )


def _replicas(workload: Workload) -> Iterator[str]:
    counts = workload.replicas
    yield (
        f"replicas    desired {counts.desired}, updated {counts.updated}, ready {counts.ready}, "
        f"available {counts.available}, unavailable {counts.unavailable}, "
        f"old still terminating {counts.terminating}"
    )


def _conditions(workload: Workload, now: float) -> Iterator[str]:
    rows = [
        [c.type, c.status, c.reason, f"for {age(now - c.changed)}" if c.changed else "", c.message]
        for c in workload.conditions
    ]
    for number, line in enumerate(_columns(rows)):
        yield f"{'conditions' if number == 0 else '':<12}{line}"


def _pods(workload: Workload, now: float, paint: Paint) -> Iterator[str]:
    if not workload.pods:
        yield "no pods"
        return
    rows = [["VERSION", "TRACK", "POD", "AGE", "READY", "RESTARTS", ""]]
    pods = sorted(workload.pods, key=lambda pod: (pod.version, pod.created, pod.name))
    rows += [
        [
            pod.version or "?",
            pod.track.value or "-",
            pod.name,
            age(now - pod.created),
            "no" if pod.ready_since is None else "yes",
            str(pod.restarts),
            _remark(pod),
        ]
        for pod in pods
    ]
    head, *lines = _columns(rows)
    yield paint(head, "faint")
    for pod, line in zip(pods, lines, strict=True):
        yield paint(line, "bad") if pod.trouble or pod.is_mismatched else line


def _remark(pod: Pod) -> str:
    remarks = [pod.trouble, "terminating" if pod.is_terminating else ""]
    if pod.is_mismatched:
        remarks.append(f"by its controller {pod.expected_track.value}")
    return ", ".join(filter(None, remarks))


def _event(change: Change, now: float, paint: Paint) -> str:
    event = change.event
    if event is None:
        return ""
    times = f" ({event.count}x)" if event.count > 1 else ""
    line = f"  {clock(change.time, now)}  {event.kind}/{event.name}  {event.reason}{times}: {event.message}"
    return paint(line, "undecided") if event.type == "Warning" else line


def clock(time: float, now: float) -> str:
    """Return a time of day in UTC, with its date where it is not of the last 24 hours."""
    # `gmtime` of a given time reads no clock.
    parts = gmtime(time)
    text = f"{parts.tm_hour:02}:{parts.tm_min:02}:{parts.tm_sec:02}Z"
    return text if now - time < _DAY else f"{parts.tm_year}-{parts.tm_mon:02}-{parts.tm_mday:02} {text}"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
