from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rolloutobs.errors import BeaconError
from rolloutobs.identity import Track
from rum_collector.faro import parse_faro
from rum_collector.model import Batch
from rum_collector.words import Navigation, ValueRejection, Vital

FIXTURES = Path(__file__).parents[2] / "fixtures" / "rum"


def recorded(number: int) -> bytes:
    content = json.loads((FIXTURES / f"faro-2.12.1-{number}.json").read_text())
    return str(content["body_text"]).encode()


def test_the_first_post_of_a_page_counts_its_view() -> None:
    (beacon,) = parse_faro(recorded(1)).beacons
    assert (beacon.app, beacon.version, beacon.track, beacon.route) == (
        "shop-frontend",
        "2.4.1",
        Track.CANARY,
        "/page/faro",
    )
    assert beacon.new_view is Navigation.NAVIGATE
    assert beacon.once == "faro PcDC9ErFZN xP1WaQcBir"
    assert [vital for vital, _ in beacon.vitals] == [Vital.TTFB, Vital.FCP]
    assert dict(beacon.vitals)[Vital.TTFB] == pytest.approx(0.0343)
    assert len(beacon.vital_ids) == 2


def test_errors_with_their_place_and_nothing_of_resources() -> None:
    assert parse_faro(recorded(2)).beacons == ()
    (beacon,) = parse_faro(recorded(3)).beacons
    assert [(error.message, error.location, error.count) for error in beacon.errors] == [
        ("TypeError: boom in checkout", "faro:7:23", 1),
        ("Error: rejected payment", "faro:8:32", 1),
    ]
    assert beacon.new_view is None
    assert beacon.error_key == "faro PcDC9ErFZN /page/faro"


def test_late_vitals_belong_to_the_same_navigation_and_no_query_is_kept() -> None:
    for number, vitals in ((4, {Vital.LCP}), (5, {Vital.INP, Vital.CLS})):
        (beacon,) = parse_faro(recorded(number)).beacons
        assert {vital for vital, _ in beacon.vitals} == vitals
        assert beacon.once == "faro PcDC9ErFZN xP1WaQcBir"
        assert "secret" not in repr(beacon)


def test_what_the_app_pushes_is_an_event_and_what_faro_pushes_is_not() -> None:
    events = [{"name": "checkout"}, {"name": "checkout", "attributes": {"ok": "false"}}, {"name": "checkout"}]
    own = [{"name": "session_start"}, {"name": "faro.performance.resource"}]
    (beacon,) = parse_faro(json.dumps({"meta": {}, "events": events + own}).encode()).beacons
    assert [(event.name, event.ok) for event in beacon.events] == [("checkout", True), ("checkout", False)]


def test_too_many_are_counted() -> None:
    exceptions = [{"type": "Error", "value": f"e{i}"} for i in range(60)]
    (beacon,) = parse_faro(json.dumps({"meta": {}, "exceptions": exceptions}).encode()).beacons
    assert len(beacon.errors) == 50
    assert beacon.rejected == (ValueRejection.TOO_MANY,) * 10


def test_a_whole_number_that_is_too_large_is_out_of_range() -> None:
    measurement = {"type": "web-vitals", "values": {"lcp": 10**400}}
    (beacon,) = parse_faro(json.dumps({"meta": {}, "measurements": [measurement]}).encode()).beacons
    assert (beacon.vitals, beacon.rejected) == ((), (ValueRejection.OUT_OF_RANGE,))


def test_traces_are_passed_on_without_queries() -> None:
    span = {"traceId": "a" * 32, "spanId": "b" * 16, "name": "GET", "attributes": [
        {"key": "url.full", "value": {"stringValue": "https://x/y?token=secret#frag"}},
        {"key": "enduser", "value": {"stringValue": "ann@example.com"}},
    ]}  # fmt: skip
    payload = {"meta": {}, "traces": {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}}
    (group,) = parse_faro(json.dumps(payload).encode()).traces
    (sent,) = group["scopeSpans"][0]["spans"]
    assert sent["traceId"] == "a" * 32
    assert [pair["value"]["stringValue"] for pair in sent["attributes"]] == ["https://x/y", "#"]


def test_spans_say_which_version_and_track_they_are_of() -> None:
    own = {"key": "app.version", "value": {"stringValue": "2"}}
    spans = [{"name": "GET"}, {"name": "POST", "attributes": [own]}, {"name": "odd", "attributes": 1}]
    meta = {"app": {"version": "1"}, "session": {"attributes": {"track": "canary"}}}
    payload = {"meta": meta, "traces": {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}}
    (group,) = parse_faro(json.dumps(payload).encode()).traces
    said = [
        {pair["key"]: pair["value"]["stringValue"] for pair in span["attributes"]}
        for span in group["scopeSpans"][0]["spans"]
    ]
    canary = {"app.version": "1", "rolloutobs.track": "canary"}
    assert said == [canary, canary | {"app.version": "2"}, canary]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(["meta", "measurements", "exceptions", "events", "traces"]), json_values, max_size=5
    )
)
@settings(max_examples=80)
def test_any_json_gives_a_batch_or_a_beacon_error(payload: dict[str, Any]) -> None:
    found: Batch | str
    try:
        found = parse_faro(json.dumps(payload).encode())
    except BeaconError as error:
        found = error.reason
    assert isinstance(found, Batch) or found in ("invalid", "not_json")
