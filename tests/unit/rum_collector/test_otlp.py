from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from rolloutobs.errors import BeaconError
from rolloutobs.identity import Track
from rum_collector.model import Batch
from rum_collector.otlp import parse_logs, parse_metrics, parse_traces
from rum_collector.otlp_protobuf import parse_protobuf_logs, parse_protobuf_metrics, parse_protobuf_traces
from rum_collector.words import Navigation, ValueRejection, Vital

FIXTURES = Path(__file__).parents[2] / "fixtures" / "rum"


def recorded(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FIXTURES / f"{name}.json").read_text())
    return content


def logs(number: int) -> bytes:
    return str(recorded(f"otlp-http-json-logs-browser-events-{number}")["body_text"]).encode()


def traces() -> bytes:
    return str(recorded("otlp-http-json-traces-docload-fetch-1")["body_text"]).encode()


def as_protobuf(message: Any, body: bytes) -> bytes:
    content = json.loads(body)
    for group in content.get("resourceSpans", ()):
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = b64encode(bytes.fromhex(span[name])).decode()
    return bytes(ParseDict(content, message, ignore_unknown_fields=True).SerializeToString())


def summary(batch: Batch) -> list[tuple[Any, ...]]:
    return [
        (
            beacon.route,
            beacon.new_view,
            {vital.value: round(value, 4) for vital, value in beacon.vitals},
            [(error.message, error.location) for error in beacon.errors],
        )
        for beacon in batch.beacons
    ]


FIRST = [
    ("/page/otel-events", Navigation.NAVIGATE, {"ttfb": 0.0258}, []),
    ("/page/otel-events", None, {"fcp": 0.364}, []),
    (
        "/page/otel-events",
        None,
        {},
        [
            ("TypeError: boom in checkout", "otel-events:7:23"),
            ("Error: rejected payment", "otel-events:8:32"),
        ],
    ),
]


def test_the_events_of_the_browser_sig_become_views_vitals_and_errors() -> None:
    batch = parse_logs(logs(1))
    assert summary(batch) == FIRST
    for beacon in batch.beacons:
        assert (beacon.app, beacon.version, beacon.track) == ("shop-frontend", "2.4.1", Track.CANARY)
    later = parse_logs(logs(2))
    assert [line[1:3] for line in summary(later)] == [(Navigation.SOFT, {}), (None, {"lcp": 0.364})]
    assert "secret" not in repr(later)
    assert [line[2] for line in summary(parse_logs(logs(3)))] == [{"inp": 0.8}, {"cls": 0.0358}]


def test_protobuf_says_the_same_as_json() -> None:
    assert summary(parse_protobuf_logs(as_protobuf(ExportLogsServiceRequest(), logs(1)))) == FIRST
    ours = parse_protobuf_traces(as_protobuf(ExportTraceServiceRequest(), traces()))
    expected = parse_traces(traces())
    assert summary(ours) == summary(expected)

    def spans(batch: Batch) -> list[tuple[Any, ...]]:
        return [
            (span["traceId"], span["spanId"], span.get("parentSpanId", ""), span["name"], span["kind"])
            for group in batch.traces
            for scope in group["scopeSpans"]
            for span in scope["spans"]
        ]

    assert spans(ours) == spans(expected)
    assert len(spans(ours)) == 5


def test_a_document_load_is_a_page_load_and_counts_no_view() -> None:
    (beacon,) = parse_traces(traces()).beacons
    assert dict(beacon.vitals) == {Vital.LOAD: pytest.approx(0.5727)}
    assert (beacon.route, beacon.new_view) == ("/page/otel", None)


def test_vitals_in_the_body_as_the_conventions_still_have_them() -> None:
    fields = {"name": {"stringValue": "LCP"}, "value": {"doubleValue": 1500.0}, "id": {"stringValue": "v4-1"}}
    values = [{"key": key, "value": value} for key, value in fields.items()]
    record = {"eventName": "browser.web_vital", "body": {"kvlistValue": {"values": values}}}
    request = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    (beacon,) = parse_logs(json.dumps(request).encode()).beacons
    assert dict(beacon.vitals) == {Vital.LCP: 1.5}


@pytest.mark.parametrize("digits", [30, 400])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_whole_number_that_is_too_large_is_out_of_range(sign: str, digits: int) -> None:
    number = int(sign + "9" * digits)
    values = [
        {"key": "browser.web_vital.name", "value": {"stringValue": "lcp"}},
        {"key": "browser.web_vital.value", "value": {"intValue": number}},
    ]
    record = {"eventName": "browser.web_vital", "attributes": values}
    span = {"name": "documentLoad", "startTimeUnixNano": 0, "endTimeUnixNano": number}
    logged = parse_logs(json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}).encode())
    traced = parse_traces(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode())
    for batch in (logged, traced):
        (found,) = batch.beacons
        assert (found.vitals, found.rejected) == ((), (ValueRejection.OUT_OF_RANGE,))


def test_metrics_are_read_and_left_out() -> None:
    assert parse_metrics(b'{"resourceMetrics": []}') == Batch()
    assert parse_protobuf_metrics(b"\n\x00") == Batch()
    for parse in (parse_protobuf_logs, parse_protobuf_traces, parse_protobuf_metrics):
        with pytest.raises(BeaconError, match="no OTLP"):
            parse(b"\xff\xff\xff")
        with pytest.raises(BeaconError, match="empty"):
            parse(b"")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["scopeLogs", "logRecords", "scopeSpans", "spans", "attributes", "key", "value", "body",
             "intValue", "kvlistValue", "values", "eventName", "resource", "name", "startTimeUnixNano"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["resourceLogs", "resourceSpans"]), json_values))
@settings(max_examples=80)
def test_any_json_gives_a_batch(request: dict[str, Any]) -> None:
    body = json.dumps(request).encode()
    for parse in (parse_logs, parse_traces, parse_metrics):
        assert isinstance(parse(body), Batch)


@given(st.binary(max_size=200))
@settings(max_examples=80)
def test_any_bytes_give_a_batch_or_a_beacon_error(body: bytes) -> None:
    for parse in (parse_protobuf_logs, parse_protobuf_traces):
        found: Batch | str
        try:
            found = parse(body)
        except BeaconError as error:
            found = error.reason
        assert isinstance(found, Batch) or found in ("invalid", "empty")
