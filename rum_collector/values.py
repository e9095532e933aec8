"""Single values that browsers send, checked, bounded and cleaned; pure. Every format goes through these.

Milliseconds become seconds here and nowhere else.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from rolloutobs.errors import BeaconError, ConfigurationError
from rolloutobs.identity import UNKNOWN_VERSION, Track
from rum_collector.model import JsError
from rum_collector.scrub import MAX_MESSAGE_CHARS, clean, scrub, template
from rum_collector.words import BeaconOutcome, Navigation, ValueRejection, Vital

__all__ = [
    "MAX_ERROR_COUNT",
    "MAX_EVENT_CHARS",
    "MAX_VALUE",
    "MAX_VERSION_CHARS",
    "VITAL_NAMES",
    "Measured",
    "Who",
    "app_of",
    "decode",
    "event_of",
    "in_range",
    "js_error",
    "known_track",
    "number_of",
    "route_of",
    "track_of",
    "version_of",
    "vitals_of",
    "who_of",
]

MAX_VERSION_CHARS: Final = 128
MAX_APP_CHARS: Final = 64
MAX_TRACK_CHARS: Final = 32
MAX_ROUTE_CHARS: Final = 120
MAX_EVENT_CHARS: Final = 64
MAX_ERROR_COUNT: Final = 10_000
"""Times one error may have been thrown in one beacon; a page that loops counts no further."""

VITAL_NAMES: Final = {vital.value: vital for vital in Vital} | {
    "page_load_time": Vital.LOAD,
    "page_load": Vital.LOAD,
    "largest_contentful_paint": Vital.LCP,
    "interaction_to_next_paint": Vital.INP,
    "cumulative_layout_shift": Vital.CLS,
    "first_contentful_paint": Vital.FCP,
    "time_to_first_byte": Vital.TTFB,
}
"""What a vital may be called, in lower case."""
# Ranges of Umami's collector (vitals 0 to 60 s, CLS 0 to 100); a page load may well take longer than a paint.
MAX_VALUE: Final = dict.fromkeys(Vital, 60.0) | {Vital.CLS: 100.0, Vital.LOAD: 600.0}
"""The largest value of each vital, in seconds (CLS: no unit)."""
_SCALES: Final = {
    spelled: (vital, 1.0 if vital is Vital.CLS else 1000.0, MAX_VALUE[vital])
    for name, vital in VITAL_NAMES.items()
    for spelled in (name, name.upper())
}
"""Of each name: the vital, how many of the unit it comes in make one of ours, and the largest value."""
# A member of an enum is looked up in 0.2 us, and a beacon has some that are not known.
_UNKNOWN_METRIC: Final = ValueRejection.UNKNOWN_METRIC
_NO_REQUEST: Final = frozenset({Navigation.BFCACHE, Navigation.SOFT})
_OF_REQUEST: Final = frozenset({Vital.TTFB, Vital.LOAD})
_TRACKS: Final = {track.value: track for track in Track}
_ERROR_TYPE: Final = re.compile(r"[A-Za-z_$][\w$]{0,39}", re.ASCII)
_LOCATION: Final = re.compile(r"[^/\s?#@]{0,40}:\d{1,7}:\d{1,7}", re.ASCII)

Wire = TypeVar("Wire")


def decode(decoder: msgspec.json.Decoder[Wire], body: bytes) -> Wire:
    """Return what `decoder` makes of `body`.

    Raises:
        BeaconError: it is empty, no JSON, or JSON of another shape.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BeaconError(BeaconOutcome.INVALID, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if not body.strip():
            raise BeaconError(BeaconOutcome.EMPTY, "the body is empty; post a JSON object") from None
        raise BeaconError(BeaconOutcome.NOT_JSON, f"the body is not JSON: {error}") from None


class Named(Protocol):
    """A value with a name, in milliseconds (CLS: no unit)."""

    @property
    def name(self) -> str:
        """What it is called, in any case."""

    @property
    def value(self) -> float:
        """The number."""


class Who(NamedTuple):
    """Who a body is about, as it is kept."""

    app: str
    version: str
    track: Track
    route: str


class Measured(NamedTuple):
    """A value with a name."""

    name: str
    value: float


def vitals_of(
    values: Iterable[Named], navigation: Navigation | None
) -> tuple[dict[Vital, float], list[ValueRejection]]:
    """Return seconds by vital (the first of a repeated one), and why the others were left out."""
    vitals: dict[Vital, float] = {}
    rejected: list[ValueRejection] = []
    without_request = navigation in _NO_REQUEST
    for measured in values:
        found = _SCALES.get(measured.name) or _SCALES.get(measured.name.lower())
        if found is None:
            rejected.append(_UNKNOWN_METRIC)
            continue
        vital, unit, top = found
        value = measured.value / unit
        if not 0.0 <= value <= top:
            rejected.append(ValueRejection.OUT_OF_RANGE)
        elif without_request and vital in _OF_REQUEST:
            # Its zeros would make a version look fast because its users went back and forth.
            rejected.append(ValueRejection.NO_REQUEST)
        elif vital not in vitals:
            vitals[vital] = value
    return vitals, rejected


def number_of(raw: float) -> float:
    """Return a number of JSON; a whole one that is too large for a float is infinite, and so out of range."""
    try:
        return float(raw)
    except OverflowError:
        return math.inf if raw > 0 else -math.inf


def in_range(vital: Vital, raw: float) -> float | None:
    """Return `raw` (milliseconds; CLS: no unit) in seconds, or ``None`` where it is not possible."""
    value = raw if vital is Vital.CLS else raw / 1000.0
    return value if 0.0 <= value <= MAX_VALUE[vital] else None


def js_error(name: str, message: str, place: str, count: int) -> JsError:
    """Return an error as it is counted: scrubbed, and named by what it is, not by where it was thrown.

    Args:
        name: its type.
        message: as it was thrown.
        place: ``file:line:column``; anything else is left out.
        count: times seen.
    """
    times = count if 0 < count <= MAX_ERROR_COUNT else min(max(count, 1), MAX_ERROR_COUNT)
    return _recognised(name[:41], message[: 8 * MAX_MESSAGE_CHARS], place[:MAX_MESSAGE_CHARS], times)


# The same few errors and routes come again and again: cleaning them takes longer than the rest of a beacon.
@lru_cache(maxsize=1024)
def _recognised(name: str, raw: str, place: str, times: int) -> JsError:
    if name == "more":
        return JsError("other", "further errors of the same view", "", times)
    kind = name if _ERROR_TYPE.fullmatch(name) else "Error"
    message = scrub(raw)
    # A short id, not a signature: collisions only merge two lines of a bounded table.
    digest = hashlib.sha256(f"{kind}\0{message}".encode("utf-8", "replace")).hexdigest()[:8]
    where = clean(place, MAX_MESSAGE_CHARS)
    found = where if _LOCATION.fullmatch(where) else ""
    return JsError(f"{kind}-{digest}", f"{kind}: {message}", found, times)


def who_of(app: str, version: str, track: str, route: str, track_field: str) -> Who:
    """Return who a body says that it is about; `track_field` names the field of the track.

    Raises:
        BeaconError: there is no such track.
    """
    return _who(
        app[:MAX_APP_CHARS],
        version[:MAX_VERSION_CHARS],
        track[: MAX_TRACK_CHARS + 1],
        route[: 4 * MAX_ROUTE_CHARS],
        track_field,
    )


# One look instead of one for each: nearly all bodies say what others have said.
@lru_cache(maxsize=1024)
def _who(app: str, version: str, track: str, route: str, track_field: str) -> Who:
    return Who(app_of(app), version_of(version), track_of(track, track_field), route_of(route))


def app_of(text: str) -> str:
    """Return the name of an app as it is kept."""
    return _clean(text[:MAX_APP_CHARS])


def version_of(text: str) -> str:
    """Return a version as it is kept; the word for a version that is not known where there is none."""
    return _clean(text[:MAX_VERSION_CHARS]) or UNKNOWN_VERSION


def event_of(text: str) -> str:
    """Return the name of an event as it is kept; empty: it has none."""
    return _clean(text[:MAX_EVENT_CHARS])


def route_of(text: str) -> str:
    """Return a path as the template that is kept: no query, what looks like an id as ``:id``."""
    return _route(text[: 4 * MAX_ROUTE_CHARS])


@lru_cache(maxsize=1024)
def _route(route: str) -> str:
    return clean(template(route), MAX_ROUTE_CHARS)


@lru_cache(maxsize=1024)
def _clean(text: str) -> str:
    return clean(text, len(text))


def track_of(word: str, source: str) -> Track:
    """Return the track called `word`; `source` names the field.

    Raises:
        BeaconError: there is no such track.
    """
    known = _TRACKS.get(word)
    if known is not None:
        return known
    try:
        return Track.parse(word[:MAX_TRACK_CHARS], source)
    except ConfigurationError as error:
        raise BeaconError(BeaconOutcome.INVALID, str(error)) from None


def known_track(word: str) -> Track:
    """Return the track called `word`; none where another agent says something else by that name."""
    return _TRACKS.get(word.strip().lower(), Track.NONE)
