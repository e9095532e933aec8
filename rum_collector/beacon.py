"""What a browser posts, made into a `Beacon` or a `BeaconError`; pure, whatever the bytes.

Two bodies are understood: the script's own (`parse_beacon`, schema in docs/rum.md) and the simplest one that
a page can write by hand (`parse_simple`). Milliseconds become seconds here and nowhere else.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from typing import Final, TypeVar

import msgspec

from rolloutobs.errors import BeaconError, ConfigurationError
from rolloutobs.identity import UNKNOWN_VERSION, Track
from rum_collector.scrub import MAX_MESSAGE_CHARS, clean, scrub, template
from rum_collector.words import BeaconOutcome, Device, Navigation, ValueRejection, Vital

__all__ = [
    "MAX_SEQUENCE",
    "Beacon",
    "Event",
    "JsError",
    "device_of",
    "parse_beacon",
    "parse_simple",
]

MAX_SEQUENCE: Final = 10_000
MAX_VERSION_CHARS: Final = 128
MAX_APP_CHARS: Final = 64
MAX_ROUTE_CHARS: Final = 120
MAX_EVENT_CHARS: Final = 64
MAX_ERROR_COUNT: Final = 10_000
"""Times one error may have been thrown in one beacon; a page that loops counts no further."""
MAX_ERRORS: Final = 20
"""Different errors read from one beacon; our script sends at most five."""
MAX_EVENTS: Final = 50
"""Different events read from one beacon; our script sends at most twenty."""
MAX_METRICS: Final = 20
"""Values read from one beacon; our script sends six."""
MAX_DROPPED: Final = 1000
"""Values counted as too many for one beacon: saying so must not cost more than they would have."""


class JsError(msgspec.Struct, frozen=True):
    """One error of a view, merged with its repeats.

    `fingerprint` is made of type and scrubbed message, not of file names, to stay the same across versions.
    """

    fingerprint: str
    message: str
    """``Type: scrubbed message``."""
    location: str
    """``file:line:column``, or the empty string."""
    count: int


class Event(msgspec.Struct, frozen=True):
    """A business event of a view; sent at most once per view, name and outcome."""

    name: str
    ok: bool


class Beacon(msgspec.Struct, frozen=True):
    """One accepted body. Every beacon of a view is additive: it carries what was not sent before.

    Attributes:
        app: the service, or empty where the page did not say.
        route: template, or empty where the page did not say.
        view: random id of the page view; empty for the simple body, which counts no view.
        sequence: 0 counts the view.
        navigation: ``None`` for the simple body.
        vitals: seconds (CLS: no unit), each vital at most once per view.
        first_error: the view had no error in its earlier beacons and has one now.
        rejected: why single values were left out, one word per value.
    """

    app: str
    version: str
    track: Track
    route: str
    synthetic: bool
    view: str = ""
    sequence: int = 0
    navigation: Navigation | None = None
    vitals: tuple[tuple[Vital, float], ...] = ()
    errors: tuple[JsError, ...] = ()
    first_error: bool = False
    events: tuple[Event, ...] = ()
    rejected: tuple[ValueRejection, ...] = ()

    @property
    def new_view(self) -> Navigation | None:
        """How the view came about, if this beacon is the one that counts it."""
        return self.navigation if self.sequence == 0 else None


# --- wire shapes --------------------------------------------------------------------------------------------


class _WireMetric(msgspec.Struct, array_like=True):
    name: str
    value: float


class _WireError(msgspec.Struct):
    t: str = "Error"
    m: str = ""
    s: str = ""
    n: int = 1


class _WireEvent(msgspec.Struct, array_like=True):
    name: str
    ok: int = 1


class _WireBeacon(msgspec.Struct):
    pv: str
    v: int = 1
    app: str = ""
    ver: str = ""
    trk: str = ""
    syn: int = 0
    sq: int = 0
    nav: str = "navigate"
    rt: str = ""
    m: list[_WireMetric] = []
    e: list[_WireError] = []
    fe: int = 0
    c: list[_WireEvent] = []
    d: int = 0


class _WireSimple(msgspec.Struct):
    metric: str
    value: float
    version: str = ""
    app: str = ""
    track: str = ""
    route: str = ""
    synthetic: bool = False


Wire = TypeVar("Wire")
_BEACON: Final = msgspec.json.Decoder(_WireBeacon)
_SIMPLE: Final = msgspec.json.Decoder(_WireSimple)

_VITAL_NAMES: Final = {vital.value: vital for vital in Vital} | {
    "page_load_time": Vital.LOAD,
    "page_load": Vital.LOAD,
    "largest_contentful_paint": Vital.LCP,
    "interaction_to_next_paint": Vital.INP,
    "cumulative_layout_shift": Vital.CLS,
    "first_contentful_paint": Vital.FCP,
    "time_to_first_byte": Vital.TTFB,
}
# Ranges of Umami's collector (vitals 0 to 60 s, CLS 0 to 100); a page load may well take longer than a paint.
_MAX_VALUE: Final = dict.fromkeys(Vital, 60.0) | {Vital.CLS: 100.0, Vital.LOAD: 600.0}
_NO_REQUEST: Final = frozenset({Navigation.BFCACHE, Navigation.SOFT})
_TRACKS: Final = {track.value: track for track in Track}
_NAVIGATIONS: Final = {navigation.value: navigation for navigation in Navigation}
_ERROR_TYPE: Final = re.compile(r"[A-Za-z_$][\w$]{0,39}", re.ASCII)
_LOCATION: Final = re.compile(r"[^/\s?#@]{0,40}:\d{1,7}:\d{1,7}", re.ASCII)


def device_of(user_agent: str, mobile_hint: str = "") -> Device:
    """Return the class of device from the headers User-Agent and Sec-CH-UA-Mobile (``?1`` or ``?0``).

    A tablet that asks for desktop sites counts as a desktop. No user agent gives ``UNKNOWN``.
    Source: https://developer.mozilla.org/docs/Web/HTTP/Browser_detection_using_the_user_agent ("Mobi").
    """
    if not user_agent:
        return Device.UNKNOWN
    if mobile_hint == "?1" or "Mobi" in user_agent:
        return Device.TABLET if "iPad" in user_agent else Device.MOBILE
    if any(word in user_agent for word in ("iPad", "Tablet", "Android")):
        return Device.TABLET
    return Device.DESKTOP


def parse_beacon(body: bytes) -> Beacon:
    """Return the beacon of the browser script in `body`.

    Values that cannot be used are left out and named in ``rejected``; the view itself still counts, for a
    view that vanished because one of its numbers was odd would bias every ratio.

    Raises:
        BeaconError: `body` is not JSON of the documented shape, or names a track that does not exist.
    """
    wire = _decode(_BEACON, body)
    if wire.v != 1:
        raise BeaconError(BeaconOutcome.INVALID, f"v is {wire.v}; this collector reads version 1")
    if not wire.pv or len(wire.pv) > 64:
        raise BeaconError(
            BeaconOutcome.INVALID, "pv is empty or longer than 64 characters; send a random id per view"
        )
    if not 0 <= wire.sq <= MAX_SEQUENCE:
        raise BeaconError(BeaconOutcome.INVALID, f"sq is {wire.sq}; use 0 to {MAX_SEQUENCE}")
    navigation = _NAVIGATIONS.get(wire.nav, Navigation.OTHER)
    vitals, rejected = _vitals(wire.m[:MAX_METRICS], navigation)
    too_many = max(wire.d, 0)
    for values, most in ((wire.m, MAX_METRICS), (wire.e, MAX_ERRORS), (wire.c, MAX_EVENTS)):
        too_many += max(len(values) - most, 0)
    if too_many:
        rejected += [ValueRejection.TOO_MANY] * min(too_many, MAX_DROPPED)
    errors = tuple(map(_js_error, wire.e[:MAX_ERRORS]))
    return Beacon(
        app=_name(wire.app[:MAX_APP_CHARS]),
        version=_name(wire.ver[:MAX_VERSION_CHARS]) or UNKNOWN_VERSION,
        track=_track(wire.trk, "trk"),
        route=_route(wire.rt),
        synthetic=wire.syn != 0,
        view=wire.pv,
        sequence=wire.sq,
        navigation=navigation,
        vitals=tuple(vitals.items()),
        errors=errors,
        first_error=bool(errors) and wire.fe != 0,
        events=_events(wire.c[:MAX_EVENTS]),
        rejected=tuple(rejected),
    )


def parse_simple(body: bytes) -> Beacon:
    """Return the one measurement of a hand-written body as a beacon that counts no page view.

    ``{"metric": "page_load_time", "value": 1234, "version": "1.2.0"}``: milliseconds (CLS: no unit); app,
    track, route and synthetic may be added. No page view is counted: such a page reports no errors, and its
    views must not read as views without any.

    Raises:
        BeaconError: `body` is not such JSON, or the metric, the value or the track is not possible.
    """
    wire = _decode(_SIMPLE, body)
    vital = _VITAL_NAMES.get(wire.metric.lower())
    if vital is None:
        known = ", ".join(sorted(_VITAL_NAMES))
        raise BeaconError(
            BeaconOutcome.UNKNOWN_METRIC, f"metric is {_shown(wire.metric)}; use one of {known}"
        )
    value = _in_range(vital, wire.value)
    if value is None:
        top = _MAX_VALUE[vital]
        unit = f"0 to {top:g}" if vital is Vital.CLS else f"0 to {top * 1000:g} milliseconds"
        raise BeaconError(BeaconOutcome.OUT_OF_RANGE, f"value of {wire.metric} is {wire.value:g}; use {unit}")
    return Beacon(
        app=_name(wire.app[:MAX_APP_CHARS]),
        version=_name(wire.version[:MAX_VERSION_CHARS]) or UNKNOWN_VERSION,
        track=_track(wire.track, "track"),
        route=_route(wire.route),
        synthetic=wire.synthetic,
        vitals=((vital, value),),
    )


def _decode(decoder: msgspec.json.Decoder[Wire], body: bytes) -> Wire:
    if not body.strip():
        raise BeaconError(BeaconOutcome.EMPTY, "the body is empty; post a JSON object")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BeaconError(BeaconOutcome.INVALID, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BeaconError(BeaconOutcome.NOT_JSON, f"the body is not JSON: {error}") from None


def _vitals(
    metrics: list[_WireMetric], navigation: Navigation
) -> tuple[dict[Vital, float], list[ValueRejection]]:
    """Return seconds by vital (the first of a repeated one), and why the others were left out."""
    vitals: dict[Vital, float] = {}
    rejected: list[ValueRejection] = []
    for metric in metrics:
        vital = _VITAL_NAMES.get(metric.name) or _VITAL_NAMES.get(metric.name.lower())
        value = None if vital is None else _in_range(vital, metric.value)
        if vital is None:
            rejected.append(ValueRejection.UNKNOWN_METRIC)
        elif value is None:
            rejected.append(ValueRejection.OUT_OF_RANGE)
        elif navigation in _NO_REQUEST and vital in (Vital.TTFB, Vital.LOAD):
            # Its zeros would make a version look fast because its users went back and forth.
            rejected.append(ValueRejection.NO_REQUEST)
        else:
            vitals.setdefault(vital, value)
    return vitals, rejected


def _in_range(vital: Vital, raw: float) -> float | None:
    """Return `raw` (milliseconds; CLS: no unit) in seconds, or ``None`` where it is not possible."""
    value = raw if vital is Vital.CLS else raw / 1000.0
    return value if 0.0 <= value <= _MAX_VALUE[vital] else None


def _js_error(wire: _WireError) -> JsError:
    if wire.t == "more":
        return JsError("other", "further errors of the same view", "", _count(wire.n))
    fingerprint, message = _recognised(wire.t[:41], wire.m[: 8 * MAX_MESSAGE_CHARS])
    place = clean(wire.s, MAX_MESSAGE_CHARS)
    location = place if _LOCATION.fullmatch(place) else ""
    return JsError(fingerprint, message, location, _count(wire.n))


# The same few errors and routes come again and again: cleaning them takes longer than the rest of a beacon.
@lru_cache(maxsize=1024)
def _recognised(name: str, raw: str) -> tuple[str, str]:
    """Return the fingerprint of an error and what may be kept of its message."""
    kind = name if _ERROR_TYPE.fullmatch(name) else "Error"
    message = scrub(raw)
    # A short id, not a signature: collisions only merge two lines of a bounded table.
    digest = hashlib.sha256(f"{kind}\0{message}".encode()).hexdigest()[:8]
    return f"{kind}-{digest}", f"{kind}: {message}"


def _count(n: int) -> int:
    return min(max(n, 1), MAX_ERROR_COUNT)


def _events(wire: list[_WireEvent]) -> tuple[Event, ...]:
    """Return each event once per name and outcome: a conversion is evidence once per view."""
    named = {(_name(event.name[:MAX_EVENT_CHARS]), event.ok != 0): None for event in wire}
    return tuple([Event(name, ok) for name, ok in named if name])


def _route(route: str) -> str:
    return _route_kept(route[: 4 * MAX_ROUTE_CHARS])


@lru_cache(maxsize=1024)
def _route_kept(route: str) -> str:
    return clean(template(route), MAX_ROUTE_CHARS)


@lru_cache(maxsize=1024)
def _name(text: str) -> str:
    return clean(text, len(text))


def _track(word: str, source: str) -> Track:
    known = _TRACKS.get(word)
    if known is not None:
        return known
    try:
        return Track.parse(word[:32], source)
    except ConfigurationError as error:
        raise BeaconError(BeaconOutcome.INVALID, str(error)) from None


def _shown(text: str) -> str:
    return repr(text[:40])
