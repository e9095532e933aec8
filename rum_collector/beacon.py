"""What a browser posts, made into a `Beacon` or a `BeaconError`; pure, whatever the bytes.

Two bodies are understood: the script's own (`parse_beacon`, schema in docs/rum.md) and the simplest one that
a page can write by hand (`parse_simple`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import msgspec

from rolloutobs.errors import BeaconError
from rum_collector.model import Beacon, Calls, Event, Frames, JsError, Request, Resource
from rum_collector.values import (
    MAX_ERROR_COUNT,
    MAX_EVENT_CHARS,
    MAX_VALUE,
    VITAL_NAMES,
    decode,
    event_of,
    in_range,
    js_error,
    route_of,
    vitals_of,
    who_of,
)
from rum_collector.words import BeaconOutcome, Navigation, Phase, ResourceKind, ValueRejection, Vital

__all__ = ["MAX_SEQUENCE", "Beacon", "Event", "JsError", "parse_beacon", "parse_simple"]

MAX_SEQUENCE: Final = 10_000
MAX_VIEW_CHARS: Final = 64
MAX_TOKEN_CHARS: Final = 512
MAX_ERRORS: Final = 20
"""Different errors read from one beacon; our script sends at most five."""
MAX_EVENTS: Final = 50
"""Different events read from one beacon; our script sends at most twenty."""
MAX_METRICS: Final = 20
"""Values read from one beacon; our script sends six."""
MAX_REQUESTS: Final = 30
"""Targets of calls read from one beacon."""
MAX_MARKS: Final = 10
"""Marks of answers read from one beacon; the script sends no more."""
MAX_DROPPED: Final = 1000
"""Values counted as too many for one beacon: saying so must not cost more than they would have."""
MAX_OBSERVED_MS: Final = 24 * 3600 * 1000.0
"""A page is watched for a day at most; what claims more has a wrong clock."""
MAX_PHASE_MS: Final = 600_000.0
"""As a page load: ten minutes."""


# Nothing in them can refer to itself, so that the garbage collector need not know of them.
class _WireMetric(msgspec.Struct, array_like=True, gc=False):
    name: str
    value: float


class _WireError(msgspec.Struct, gc=False):
    t: str = "Error"
    m: str = ""
    s: str = ""
    n: int = 1


class _WireEvent(msgspec.Struct, array_like=True, gc=False):
    name: str
    ok: int = 1


class _WireResource(msgspec.Struct, array_like=True, gc=False):
    kind: str
    count: int = 1


class _WireRequest(msgspec.Struct, array_like=True, gc=False):
    target: str
    total: int
    failed: int = 0
    ms: float = 0.0


class _WireBeacon(msgspec.Struct, gc=False, kw_only=True):
    # In the order of the script: a field is looked for behind the one that came before.
    v: int = 1
    app: str = ""
    ver: str = ""
    trk: str = ""
    tk: str = ""
    tp: str = ""
    syn: int = 0
    wd: int = 0
    sr: float | None = None
    pv: str
    sq: int = 0
    nav: str = "navigate"
    rt: str = ""
    m: list[_WireMetric] = []
    e: list[_WireError] = []
    fe: int = 0
    re: list[_WireResource] = []
    rf: int = 0
    c: list[_WireEvent] = []
    d: int = 0
    ab: int = 0
    f: list[_WireRequest] = []
    xp: list[int | str] = []
    lf: tuple[float, float] | None = None
    np: list[_WireMetric] = []


class _WireSimple(msgspec.Struct, gc=False):
    metric: str
    value: float
    version: str = ""
    app: str = ""
    track: str = ""
    route: str = ""
    synthetic: bool = False


_BEACON: Final = msgspec.json.Decoder(_WireBeacon)
_SIMPLE: Final = msgspec.json.Decoder(_WireSimple)
_NAVIGATIONS: Final = {navigation.value: navigation for navigation in Navigation}
# The script sends the element's name, which is what it has.
_KINDS: Final = {kind.value: kind for kind in ResourceKind} | {
    "link": ResourceKind.STYLE,
    "img": ResourceKind.IMAGE,
    "audio": ResourceKind.MEDIA,
    "video": ResourceKind.MEDIA,
    "source": ResourceKind.MEDIA,
    "iframe": ResourceKind.FRAME,
}
_PHASES: Final = {phase.value: phase for phase in Phase}


def parse_beacon(body: bytes) -> Beacon:
    """Return the beacon of the browser script in `body`.

    Values that cannot be used are left out and named in ``rejected``; the view itself still counts, for a
    view that vanished because one of its numbers was odd would bias every ratio.

    Raises:
        BeaconError: `body` is not JSON of the documented shape, or names a track that does not exist.
    """
    wire = decode(_BEACON, body)
    _check(wire)
    navigation = _NAVIGATIONS.get(wire.nav) or Navigation.OTHER
    vitals, rejected = vitals_of(wire.m[:MAX_METRICS], navigation)
    rejected += _too_many(wire)
    errors = tuple([js_error(e.t, e.m, e.s, e.n) for e in wire.e[:MAX_ERRORS]]) if wire.e else ()
    app, version, track, route = who_of(wire.app, wire.ver, wire.trk, wire.rt, "trk")
    # Half of the fields by position: by name, those alone would take a tenth of the time of this function.
    beacon = Beacon(
        app,
        version,
        track,
        route,
        wire.syn != 0,
        wire.pv,
        wire.sq,
        navigation,
        tuple(vitals.items()),
        errors,
        bool(errors) and wire.fe != 0,
        _events(wire.c[:MAX_EVENTS]) if wire.c else (),
        tuple(rejected),
        token=wire.tk if len(wire.tk) <= MAX_TOKEN_CHARS else "-",
        driven=wire.wd != 0,
        sampling=wire.sr if wire.sr is not None and 0.0 < wire.sr <= 1.0 else None,
        traceparent=wire.tp[:55],
    )
    return _with_details(beacon, wire) if _has_details(wire) else beacon


def _has_details(wire: _WireBeacon) -> bool:
    return bool(wire.re or wire.ab or wire.f or wire.np or wire.xp or wire.lf is not None)


def _with_details(beacon: Beacon, wire: _WireBeacon) -> Beacon:
    """Add what most beacons are without."""
    rejected = list(beacon.rejected)
    return msgspec.structs.replace(
        beacon,
        resources=_resources(wire.re),
        first_resource_error=bool(wire.re) and wire.rf != 0,
        aborted=wire.ab != 0 and wire.sq == 0,
        calls=_calls(wire.xp) if wire.xp else None,
        marks=_marks(wire.xp),
        requests=_requests(wire.f, rejected),
        frames=None if wire.lf is None else _frames(wire.lf, rejected),
        phases=_phases(wire.np, rejected),
        rejected=tuple(rejected),
    )


def _calls(answered: list[int | str]) -> Calls:
    """Return the numbers that stand before the marks of answers."""
    match answered:
        case [int(same), int(other), *_]:
            return Calls(_bounded(same), _bounded(other))
    raise BeaconError(BeaconOutcome.INVALID, "xp does not begin with two whole numbers: same and other")


def _marks(answered: list[int | str]) -> tuple[str, ...]:
    return tuple([mark for mark in answered[2 : 2 + MAX_MARKS] if isinstance(mark, str)])


def _check(wire: _WireBeacon) -> None:
    if wire.v != 1:
        raise BeaconError(BeaconOutcome.INVALID, f"v is {wire.v}; this collector reads version 1")
    if not wire.pv or len(wire.pv) > MAX_VIEW_CHARS:
        raise BeaconError(
            BeaconOutcome.INVALID, "pv is empty or longer than 64 characters; send a random id per view"
        )
    if not 0 <= wire.sq <= MAX_SEQUENCE:
        raise BeaconError(BeaconOutcome.INVALID, f"sq is {wire.sq}; use 0 to {MAX_SEQUENCE}")


def _too_many(wire: _WireBeacon) -> list[ValueRejection]:
    if (
        wire.d <= 0
        and not (wire.f or wire.np or wire.re)
        and len(wire.m) + len(wire.e) + len(wire.c) <= MAX_METRICS
    ):
        return []
    too_many = max(wire.d, 0)
    bounded = (
        (wire.m, MAX_METRICS),
        (wire.e, MAX_ERRORS),
        (wire.c, MAX_EVENTS),
        (wire.f, MAX_REQUESTS),
        (wire.np, MAX_METRICS),
        (wire.re, MAX_METRICS),
    )
    for values, most in bounded:
        if len(values) > most:
            too_many += len(values) - most
    return [ValueRejection.TOO_MANY] * min(too_many, MAX_DROPPED) if too_many else []


def parse_simple(body: bytes) -> Beacon:
    """Return the one measurement of a hand-written body as a beacon that counts no page view.

    ``{"metric": "page_load_time", "value": 1234, "version": "1.2.0"}``: milliseconds (CLS: no unit); app,
    track, route and synthetic may be added. No page view is counted: such a page reports no errors, and its
    views must not read as views without any.

    Raises:
        BeaconError: `body` is not such JSON, or the metric, the value or the track is not possible.
    """
    wire = decode(_SIMPLE, body)
    vital = VITAL_NAMES.get(wire.metric.lower())
    if vital is None:
        known = ", ".join(sorted(VITAL_NAMES))
        raise BeaconError(BeaconOutcome.UNKNOWN_METRIC, f"metric is {wire.metric[:40]!r}; use one of {known}")
    value = in_range(vital, wire.value)
    if value is None:
        top = MAX_VALUE[vital]
        unit = f"0 to {top:g}" if vital is Vital.CLS else f"0 to {top * 1000:g} milliseconds"
        raise BeaconError(
            BeaconOutcome.OUT_OF_RANGE, f"value of {wire.metric[:40]} is {wire.value:g}; use {unit}"
        )
    app, version, track, route = who_of(wire.app, wire.version, wire.track, wire.route, "track")
    return Beacon(
        app=app,
        version=version,
        track=track,
        route=route,
        synthetic=wire.synthetic,
        vitals=((vital, value),),
    )


def _events(wire: list[_WireEvent]) -> tuple[Event, ...]:
    """Return each event once per name and outcome: a conversion is evidence once per view."""
    if len(wire) == 1:
        # Most views that convert do it once.
        return _event(wire[0].name[:MAX_EVENT_CHARS], wire[0].ok != 0)
    named = {(event_of(event.name), event.ok != 0): None for event in wire}
    return tuple([Event(name, ok) for name, ok in named if name])


@lru_cache(maxsize=256)
def _event(name: str, ok: bool) -> tuple[Event, ...]:
    kept = event_of(name)
    return (Event(kept, ok),) if kept else ()


def _resources(wire: list[_WireResource]) -> tuple[Resource, ...]:
    counts: dict[ResourceKind, int] = {}
    for resource in wire[:MAX_METRICS]:
        kind = _KINDS.get(resource.kind, ResourceKind.OTHER)
        counts[kind] = min(counts.get(kind, 0) + max(_bounded(resource.count), 1), MAX_ERROR_COUNT)
    return tuple([Resource(kind, count) for kind, count in counts.items()])


def _requests(wire: list[_WireRequest], rejected: list[ValueRejection]) -> tuple[Request, ...]:
    found = []
    for request in wire[:MAX_REQUESTS]:
        total, failed = _bounded(request.total), _bounded(request.failed)
        if not (total > 0 and failed <= total and 0.0 <= request.ms <= MAX_OBSERVED_MS):
            rejected.append(ValueRejection.OUT_OF_RANGE)
        else:
            found.append(Request(route_of(request.target), failed, total, request.ms / 1000.0))
    return tuple(found)


def _frames(wire: tuple[float, float], rejected: list[ValueRejection]) -> Frames | None:
    long, observed = wire
    if 0.0 <= long <= observed <= MAX_OBSERVED_MS:
        return Frames(long / 1000.0, observed / 1000.0)
    rejected.append(ValueRejection.OUT_OF_RANGE)
    return None


def _phases(wire: list[_WireMetric], rejected: list[ValueRejection]) -> tuple[tuple[Phase, float], ...]:
    found: dict[Phase, float] = {}
    for part in wire[:MAX_METRICS]:
        phase = _PHASES.get(part.name)
        if phase is None:
            rejected.append(ValueRejection.UNKNOWN_METRIC)
        elif not 0.0 <= part.value <= MAX_PHASE_MS or math.isnan(part.value):
            rejected.append(ValueRejection.OUT_OF_RANGE)
        else:
            found.setdefault(phase, part.value / 1000.0)
    return tuple(found.items())


def _bounded(count: int) -> int:
    return min(max(count, 0), MAX_ERROR_COUNT)
