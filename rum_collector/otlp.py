"""OTLP/HTTP from browsers, as its JSON: web vitals and errors become beacons, spans are cleaned; pure.

Events are log records with a name. Source: OpenTelemetry's browser semantic conventions, events
``browser.web_vital``, ``browser.navigation`` and ``exception``; values come as attributes or in the body.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from rolloutobs import semconv
from rum_collector.model import Batch, Beacon, JsError
from rum_collector.scrub import clean, path_of, place_of, without_queries
from rum_collector.values import (
    MAX_VERSION_CHARS,
    Measured,
    app_of,
    decode,
    js_error,
    known_track,
    number_of,
    route_of,
    version_of,
    vitals_of,
)
from rum_collector.words import Navigation, ValueRejection, Vital

__all__ = ["cleaned_spans", "parse_logs", "parse_metrics", "parse_traces"]

MAX_RECORDS: Final = 500
"""Log records, or spans, read from one body."""
_TRACK_NAMES: Final = ("rolloutobs.track", "rollout.track")
_NAVIGATIONS: Final = {
    "navigate": Navigation.NAVIGATE,
    "reload": Navigation.RELOAD,
    "back-forward": Navigation.BACK_FORWARD,
    "back_forward": Navigation.BACK_FORWARD,
    "back-forward-cache": Navigation.BFCACHE,
    "prerender": Navigation.PRERENDER,
    "soft-navigation": Navigation.SOFT,
    "restore": Navigation.RELOAD,
}
_DECODER: Final = msgspec.json.Decoder(dict[str, Any])
Attributes = dict[str, Any]


def parse_logs(body: bytes) -> Batch:
    """Return the web vitals and errors of ``ExportLogsServiceRequest`` in JSON; other records are left out.

    Raises:
        BeaconError: `body` is not a JSON object.
    """
    return logs_of(decode(_DECODER, body))


def parse_traces(body: bytes) -> Batch:
    """Return the spans of ``ExportTraceServiceRequest`` in JSON, and the page loads among them.

    Raises:
        BeaconError: `body` is not a JSON object.
    """
    return traces_of(decode(_DECODER, body))


def parse_metrics(body: bytes) -> Batch:
    """Return nothing: the SDK's default bounds put every layout shift into one bucket. Vitals come as logs.

    Raises:
        BeaconError: `body` is not a JSON object.
    """
    decode(_DECODER, body)
    return Batch()


def logs_of(request: dict[str, Any]) -> Batch:
    """Return what `parse_logs` does, from the decoded JSON."""
    beacons: list[Beacon] = []
    left = MAX_RECORDS
    for group in _dicts(request.get("resourceLogs")):
        resource = _attributes(_dict(group.get("resource")).get("attributes"))
        records = [
            record for scope in _dicts(group.get("scopeLogs")) for record in _dicts(scope.get("logRecords"))
        ]
        beacons += _beacons(resource, records[:left])
        if len(records) > left and beacons:
            beacons[-1] = msgspec.structs.replace(
                beacons[-1], rejected=(ValueRejection.TOO_MANY,) * min(len(records) - left, MAX_RECORDS)
            )
        left = max(left - len(records), 0)
    return Batch(tuple(beacons))


def _beacons(resource: Attributes, records: list[dict[str, Any]]) -> Iterator[Beacon]:
    read = [(str(record.get("eventName") or ""), _values(record)) for record in records]
    page = next((str(v["url.full"]) for _, v in read if "url.full" in v), "")
    common = _common(resource)
    session = str(
        resource.get("session.id") or next((v["session.id"] for _, v in read if "session.id" in v), "")
    )
    errors: list[JsError] = []
    for name, values in read:
        name = name or str(values.get("event.name") or "")
        if name == "browser.web_vital":
            yield _vital(common, values, str(values.get("url.full") or page))
        elif name == "browser.navigation" and values.get("browser.navigation.same_document") is True:
            if not values.get("browser.navigation.hash_change"):
                route = route_of(path_of(str(values.get("url.full") or page)))
                yield Beacon(**common, route=route, navigation=Navigation.SOFT)
        elif name == "exception" or "exception.type" in values or "exception.message" in values:
            errors.append(_error(values))
    if errors:
        route = path_of(page)
        key = f"otlp {session} {route}" if session else ""
        yield Beacon(
            **common, route=route_of(route), errors=tuple(errors), first_error=not session, error_key=key
        )


def _vital(common: dict[str, Any], values: Attributes, url: str) -> Beacon:
    def value(name: str) -> Any:
        # In the attributes, or as the page of the conventions still has it: in the body.
        return values.get(f"browser.web_vital.{name}", values.get(name))

    navigation = _NAVIGATIONS.get(str(value("navigation_type") or ""), Navigation.OTHER)
    raw = value("value")
    number = number_of(raw) if isinstance(raw, int | float) and not isinstance(raw, bool) else -1.0
    vitals, rejected = vitals_of([Measured(str(value("name") or ""), number)], navigation)
    identity = str(value("id") or "")[:64]
    # One per document: the vital that there is before any other counts the view.
    begins = Vital.TTFB in vitals and bool(identity)
    return Beacon(
        **common,
        route=route_of(path_of(url)),
        navigation=navigation if begins else None,
        once=f"otlp {identity}" if begins else "",
        vitals=tuple(vitals.items()),
        vital_ids=(identity,) if vitals else (),
        rejected=tuple(rejected),
    )


def _common(resource: Attributes) -> dict[str, Any]:
    return {
        "app": app_of(str(resource.get("service.name") or "")),
        "version": version_of(str(resource.get("service.version") or "")),
        "track": known_track(_track_of(resource)),
        "synthetic": resource.get("user_agent.synthetic.type") == "test",
    }


def _track_of(resource: Attributes) -> str:
    return next((str(resource[name]) for name in _TRACK_NAMES if name in resource), "")


def _error(values: Attributes) -> JsError:
    return js_error(
        str(values.get("exception.type") or "Error"),
        str(values.get("exception.message") or ""),
        place_of(str(values.get("exception.stacktrace") or "")),
        1,
    )


def traces_of(request: dict[str, Any]) -> Batch:
    """Return what `parse_traces` does, from the decoded JSON."""
    spans = cleaned_spans(request.get("resourceSpans"), MAX_RECORDS)
    beacons = []
    for group in spans:
        common = _common(_attributes(_dict(group.get("resource")).get("attributes")))
        for scope in group.get("scopeSpans", ()):
            loads = [span for span in scope.get("spans", ()) if span.get("name") == "documentLoad"]
            beacons += [_load(common, span) for span in loads]
    return Batch(tuple(beacons), spans)


def _load(common: dict[str, Any], span: dict[str, Any]) -> Beacon:
    start, end = (_integer(span.get(name)) for name in ("startTimeUnixNano", "endTimeUnixNano"))
    vitals, rejected = vitals_of([Measured("load", number_of(end - start) / 1e6)], None)
    url = str(_attributes(span.get("attributes")).get("url.full") or "")
    identity = f"{span.get('traceId')} {span.get('spanId')}"[:100]
    return Beacon(
        **common,
        route=route_of(path_of(url)),
        vitals=tuple(vitals.items()),
        vital_ids=(identity,) if vitals else (),
        rejected=tuple(rejected),
    )


def cleaned_spans(groups: Any, most: int, version: str = "", track: str = "") -> tuple[dict[str, Any], ...]:
    """Return the ``resourceSpans`` in `groups` without query strings, mails and tokens in any text.

    Each span says which version and track it is of, as those of the server do, where its resource says so.

    Args:
        groups: as decoded from JSON; what has another shape is left out.
        most: spans that are kept.
        version: where the resource names none; may be empty.
        track: the same.
    """
    found = []
    for group in _dicts(groups):
        said = _attributes(_dict(group.get("resource")).get("attributes"))
        stamp = {
            semconv.ATTR_VERSION: clean(str(said.get("service.version") or version), MAX_VERSION_CHARS),
            semconv.ATTR_TRACK: known_track(_track_of(said) or track).value,
        }
        scopes = []
        for scope in _dicts(group.get("scopeSpans")):
            spans = list(_dicts(scope.get("spans")))[:most]
            most -= len(spans)
            if spans:
                stamped = [_stamped(span, stamp) for span in _cleaned(spans)]
                scopes.append({"scope": _cleaned(scope.get("scope") or {}), "spans": stamped})
        if scopes:
            found.append({"resource": _cleaned(group.get("resource") or {}), "scopeSpans": scopes})
    return tuple(found)


def _stamped(span: dict[str, Any], stamp: dict[str, str]) -> dict[str, Any]:
    own = list(_dicts(span.get("attributes")))
    said = _attributes(own)
    further = [
        {"key": key, "value": {"stringValue": value}}
        for key, value in stamp.items()
        if value and key not in said
    ]
    return span | {"attributes": own + further} if further else span


_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId", "traceState", "key"})


def _cleaned(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return without_queries(value)
    # Deeper than attributes ever are: nobody gets to fill the stack.
    if depth > 16:
        return None
    if isinstance(value, dict):
        return {k: v if k in _IDS else _cleaned(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_cleaned(part, depth + 1) for part in value]
    return value


def _values(record: dict[str, Any]) -> Attributes:
    """Return what a log record says: its attributes, and the fields of its body."""
    body = _dict(record.get("body"))
    fields = _attributes(_dict(body.get("kvlistValue")).get("values"))
    return fields | _attributes(record.get("attributes"))


def _attributes(pairs: Any) -> Attributes:
    return {str(pair.get("key")): _plain(_dict(pair.get("value"))) for pair in _dicts(pairs)}


def _plain(value: dict[str, Any]) -> Any:
    """Return a value of OTLP's JSON; whole numbers come as numbers or, as the standard has it, as text."""
    if "intValue" in value:
        return _integer(value["intValue"])
    return next((value[kind] for kind in ("stringValue", "doubleValue", "boolValue") if kind in value), None)


def _integer(value: Any) -> int:
    if isinstance(value, str) and len(value) < 25 and value.removeprefix("-").isascii():
        return int(value) if value.removeprefix("-").isdigit() else 0
    return value if isinstance(value, int) else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dicts(values: Any) -> Iterable[dict[str, Any]]:
    return (value for value in values if isinstance(value, dict)) if isinstance(values, list | tuple) else ()
