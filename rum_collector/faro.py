"""Payloads of Grafana's Faro SDK, made into beacons; pure.

Several posts make one page view: each measurement names its navigation, and the first post that names one
counts the view. The page's address in a post is that of the moment of sending, not that of the measurement:
it is a hint for the route, as good as Faro gives one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from rolloutobs.identity import Track
from rum_collector.model import Batch, Beacon, Event, JsError
from rum_collector.otlp import cleaned_spans
from rum_collector.scrub import path_of
from rum_collector.values import (
    Measured,
    app_of,
    decode,
    event_of,
    js_error,
    known_track,
    number_of,
    route_of,
    version_of,
    vitals_of,
)
from rum_collector.words import Navigation, ValueRejection

__all__ = ["parse_faro"]

MAX_MEASUREMENTS: Final = 100
MAX_EXCEPTIONS: Final = 50
MAX_EVENTS: Final = 100
MAX_SPANS: Final = 500
_TRACK_NAMES: Final = ("rolloutobs.track", "rollout.track", "track")
_NAVIGATIONS: Final = {
    navigation.value: navigation for navigation in Navigation if navigation is not Navigation.OTHER
} | {
    "back-forward-cache": Navigation.BFCACHE,
    "back_forward": Navigation.BACK_FORWARD,
    "soft-navigation": Navigation.SOFT,
    "restore": Navigation.BFCACHE,
}
"""Words of web-vitals and of Faro. Source: web-vitals 6, ``Metric.navigationType``."""
# What Faro itself records; the others are the app's own.
_OWN_EVENTS: Final = ("faro.", "session_", "view_changed", "page_hidden", "service_name_override")


class _App(msgspec.Struct):
    name: str = ""
    version: str = ""
    release: str = ""


class _Page(msgspec.Struct):
    id: str = ""
    url: str = ""


class _Session(msgspec.Struct):
    id: str = ""
    attributes: dict[str, Any] = {}


class _Meta(msgspec.Struct):
    app: _App = msgspec.field(default_factory=_App)
    page: _Page = msgspec.field(default_factory=_Page)
    session: _Session = msgspec.field(default_factory=_Session)


class _Measurement(msgspec.Struct):
    type: str = ""
    values: dict[str, Any] = {}
    context: dict[str, Any] = {}


class _Frame(msgspec.Struct):
    filename: str = ""
    lineno: int = 0
    colno: int = 0


class _Stack(msgspec.Struct):
    frames: list[_Frame] = []


class _Exception(msgspec.Struct):
    type: str = "Error"
    value: str = ""
    stacktrace: _Stack | None = None


class _FaroEvent(msgspec.Struct):
    name: str = ""
    attributes: dict[str, Any] = {}
    trace: dict[str, Any] | None = None


class _Payload(msgspec.Struct):
    meta: _Meta
    measurements: list[_Measurement] = []
    exceptions: list[_Exception] = []
    events: list[_FaroEvent] = []
    traces: dict[str, Any] | None = None


_DECODER: Final = msgspec.json.Decoder(_Payload)


def parse_faro(body: bytes) -> Batch:
    """Return what a Faro payload holds: one beacon per navigation, and one for its errors and events.

    Raises:
        BeaconError: `body` is not JSON of that shape.
    """
    payload = decode(_DECODER, body)
    meta = payload.meta
    dropped = _dropped(payload)
    beacons = [
        _navigation(meta, entry, navigations, found)
        for entry, (navigations, found) in _by_navigation(payload.measurements[:MAX_MEASUREMENTS]).items()
    ]
    errors = tuple(map(_error, payload.exceptions[:MAX_EXCEPTIONS]))
    events = _events(payload.events[:MAX_EVENTS])
    if errors or events or dropped:
        session = meta.session.id
        beacons.append(
            Beacon(
                **_common(meta),
                errors=errors,
                first_error=bool(errors) and not session,
                error_key=f"faro {session} {path_of(meta.page.url)}" if session else "",
                events=events,
                rejected=dropped,
            )
        )
    spans = (payload.traces or {}).get("resourceSpans", ())
    # The track is known to the session, not to the resource of its spans.
    version, track = meta.app.version or meta.app.release, _track(meta.session.attributes)
    return Batch(tuple(beacons), cleaned_spans(spans, MAX_SPANS, version, track))


def _dropped(payload: _Payload) -> tuple[ValueRejection, ...]:
    bounded = (
        (payload.measurements, MAX_MEASUREMENTS),
        (payload.exceptions, MAX_EXCEPTIONS),
        (payload.events, MAX_EVENTS),
    )
    return (ValueRejection.TOO_MANY,) * sum(max(len(found) - most, 0) for found, most in bounded)


Value = tuple[str, float, str]
"""Name, milliseconds and id of a web vital."""


def _by_navigation(measurements: list[_Measurement]) -> dict[str, tuple[list[str], list[Value]]]:
    found: dict[str, tuple[list[str], list[Value]]] = {}
    for measurement in measurements:
        if measurement.type != "web-vitals":
            continue
        context = measurement.context
        entry = str(context.get("navigation_entry_id") or "")[:64]
        navigations, values = found.setdefault(entry, ([], []))
        navigations.append(str(context.get("navigation_type") or ""))
        named = [(n, v) for n, v in measurement.values.items() if n in _VITALS and isinstance(v, int | float)]
        # The first known name is the vital; the others are its parts.
        values += [(name, number_of(value), str(context.get("id") or "")[:64]) for name, value in named[:1]]
    return found


_VITALS: Final = frozenset({"lcp", "inp", "cls", "fcp", "ttfb"})


def _first(navigations: list[str]) -> Navigation:
    return next((_NAVIGATIONS[word] for word in navigations if word in _NAVIGATIONS), Navigation.OTHER)


def _common(meta: _Meta) -> dict[str, Any]:
    attributes = meta.session.attributes
    path = path_of(meta.page.url)
    return {
        "app": app_of(meta.app.name),
        "version": version_of(meta.app.version or meta.app.release),
        "track": _track(attributes),
        "route": route_of(meta.page.id or path),
        "synthetic": str(attributes.get("synthetic", "")) in ("true", "test", "1"),
    }


def _navigation(meta: _Meta, entry: str, navigations: list[str], values: list[Value]) -> Beacon:
    navigation = _first(navigations)
    vitals, rejected = vitals_of([Measured(name, value) for name, value, _ in values], navigation)
    ids = {name: identity for name, _, identity in reversed(values)}
    return Beacon(
        **_common(meta),
        navigation=navigation if entry else None,
        once=f"faro {meta.session.id} {entry}" if entry else "",
        vitals=tuple(vitals.items()),
        vital_ids=tuple(ids[vital.value] for vital in vitals),
        rejected=tuple(rejected),
    )


def _track(attributes: dict[str, Any]) -> Track:
    return known_track(next((str(attributes[name]) for name in _TRACK_NAMES if name in attributes), ""))


def _error(exception: _Exception) -> JsError:
    frames = exception.stacktrace.frames if exception.stacktrace else []
    place = ""
    if frames:
        file = path_of(frames[0].filename).rpartition("/")[2]
        place = f"{file}:{max(frames[0].lineno, 0)}:{max(frames[0].colno, 0)}"
    return js_error(exception.type, exception.value, place, 1)


def _events(events: list[_FaroEvent]) -> tuple[Event, ...]:
    named: dict[tuple[str, bool], None] = {}
    for event in events:
        name = event_of(event.name)
        if name and not name.startswith(_OWN_EVENTS):
            named[name, str(event.attributes.get("ok", "true")).lower() not in ("false", "0")] = None
    return tuple(Event(name, ok) for name, ok in named)
